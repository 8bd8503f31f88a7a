"""What people do with a hit: search by pictures, clips and hits, save the hits, cut one out."""

import base64
import copy
import csv
import gc
import io
import pickle
import re
from dataclasses import astuple, replace
from pathlib import Path

import av
import indexes
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from test_index import QUERY, SECONDS
from videos import write_video

import vclip
from vclip.data.captions import read_captions
from vclip.data.extraction import encode_file, encode_picture
from vclip.data.video import read_seconds
from vclip.search.hits import Hit, Hits
from vclip.search.index import MomentIndex
from vclip.search.playback import pictures
from vclip.search.vectors import SENTENCES

MOMENTS = [  # video, second, and the seconds around it that look the same
    ("sam2-coffee.mp4", 5, (3, 10)),
    ("rabbit320.mp4", 3, (2, 6)),
    ("gnome-launching-applications.webm", 20, (17, 24)),
    ("googlework_short.mp4", 12, (11, 17)),
]
RIGHT = {  # most were looked at while the model was made: a test that it works, not a score
    "a cup of coffee": "sam2-coffee.mp4",
    "a steaming mug": "sam2-coffee.mp4",
    "a rabbit": "rabbit320.mp4",
    "grass": "rabbit320.mp4",
    "a city": "googlework_short.mp4",
    "a desktop computer": "gnome-launching-applications.webm",
    "a screen": "gnome-launching-applications.webm",
}


@pytest.fixture(scope="module")
def real(shared, tmp_path_factory):
    """Real videos and an offline model that sees what is in them."""
    return vclip.load("offline").index([shared / "videos"], path=tmp_path_factory.mktemp("real") / "index")


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = indexes.folder(tmp_path_factory.mktemp("made") / "videos", SECONDS)
    said = "WEBVTT\n\n00:01.000 --> 00:12.000\nw1 w2\n\n00:12.000 --> 00:50.000\nw5 w3\n"
    (folder / "video 3.vtt").write_text(said)
    return MomentIndex.build(indexes.clip(), folder)


def test_the_right_one_of_four_real_videos_comes_first_for_most_sentences(real):
    first = {text: real.search(text, k=1)[0].video for text in RIGHT}
    assert len(real) == 4 and sum(first[text] == RIGHT[text] for text in RIGHT) >= 6, first


@pytest.mark.parametrize("video, second, same", MOMENTS)
def test_a_picture_and_a_clip_find_where_they_are_from(real, shared, tmp_path, video, second, same):
    file = shared / "videos" / video
    (picture,) = pictures(file, [second + 0.45], 1000)  # what fills the slot of this second at 1 fps
    Image.fromarray(picture).save(tmp_path / "a.png")
    hits = real.search(picture, k=3)
    for query in (picture, (file, second, second + 2), (str(file), second + 0.5, second + 1.2)):
        hit = real.search(query, k=1)[0]
        assert hit.video == video and same[0] <= hit.start <= second + 1 and hit.end <= same[1]
    for query in (tmp_path / "a.png", Image.open(tmp_path / "a.png")):
        assert real.search(query, k=3) == hits
    assert real.search(file, k=1)[0].video == video
    curve = real.explain(hits[0]).scores
    assert len(curve) == real.corpus.seconds[real.videos.index(video)] and same[0] <= curve.argmax() < same[1]


def test_a_picture_is_a_second_of_a_video_that_shows_it(tmp_path):
    rng = np.random.default_rng(0)
    for size, rotation in (((37, 61), 0), ((61, 37), 0), ((24, 32), 90), ((16, 16), 180)):
        picture = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        file, encoder = tmp_path / f"{size} {rotation}.mov", indexes.Quadrants(fps=2)
        turned = np.ascontiguousarray(np.rot90(picture, rotation // 90))
        write_video(file, [0, 500], [picture, picture], rotation=(rotation, False, False))
        expected, error = encode_file(file, encoder)
        assert not error and len(expected) == 1
        image = Image.fromarray(picture)
        exif = image.getexif()
        exif[0x0112] = {0: 1, 90: 8, 180: 3}[rotation]  # how a camera says that it was held on its side
        image.save(tmp_path / "a.png", exif=exif)
        for given in (turned, Image.fromarray(turned), tmp_path / "a.png", Image.fromarray(turned).convert("RGBA")):
            # a video is turned after it was resized
            np.testing.assert_allclose(encode_picture(given, encoder), expected, atol=0.02 if rotation else 0)


def test_more_like_a_hit_is_not_the_hit(real):
    hit = real.search("launching applications", k=1, videos="gnome*")[0]
    more = real.search(hit, k=20)
    assert len(more) > 5 and [other.rank for other in more] == list(range(1, len(more) + 1))
    assert not any(other.video == hit.video and other.start < hit.end and hit.start < other.end for other in more)
    assert more[0].video == hit.video and more[0].score < 1 - 1e-3
    assert real.search(hit, videos="rabbit*")[0].video == "rabbit320.mp4"


def test_a_word_is_never_a_file(index, tmp_path, monkeypatch):
    monkeypatch.chdir(index.file("video 0.mov").parent)
    assert index.search("video 0.mov w3")[0].query == "video 0.mov w3"  # it exists
    with pytest.raises(ValueError, match="knows no word of 'video 0.mov'"):
        index.search("video 0.mov")


def test_the_score_of_a_clip_is_its_mean_second_by_each_window(index):
    query, clip = index.file("video 2.mov"), index.clip
    for given, span in (((query, 4, 9), slice(4, 9)), (query, slice(None)), ((query, 30.5, 400), slice(30, None))):
        features = index.corpus.features(2)[span]
        z = sum(clip.encode_seconds([features])[0]) / len(features)
        best = max(float(clip.encode_clips([rows[a : a + 32]])[0] @ z) for rows, a in windows(index))
        assert index.search(given, k=1)[0].score == pytest.approx(best, abs=1e-4)
        assert index.search(given, k=1)[0].query == given


def windows(index):
    for i, n in enumerate(SECONDS):
        yield from ((index.corpus.features(i), a) for a in range(0, max(1, n - 16), 16))


def test_what_is_no_picture_and_no_clip_is_refused(index, tmp_path):
    (tmp_path / "a.txt").write_text("no picture")
    with pytest.raises(OSError, match="cannot identify image file"):
        index.search(tmp_path / "a.txt")
    with pytest.raises(FileNotFoundError):
        index.search(tmp_path / "gone.png")
    with pytest.raises(ValueError, match="gone.mp4': no such file"):
        index.search(tmp_path / "gone.mp4")
    with pytest.raises(ValueError, match="video 0.mov: it ends before second 3"):
        index.search((index.file("video 0.mov"), 3, 5))
    with pytest.raises(TypeError, match="f4"):
        index.search(np.zeros((8, 8, 3), np.float32))
    with pytest.raises(TypeError, match="a picture is a Path, .* not 3"):
        index.search(3)


def test_said_and_both_are_the_loop(index):
    usual = index.clip.encode_texts(SENTENCES)
    hits, z = index.search(QUERY, 100), index.clip.encode_texts([QUERY])[0]
    assert {hit.video for hit in hits if hit.text} == {"video 3.mov"} and sum(not hit.text for hit in hits) > 3
    for hit in hits:
        rows = index.corpus.features(index.videos.index(hit.video))
        spans = [rows[a : a + 32] for a in range(0, max(1, len(rows) - 16), 16)]
        (z_v,) = (z_v for z_v in index.clip.encode_clips(spans) if abs(z_v @ z - hit.score) < 1e-4)
        both = (z_v @ z - np.mean([z_v @ s for s in usual])) / np.std([z_v @ s for s in usual])
        if hit.text:
            z_t = index.clip.encode_texts([hit.text])[0]
            assert hit.said == pytest.approx(z_t @ z, abs=1e-4)
            both += (z_t @ z - np.mean([z_t @ s for s in usual])) / np.std([z_t @ s for s in usual])
        else:
            assert np.isnan(hit.said)
        assert hit.both == pytest.approx(both, abs=1e-3)


def test_a_clip_that_ends_before_it_starts_is_refused(real, shared):
    file = shared / "videos" / "rabbit320.mp4"
    for start, end in ((5, 3), (-1, 3)):
        with pytest.raises(ValueError, match=f"{start} to {end} s is no clip"):
            real.search((file, start, end))


def test_what_is_said_decides_between_what_is_seen(real):
    """Of real captions the one that says it; without captions what is seen alone counts."""
    hits = real.search("type the name of an application", k=100)
    first = max(hits, key=lambda hit: hit.both)
    said = sorted(hit.said for hit in hits if hit.text)
    assert "Start typing the name of the application" in first.text and first.said >= said[-3]
    assert np.isnan([hit.said for hit in hits if not hit.video.startswith("gnome")]).all()


HITS = Hits(
    [
        Hit("b/=cmd.mov", 3725.28, 3727.0, 1.5, 1, -0.5, 1.0, "=1+1", "-2 eggs, <i>", 0.5, 1.5, ),
        Hit("-a.mov", 0.0, 0.04, 1.25, 2, 0.25, 0.5, "=1+1", "", float("nan"), 0.5),
        Hit("@a\n\n00:00:00,000 --> 00:00:09,000\n.mov", 61.0, 61.01, 1.0, 3, 0.0, 0.5, "=1+1", "+1", 0.0, 0.0),
        Hit("-a.mov", 10.5, 12.96, 0.5, 4, 0.0, 0.5, "=1+1", "fry, \"it\"", 0.0, 0.0),
    ]
)  # fmt: skip


def test_a_table_is_read_back_and_computes_nothing(tmp_path):
    HITS.save(tmp_path / "hits.csv")
    with (tmp_path / "hits.csv").open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    assert head == [*Hit.__dataclass_fields__] and len(rows) == 4
    for row, hit in zip(rows, HITS, strict=True):
        for name, cell, value in zip(head, row, astuple(hit), strict=True):
            if isinstance(value, str):
                shown = value.replace("\n", "\\n")
                assert cell == (f"'{shown}" if value[:1] in list("=+-@") else shown), name
            else:
                assert float(cell or "nan") == pytest.approx(value, nan_ok=True)
    read = pd.read_csv(tmp_path / "hits.csv")
    assert read["margin"].tolist() == [-0.5, 0.25, 0.0, 0.0] and read["said"].isna().sum() == 1
    Hits([replace(HITS[0], query=Path("=1.png"))]).save(tmp_path / "one.csv")
    assert pd.read_csv(tmp_path / "one.csv")["query"].tolist() == ["'=1.png"]
    Hits().save(tmp_path / "none.csv")
    assert list(pd.read_csv(tmp_path / "none.csv").columns) == head


def test_subtitles_are_read_back(tmp_path):
    HITS.save(tmp_path / "hits.srt")
    cues = read_captions(tmp_path / "hits.srt")
    expected = sorted(HITS, key=lambda hit: (hit.video, hit.start))
    np.testing.assert_allclose(cues.start, [hit.start for hit in expected], atol=5e-4)
    np.testing.assert_allclose(cues.end, [hit.end for hit in expected], atol=5e-4)
    assert cues.text[:2] == ["-a.mov (1.250)", "-a.mov (0.500)"] and cues.text[3] == "b/=cmd.mov (1.500)"
    assert cues.text[2] == "@a\\n\\n00:00:00,000 -> 00:00:09,000\\n.mov (1.000)"


@pytest.mark.parametrize("fps", [25, 24, 30, 29.97, 60])
def test_an_edit_list_has_an_event_for_each_hit(tmp_path, fps):
    HITS.save(tmp_path / "best of.edl", fps)
    lines = (tmp_path / "best of.edl").read_text().splitlines()
    assert lines[:2] == ["TITLE: best of", "FCM: NON-DROP FRAME"] and len(lines) == 2 + 2 * 4
    at = 0
    for n, (hit, event, name) in enumerate(zip(HITS, lines[2::2], lines[3::2], strict=True), 1):
        number, reel, track, cut, *times = event.split()
        assert (number, reel, track, cut) == (f"{n:03d}", "AX", "V", "C") and len(times) == 4
        clocks = [re.fullmatch(r"(\d\d):([0-5]\d):([0-5]\d):(\d\d)", time).groups() for time in times]
        assert all(int(clock[3]) < round(fps) for clock in clocks)
        first, last, begin, end = (
            (int(h) * 3600 + int(m) * 60 + int(s)) * round(fps) + int(f) for h, m, s, f in clocks
        )
        assert abs(first / fps - hit.start) <= 0.5 / fps + 1e-9
        assert begin == at and end - begin == last - first >= 1
        assert last - first == 1 or abs(last / fps - hit.end) <= 0.5 / fps + 1e-9
        assert name == "* FROM CLIP NAME: " + hit.video.replace("\n", "\\n")
        at = end


def test_other_files_are_refused_and_a_list_it_stays(index, tmp_path):
    hits = index.search(QUERY)
    assert isinstance(hits, list) and isinstance(hits, Hits) and index.search(QUERY, 3) == hits[:3]
    with pytest.raises(ValueError, match=r"hits.xlsx: hits are saved as .csv, .srt or .edl"):
        hits.save(tmp_path / "hits.xlsx")
    assert not [*tmp_path.iterdir()]
    shown = HITS._repr_html_()
    assert shown.count("<tr") == 5 and "<i>" not in shown and "-2 eggs, &lt;i&gt;" in shown and "\\n\\n00" in shown
    assert "<img" not in shown, "no index, no picture"


def pictures_of(shown: str) -> list[bytes]:
    return [
        base64.b64decode(found) for found in re.findall(r'<img src="data:image/jpeg;base64,([^"]+)" alt="">', shown)
    ]


def test_hits_are_shown_with_pictures(real, shared):
    hits = real.search("a cup of coffee", k=12)
    shown = hits._repr_html_()
    assert len(hits) == 12 and shown.count("<tr") == 11 and len(shown) < 150_000
    images = pictures_of(shown)
    assert len(images) == 10 and max(map(len, images)) < 11_000
    for hit, image in zip(hits[:10], images, strict=True):
        opened = Image.open(io.BytesIO(image))
        (expected,) = pictures(shared / "videos" / hit.video, [(hit.start + hit.end) / 2], 128)
        assert np.abs(np.asarray(opened, int) - expected).mean() < 6


def test_noise_makes_no_large_table(tmp_path):
    noise = list(np.random.default_rng(0).integers(0, 256, (10, 200, 200, 3), dtype=np.uint8))
    for i in range(10):
        write_video(tmp_path / f"{i}.mov", range(0, 1000, 500), noise[i : i + 1] * 2)
    index = MomentIndex.build(indexes.clip(), tmp_path)
    shown = index.search("w1", k=10)._repr_html_()
    assert len(pictures_of(shown)) == 10 and len(shown) < 200_000
    (tmp_path / "3.mov").unlink()
    assert len(pictures_of(index.search("w1", k=10)._repr_html_())) == 9


def test_hits_know_their_index_weakly(tmp_path):
    for i in range(3):
        indexes.write(tmp_path / f"{i}.mov", 5, i)
    index = MomentIndex.build(indexes.clip(), tmp_path)
    hits = index.search(QUERY, 3)
    assert hits.index() is index and len(pictures_of(hits._repr_html_())) == 3
    for same in (copy.copy(hits), copy.deepcopy(hits), pickle.loads(pickle.dumps(hits))):
        assert type(same) is Hits and same == hits and same.to_frame().equals(hits.to_frame())
        assert not pictures_of(same._repr_html_())
        with pytest.raises(ValueError, match="know no index: keep it in a variable"):
            same.play()
    assert len(pickle.dumps(hits)) < 3000, "no index, no model"
    del index
    gc.collect()
    assert hits.index() is None and not pictures_of(hits._repr_html_())
    with pytest.raises(ValueError, match="know no index"):
        hits.play()


def test_a_hit_is_played_in_a_notebook(real):
    hits = real.search("a cup of coffee", k=2)
    shown = hits.play(1)._repr_html_()
    (data,) = re.findall(r'src="data:video/webm;base64,([^"]+)"', shown)
    with av.open(io.BytesIO(base64.b64decode(data))) as container:
        assert container.duration / av.time_base == pytest.approx(hits[1].end - hits[1].start, abs=0.1)


def test_a_frame_has_a_row_for_each_hit(real, shared):
    hits = real.search(next(pictures(shared / "videos" / "rabbit320.mp4", [2], 100)), k=5)
    frame = hits.to_frame()
    assert frame["video"].tolist() == [hit.video for hit in hits] and frame["score"].tolist() == [h.score for h in hits]
    more = real.search(hits[0], k=2).to_frame()
    assert more["query"].tolist() == [f"{hits[0].video}, {hits[0].start:g} to {hits[0].end:g} s"] * 2
    assert Hits().to_frame().columns.tolist() == [*Hit.__dataclass_fields__]


def test_a_hit_is_cut_out(real, tmp_path):
    hit = real.search("a cup of coffee", k=1)[0]
    with pytest.raises(ValueError, match=r"coffee\.mp4: a clip is a WebM file"):
        real.cut(hit, tmp_path / "coffee.mp4")
    real.cut(hit, tmp_path / "coffee.webm")
    with av.open(tmp_path / "coffee.webm") as container:
        assert container.format.name == "matroska,webm"
        assert container.duration / av.time_base == pytest.approx(hit.end - hit.start, abs=0.1)
    (first,) = pictures(tmp_path / "coffee.webm", [0], 64)
    (there,) = pictures(real.file(hit.video), [hit.start], 64)
    assert np.abs(first.astype(int) - there).mean() < 12
    assert [file.name for file in tmp_path.iterdir()] == ["coffee.webm"]


def test_a_part_of_a_video_is_read_as_in_the_whole(shared):
    for name in ("rabbit320.mp4", "sam2-coffee.mp4", "gnome-launching-applications.webm"):
        whole = list(read_seconds(shared / "videos" / name, 3, 32))
        for begin in (1, len(whole) // 2, len(whole) - 1):
            part = list(read_seconds(shared / "videos" / name, 3, 32, begin))
            assert len(part) == len(whole) - begin
            np.testing.assert_array_equal(part, whole[begin:])
        assert not list(read_seconds(shared / "videos" / name, 3, 32, len(whole)))
