import json
import os
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import indexes
import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoProcessor
from videos import write_video

from vclip.datasets.minihowto import minihowto
from vclip.encoders.projection import Projection
from vclip.models.embedding import embed_texts, embed_videos
from vclip.models.windows import embed_seconds, sliding_windows
from vclip.search import windows
from vclip.search.background import SENTENCES
from vclip.search.identity import embed_each_second
from vclip.search.index import MomentIndex
from vclip.search.windows import standing_out

from corpora import TOWER

SECONDS = (3, 20, 33, 50, 70, 1)
QUERY = "w3 w17 w5"


@pytest.fixture(scope="module")
def model():
    return indexes.model()


@pytest.fixture(scope="module")
def processor():
    return indexes.processor()


@pytest.fixture(scope="module")
def made(model, processor, tmp_path_factory) -> Path:
    """A folder that is indexed; tests that change it copy it."""
    folder = indexes.folder(tmp_path_factory.mktemp("made") / "videos", SECONDS)
    (folder / "video 3.vtt").write_text(
        "WEBVTT\n\n00:01.000 --> 00:12.000\nfirst\n\n00:12.000 --> 00:50.000\n<b>then</b>\n"
    )
    MomentIndex.build(model, processor, folder, indexes.Quadrants())
    return folder


@pytest.fixture
def folder(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "videos")


def every_moment(index, text) -> list[tuple]:
    """Video, start, end, score, margin and percentile by loops over every window, as the docstrings say it."""
    z_t = embed_texts(index.model, index.processor, [text])[0]
    windows, best = [], {}
    for video in index.videos:
        features = index._store.features(index._entry(video))
        curve = embed_seconds(index.model, [features.astype(np.float32)])[0] @ z_t
        for start, end in sliding_windows(len(features)):
            score = float(embed_videos(index.model, [features[start:end]])[0] @ z_t)
            first, last = standing_out(curve[start:end])
            windows.append((score, video, start + first, start + last))
            best[video] = max(score, best.get(video, -np.inf))
    background = []
    for z in embed_texts(index.model, index.processor, SENTENCES):
        background.append(max(float((index._store.z_v(e) @ z).max()) for e in index._store.entries))
    kept: list[tuple] = []
    for score, video, start, end in sorted(windows, reverse=True):
        if any(v == video and start < b and a < end for v, a, b, *_ in kept):
            continue
        margin = score - max((b for v, b in best.items() if v != video), default=np.nan)
        kept.append((video, start, end, score, margin, np.mean([b < score for b in background])))
    return kept


def same(hits, others) -> bool:
    """Equal but for what the order of a sum makes of a score."""
    scores, expected = ([(h.score, h.margin) for h in some] for some in (hits, others))
    return [(h.video, h.start, h.end) for h in hits] == [(h.video, h.start, h.end) for h in others] and np.allclose(
        scores, expected, atol=1e-5
    )


def test_search_is_the_loop_over_every_window(model, processor, made):
    index = MomentIndex.open(made / ".vclip", model, processor, indexes.Quadrants())
    assert index.seconds == list(SECONDS) and index.videos[3] == "video 3.mov" and index.folder == made
    for text in (QUERY, "w9"):
        expected, hits = every_moment(index, text), index.search(text, 100)
        assert len(hits) == len(expected) > 6 and [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
        for hit, (video, start, end, score, margin, percentile) in zip(hits, expected, strict=True):
            end = 0.04 if video == "video 5.mov" else end  # one picture, and no longer
            assert (hit.video, hit.start, hit.end, hit.query) == (video, start, end, text)
            assert hit.end - hit.start >= min(2, end)
            assert (hit.score, hit.margin) == (pytest.approx(score, abs=1e-4), pytest.approx(margin, abs=1e-4))
            assert hit.percentile == pytest.approx(percentile, abs=1 / 256)
        assert index.search(text, 3) == hits[:3]
        assert hits[0].margin > 0 and all(hit.margin < 0 for hit in hits if hit.video != hits[0].video)


def test_explain_is_the_curve_of_the_whole_video(model, processor, made):
    index = MomentIndex.open(made / ".vclip", model, processor, indexes.Quadrants())
    z_t = embed_texts(model, processor, [QUERY])[0]
    hits = index.search(QUERY, 100)
    assert {hit.video for hit in hits} == {*index.videos}
    for hit in hits:
        features = index._store.features(index._entry(hit.video)).astype(np.float32)
        seconds, scores = index.explain(hit)
        assert seconds.tolist() == list(range(SECONDS[int(hit.video[6])]))
        np.testing.assert_allclose(scores, embed_seconds(model, [features])[0] @ z_t, atol=1e-5)
        # a hit is what stands out of this curve, in some window of its video
        spans = [(a, *standing_out(scores[a:b])) for a, b in sliding_windows(len(features))]
        ends = [(a + first, a + last) for a, first, last in spans]
        assert (int(hit.start), int(np.ceil(hit.end))) in ends


def test_hits_say_what_is_said(model, processor, made):
    index = MomentIndex.open(made / ".vclip", model, processor, indexes.Quadrants())
    for hit in index.search(QUERY, 100):
        said = [("first", 1, 12), ("then", 12, 50)] if hit.video == "video 3.mov" else []
        assert hit.text == " ".join(text for text, start, end in said if start < hit.end and end > hit.start)


def test_captions_are_read_if_wanted_and_their_damage_is_said_once(model, processor, folder, recwarn):
    index = MomentIndex.build(model, processor, folder, indexes.Quadrants())
    (folder / "video 3.vtt").write_bytes(b"\xff\xfe broken")
    assert not any(hit.text for hit in index.search(QUERY, 100, captions=False)) and not recwarn.list
    assert not any(hit.text for _ in range(2) for hit in index.search(QUERY, 100))
    assert ["video 3.vtt" in str(warning.message) for warning in recwarn.list] == [True]
    (folder / "video 3.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:50.000\nmended\n")
    assert "mended" in {hit.text for hit in index.search(QUERY, 100)} and len(recwarn.list) == 1


def test_filters_keep_margin_and_percentile(model, processor, made):
    index = MomentIndex.open(made / ".vclip", model, processor, indexes.Quadrants())
    everything = index.search(QUERY, 100)
    for videos, keep in (("*[34].mov", "34"), (lambda video: video[6] in "05", "05"), ("nothing", "")):
        found, expected = index.search(QUERY, 100, videos), [hit for hit in everything if hit.video[6] in keep]
        assert [(h.video, h.start, h.end, h.percentile) for h in found] == [
            (h.video, h.start, h.end, h.percentile) for h in expected
        ]
        np.testing.assert_allclose([h.margin for h in found], [h.margin for h in expected], atol=1e-5)


def test_one_video_has_nothing_to_be_compared_with(model, processor, tmp_path):
    indexes.folder(tmp_path, (5,))
    index = MomentIndex.build(model, processor, tmp_path, indexes.Quadrants())
    (hit, *others) = index.search(QUERY)
    assert not others and np.isnan(hit.margin) and 0 <= hit.percentile <= 1


@pytest.mark.parametrize("text, k", [("", 5), (" \n", 5), ("w1", 0)])
def test_a_search_for_nothing_is_refused(model, processor, made, text, k):
    with pytest.raises(ValueError, match="text with words"):
        MomentIndex.open(made / ".vclip", model, processor, indexes.Quadrants()).search(text, k)


def test_files_that_change_between_build_and_search(model, processor, folder):
    encoder = indexes.Quadrants()
    index = MomentIndex.open(folder / ".vclip", model, processor, encoder)
    index.update()  # copied files have another time and the same bytes
    assert encoder.calls == 0 and index.report == []
    before = index.search(QUERY, 100)
    (folder / "video 3.mov").unlink()
    (folder / "video 0.mov").rename(folder / "new name.mov")
    (folder / "video 2.mov").write_bytes((folder / "video 2.mov").read_bytes()[:4000])
    (folder / "video 4.mov").write_bytes(b"\0" * 5000)
    with pytest.warns(UserWarning) as caught:
        hits = index.search(QUERY, 100)
    assert [str(warning.message).split("; ")[0] for warning in caught] == [
        "gone since the last update, so left out: 'video 0.mov', 'video 3.mov'",
        "changed since the last update: 'video 2.mov', 'video 4.mov'",
    ]
    assert {h.video for h in hits} == {f"video {i}.mov" for i in (1, 2, 4, 5)}
    assert len(index.explain(next(h for h in before if h.video == "video 3.mov")).scores) == 50
    with pytest.raises(FileNotFoundError, match="'video 3.mov' is no longer in"):
        index.file("video 3.mov")
    report = {row.video: (row.change, row.status) for row in index.update()}
    assert report == {
        "video 3.mov": ("dropped", "ok"),
        "new name.mov": ("moved", "ok"),
        "video 2.mov": ("changed", report["video 2.mov"][1]),
        "video 4.mov": ("changed", "failed"),
    }
    assert report["video 2.mov"][1] in ("damaged", "failed") and "no video" in str(index.report)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hits = index.search(QUERY, 100)
    assert {"new name.mov", "video 1.mov"} <= {h.video for h in hits} <= {*index.videos}
    assert "video 4.mov" not in index.videos and index.file("new name.mov").is_file()
    with pytest.raises(KeyError, match="search again"):
        index.explain(before[[h.video for h in before].index("video 3.mov")])
    shutil.rmtree(folder / ".vclip")
    anew = MomentIndex.build(model, processor, folder, indexes.Quadrants()).search(QUERY, 100)
    assert same(anew, hits)


def test_a_thousand_files_of_which_three_change_and_two_go(model, processor, tmp_path, monkeypatch):
    first = indexes.write(tmp_path / "videos/0000.mov", 2, 0).read_bytes()
    for i in range(1, 1000):  # a byte behind the pictures tells them apart
        (tmp_path / f"videos/{i:04d}.mov").write_bytes(first + b"\0\0\0\x0cfree" + i.to_bytes(4, "big"))
    encoder = indexes.Quadrants()
    index = MomentIndex.build(model, processor, tmp_path / "videos", encoder, tmp_path / "index")
    assert encoder.calls == len(index) == 1000 and len(index.search(QUERY, 50)) == 50
    assert len([*(tmp_path / "index").glob("features-*")]) == 4
    for i in (3, 500, 999):
        indexes.write(tmp_path / f"videos/{i:04d}.mov", 130, i)
    for i in (4, 998):
        (tmp_path / f"videos/{i:04d}.mov").unlink()
    encoder.calls = 0
    report = index.update()
    assert encoder.calls == 3 and repr(report) == "3 changed, 2 dropped"
    assert {row.video for row in report if row.change == "changed"} == {"0003.mov", "0500.mov", "0999.mov"}
    again = MomentIndex.open(tmp_path / "index", model, processor, encoder)
    assert len(again) == 998 and sum(again.seconds) == 2 * 995 + 3 * 130
    assert same(again.search(QUERY, 9), index.search(QUERY, 9))
    monkeypatch.setattr("vclip.search.folder.sha256_of", None)  # a file that is as it was is not read
    assert again.update() == [] and encoder.calls == 3


KILLED = """
import os, sys, indexes
from vclip.search import update
from vclip.search.index import MomentIndex
update.SAVE_EVERY = 0
class Deadly(indexes.Quadrants):
    def __call__(self, frames):
        if self.calls == 4:
            os.kill(os.getpid(), 9)
        return super().__call__(frames)
MomentIndex.build(indexes.model(), indexes.processor(), sys.argv[1], Deadly())
"""


def test_killed_and_started_again_it_goes_on(model, processor, tmp_path):
    folder = indexes.folder(tmp_path / "videos")
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    done = subprocess.run([sys.executable, "-c", KILLED, str(folder)], env=os.environ | {"PYTHONPATH": path})
    assert (
        done.returncode == -9 and len(MomentIndex.open(folder / ".vclip", model, processor, indexes.Quadrants())) == 0
    )
    indexes.write(folder / "video 1.mov", 21, 77)  # done before the kill, changed since
    encoder = indexes.Quadrants()
    index = MomentIndex.build(model, processor, folder, encoder)
    assert encoder.calls == 3 and [row.change for row in index.report] == ["added"] * 6
    assert index.seconds == [3, 21, 33, 50, 70, 1]
    fresh = MomentIndex.build(model, processor, folder, encoder, tmp_path / "fresh")
    assert same(index.search(QUERY, 50), fresh.search(QUERY, 50))


def test_an_exception_loses_nothing(model, processor, tmp_path):
    class Stopped(indexes.Quadrants):
        def __call__(self, frames):
            if self.calls == 2:
                raise KeyboardInterrupt
            return super().__call__(frames)

    folder = indexes.folder(tmp_path / "videos")
    with pytest.raises(KeyboardInterrupt):
        MomentIndex.build(model, processor, folder, Stopped())
    encoder = indexes.Quadrants()
    MomentIndex.build(model, processor, folder, encoder)
    assert encoder.calls == 4


def test_two_at_once(model, processor, folder, tmp_path):
    first = MomentIndex.open(folder / ".vclip", model, processor, indexes.Quadrants())
    other = MomentIndex.build(model, processor, folder, indexes.Quadrants(), tmp_path / "other")
    assert same(first.search(QUERY, 50), other.search(QUERY, 50))
    with other._store.lock(), pytest.raises(RuntimeError, match="being updated"):
        other_again = MomentIndex.open(tmp_path / "other", model, processor, indexes.Quadrants())
        other_again.update()
    # one that was opened before an update elsewhere goes on reading, or says what to do
    for i in range(6):
        indexes.write(folder / f"video {i}.mov", 9, 100 + i)
    MomentIndex.open(tmp_path / "other", model, processor, indexes.Quadrants()).update()
    with pytest.warns(UserWarning, match="changed since"):
        assert [h.video for h in other.search(QUERY)]
    other.update()
    assert other.seconds == [9] * 6 and first.seconds == list(SECONDS)
    fresh = MomentIndex.build(model, processor, folder, indexes.Quadrants(), tmp_path / "fresh")
    assert same(other.search(QUERY, 50), fresh.search(QUERY, 50))


def test_what_does_not_fit_is_refused_by_name(model, processor, folder, tmp_path):
    path = folder / ".vclip"

    def refused(match, model=model, encoder=None, **names):
        with pytest.raises(ValueError, match=match):
            MomentIndex.open(path, model, processor, encoder or indexes.Quadrants(**names))

    refused("model weights: '", indexes.model(seed=1))
    refused("size: 8 against 16", size=16)
    refused("fps: 1 against 2", fps=2)
    refused("dim 7, the model takes 12", dim=7)
    refused("model pooling: 'mean' against 'cls'", indexes.model(pooling="cls"))
    spec = indexes.Quadrants().spec.__dict__
    refused("size: 8 against 16", indexes.model(feature_spec=spec | {"size": 16}))
    MomentIndex.open(path, indexes.model(feature_spec=spec), processor)  # search needs no encoder
    with pytest.raises(ValueError, match="names no feature_spec"):
        MomentIndex.open(path, model, processor)
    indexes.write(tmp_path / "b/other.mov", 3, 9)
    with pytest.raises(FileNotFoundError, match="b holds none of the 6 videos of the index: mount it"):
        MomentIndex.build(model, processor, tmp_path / "b", indexes.Quadrants(), path)
    assert len(MomentIndex.open(path, model, processor, indexes.Quadrants()).search(QUERY, 50)) > 6
    with pytest.raises(FileExistsError, match="something else"):
        MomentIndex.build(model, processor, folder, indexes.Quadrants(), folder)
    with pytest.raises(FileNotFoundError, match="MomentIndex.build"):
        MomentIndex.open(tmp_path, model, processor, indexes.Quadrants())
    with pytest.raises(FileNotFoundError, match="no folder"):
        MomentIndex.build(model, processor, tmp_path / "none", indexes.Quadrants())


def test_folder_and_index_move_together(model, processor, folder, tmp_path):
    moved = folder.rename(tmp_path / "elsewhere")
    index = MomentIndex.open(moved / ".vclip", model, processor, indexes.Quadrants())
    assert index.folder == moved and index.update() == [] and len(index.search(QUERY)) == 10
    shutil.move(moved / ".vclip", tmp_path / "alone")
    shutil.rmtree(moved)
    index = MomentIndex.open(tmp_path / "alone", model, processor, indexes.Quadrants())
    index.folder = moved
    for look in (index.update, lambda: index.search(QUERY)):
        with pytest.raises(FileNotFoundError, match="mount it or put it back; if it has moved, give its new place"):
            look()


def test_an_index_elsewhere_follows_its_folder(model, processor, folder, tmp_path):
    encoder = indexes.Quadrants()
    before = MomentIndex.build(model, processor, folder, encoder, tmp_path / "index").search(QUERY, 50)
    moved, encoder.calls = folder.rename(tmp_path / "moved"), 0
    with pytest.raises(FileNotFoundError, match="give its new place"):
        MomentIndex.open(tmp_path / "index", model, processor, encoder).search(QUERY)
    index = MomentIndex.build(model, processor, moved, encoder, tmp_path / "index")
    assert encoder.calls == 0 and index.report == [] and same(index.search(QUERY, 50), before)
    again = MomentIndex.open(tmp_path / "index", model, processor, encoder)
    assert again.folder == moved and same(again.search(QUERY, 50), before) and again.update() == []


def test_an_empty_folder_and_one_that_empties(model, processor, tmp_path):
    index = MomentIndex.build(model, processor, tmp_path, indexes.Quadrants())
    assert len(index) == 0 and index.search(QUERY) == [] and "0 videos" in repr(index)
    video = indexes.write(tmp_path / "a/b.mov", 4, 0)
    assert repr(index.update()) == "1 added" and index.videos == ["a/b.mov"] and len(index.search(QUERY)) == 1
    away = video.rename(tmp_path / "away")
    for look in (index.update, lambda: MomentIndex.build(model, processor, tmp_path, indexes.Quadrants())):
        with pytest.raises(FileNotFoundError, match="is empty: mount it, or remove the index"):
            look()
    with pytest.warns(UserWarning, match="gone"):
        assert index.search(QUERY) == []
    away.rename(video)
    assert index.update() == [] and len(index.search(QUERY)) == 1


def test_nothing_is_embedded_of_what_is_gone(model, processor, tmp_path, monkeypatch):
    folder = indexes.folder(tmp_path / "videos", (20,) * 12)
    index = MomentIndex.build(model, processor, folder, indexes.Quadrants(), tmp_path / "index")
    looked = []
    monkeypatch.setattr(
        "vclip.search.identity.embed_each_second",
        lambda model, clips: looked.extend(clips) or embed_each_second(model, clips),
    )
    assert len(index.search(QUERY, 12)) == len(looked) == 12
    for i in range(11):
        (folder / f"video {i}.mov").unlink()
    looked.clear()
    with pytest.warns(UserWarning) as caught:
        assert [hit.video for hit in index.search(QUERY, 12)] == ["video 11.mov"]
    assert len(looked) == len(caught) == 1 and "and 8 more; call update()" in str(caught[0].message)
    folder.rename(tmp_path / "away")
    looked.clear()
    with warnings.catch_warnings(), pytest.raises(FileNotFoundError, match="mount it"):
        warnings.simplefilter("error")
        index.search(QUERY)
    assert not looked


def test_names_are_not_trusted(model, processor, tmp_path):
    strange = b"d\xff<i>.mov"
    video = indexes.write(tmp_path / "<img src=x onerror=alert(1)>.mov", 3, 0)
    shutil.copy(video, os.fsencode(tmp_path) + b"/" + strange)
    (tmp_path / "<b>.mp4").write_bytes(b"")
    index = MomentIndex.build(model, processor, tmp_path, indexes.Quadrants())
    assert index.videos == ["<img src=x onerror=alert(1)>.mov", "d\\udcff<i>.mov"]
    assert os.fsencode(index.file(index.videos[1]).name) == strange
    assert "<b>" not in index.report._repr_html_() and "&lt;b&gt;" in index.report._repr_html_()
    assert len(index.search(QUERY)) == 2 and index.update()[0].video == "<b>.mp4"
    table = tmp_path / ".vclip/index.json"
    table.write_text(table.read_text().replace("<img src=x onerror=alert(1)>", "../../secret"))
    index = MomentIndex.open(tmp_path / ".vclip", model, processor, indexes.Quadrants())
    for look in (lambda: index.file("../../secret.mov"), lambda: index.search(QUERY)):
        with pytest.raises(ValueError, match="leads out of"):
            look()


def damage(file: Path, how: str) -> None:
    if how == "lost":
        file.unlink()
    else:
        os.truncate(file, file.stat().st_size // 2)


@pytest.mark.parametrize("how", ["lost", "cut"])
@pytest.mark.parametrize("cells", [False, True])
def test_what_an_index_loses_is_made_again(model, processor, folder, tmp_path, monkeypatch, how, cells):
    if cells:
        monkeypatch.setattr("vclip.search.windows.EXACT_UP_TO", 4)
    path, encoder = tmp_path / "index", indexes.Quadrants()
    before = MomentIndex.build(model, processor, folder, encoder, path).search(QUERY, 50)
    for pattern, calls in [("features-*", 6), ("windows-*", 0)][: 1 + cells]:
        for start in ("build", "open", "go on"):
            going = MomentIndex.open(path, model, processor, encoder)
            (file,) = path.glob(pattern)
            damage(file, how)
            encoder.calls = 0
            if start == "build":
                index = MomentIndex.build(model, processor, folder, encoder, path)
            else:
                index = going if start == "go on" else MomentIndex.open(path, model, processor, encoder)
                if start == "open":
                    with pytest.raises((OSError, ValueError), match=r"call update\(\)"):
                        index.search(QUERY)
                index.update()
            assert encoder.calls == calls and [row.change for row in index.report] == ["repaired"] * calls
            assert same(index.search(QUERY, 50), before)
            assert same(MomentIndex.open(path, model, processor, encoder).search(QUERY, 50), before)


def overwrite(file: Path, name: str, byte: int) -> None:
    """Other bytes in a tensor of a safetensors file: its size and its header stay."""
    data = bytearray(file.read_bytes())
    header = 8 + int.from_bytes(data[:8], "little")
    first, last = json.loads(data[8:header])[name]["data_offsets"]
    data[header + first : header + last] = bytes([byte]) * (last - first)
    file.write_bytes(data)


@pytest.mark.parametrize(
    "name, byte, said",
    [("z_v", 255, "features-.* is damaged"), ("features", 255, "NaN or infinity of 'video"), ("features", 0, None)],
)
def test_a_shard_of_other_bytes_is_made_again(model, processor, folder, tmp_path, name, byte, said):
    path, encoder = tmp_path / "index", indexes.Quadrants()
    before = MomentIndex.build(model, processor, folder, encoder, path).search(QUERY, 50)
    (file,) = path.glob("features-*")
    overwrite(file, name, byte)
    index = MomentIndex.open(path, model, processor, encoder)
    if said:
        with pytest.raises(ValueError, match=rf"{said}.*call update\(\)"):
            index.search(QUERY)
    else:
        assert not same(index.search(QUERY, 50), before)
    encoder.calls = 0
    assert repr(index.update()) == "6 repaired" and encoder.calls == 6
    assert same(index.search(QUERY, 50), before) and index.update() == []


@pytest.mark.parametrize("name", ["z_v", "features"])
def test_what_to_do_with_a_shard_that_only_a_search_sees_is_damaged(model, processor, folder, tmp_path, name):
    path, encoder = tmp_path / "index", indexes.Quadrants()
    before = MomentIndex.build(model, processor, folder, encoder, path).search(QUERY, 50)
    (file,) = path.glob("features-*")
    time = file.stat().st_mtime_ns
    overwrite(file, name, 255)
    os.utime(file, ns=(time, time))  # as a failing disk would
    index = MomentIndex.open(path, model, processor, encoder)
    with pytest.raises(ValueError, match=rf"{file.name} .*damaged.*remove .*call update\(\)"):
        index.search(QUERY)
    file.unlink()
    assert repr(index.update()) == "6 repaired" and same(index.search(QUERY, 50), before)


def test_a_faiss_file_of_other_bytes_is_made_again(model, processor, folder, tmp_path, monkeypatch):
    monkeypatch.setattr("vclip.search.windows.EXACT_UP_TO", 4)
    path, encoder = tmp_path / "index", indexes.Quadrants()
    index = MomentIndex.build(model, processor, folder, encoder, path)
    before, calls = index.search(QUERY, 50), encoder.calls
    (file,) = path.glob("windows-*")
    data = file.read_bytes()
    file.write_bytes(data[:-400] + bytes(400))
    assert index.update() == [] and encoder.calls == calls and not file.exists()
    assert same(index.search(QUERY, 50), before)


@pytest.mark.parametrize("how", ["lost", "cut"])
@pytest.mark.parametrize("name", ["index.json", "index.copy.json"])
def test_an_index_outlives_one_of_its_tables(model, processor, folder, tmp_path, name, how):
    path, encoder = tmp_path / "index", indexes.Quadrants()
    before = MomentIndex.build(model, processor, folder, encoder, path).search(QUERY, 50)
    damage(path / name, how)
    encoder.calls = 0
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert same(MomentIndex.open(path, model, processor, encoder).search(QUERY, 50), before)
    assert ["its copy is read" in str(warning.message) for warning in caught] == [True] * (name == "index.json")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        index = MomentIndex.build(model, processor, folder, encoder, path)
    assert index.report == [] and encoder.calls == 0 and same(index.search(QUERY, 50), before)
    assert (path / "index.json").read_bytes() == (path / "index.copy.json").read_bytes()


def test_what_is_left_of_an_index_is_not_called_something_else(model, processor, folder):
    for name in ("index.json", "index.copy.json"):
        (folder / ".vclip" / name).unlink()
    with pytest.raises(FileExistsError, match="has lost index.json and index.copy.json: put one back, or remove"):
        MomentIndex.build(model, processor, folder, indexes.Quadrants())


def test_a_lost_video_of_a_lost_shard_is_dropped(model, processor, folder, tmp_path):
    index = MomentIndex.build(model, processor, folder, indexes.Quadrants(), tmp_path / "index")
    damage(next((tmp_path / "index").glob("features-*")), "lost")
    (folder / "video 3.mov").unlink()
    assert repr(index.update()) == "5 repaired, 1 dropped" and len(index) == 5


def test_weights_that_change_in_memory_are_noticed(processor, folder, tmp_path):
    model, encoder = indexes.model(), indexes.Quadrants()
    index = MomentIndex.build(model, processor, folder, encoder, tmp_path / "index")
    (folder / "video 1.mov").unlink()
    weight = next(model.parameters())
    before = weight.data.clone()
    weight.data += 1  # which PyTorch's version counter does not see
    with pytest.raises(ValueError, match="made otherwise .model weights: "):
        index.update()
    assert len(index) == 6
    weight.data = before
    assert repr(index.update()) == "1 dropped"
    index._encoder = indexes.Quadrants(fps=2)
    with pytest.raises(ValueError, match="fps: 1 against 2"):
        index.update()


def test_a_search_notices_changed_weights(processor, folder, tmp_path):
    model = indexes.model()
    index = MomentIndex.build(model, processor, folder, indexes.Quadrants(), tmp_path / "index")
    (hit, *_), saved = index.search("w3"), {name: value.clone() for name, value in model.state_dict().items()}

    def larger():
        for weight in model.parameters():
            weight.data *= 1.5

    def broken():
        next(p for name, p in model.named_parameters() if "video_mlp.layer_norm" in name).data.fill_(np.nan)

    for change in (larger, broken):
        change()
        for look in (lambda: index.search("w3"), lambda: index.explain(hit)):
            with pytest.raises(ValueError, match="weights have changed since they made the index"):
                look()
        model.load_state_dict(saved)
        assert index.search("w3")[0] == hit and len(index.explain(hit).scores)


def test_no_vector_that_is_not_finite(processor, folder, tmp_path):
    model, encoder = indexes.model(), indexes.Quadrants()
    words = next(p for name, p in model.named_parameters() if "text" in name and "word_embeddings" in name)
    words.data[processor.tokenizer.convert_tokens_to_ids("w3")] = np.nan
    index = MomentIndex.build(model, processor, folder, encoder, tmp_path / "index")
    hit = replace(index.search("w5")[0], query="w3")
    for look in (lambda: index.search("w3"), lambda: index.explain(hit)):
        with pytest.raises(ValueError, match="NaN or infinity of the text 'w3'"):
            look()
    model = indexes.model()
    next(p for name, p in model.named_parameters() if "video_mlp" in name).data.fill_(np.nan)
    index = MomentIndex.build(model, processor, folder, encoder, tmp_path / "other")
    assert len(index) == 0 and repr(index.report).startswith(
        "6 failed\n  video 0.mov (added) failed: the model makes NaN"
    )
    calls = encoder.calls
    assert index.search("w3") == [] and repr(index.update()).startswith("6 failed\n  video 0.mov (skipped) failed")
    assert encoder.calls == calls


def test_faiss_builds_once(model, processor, folder, tmp_path, monkeypatch):
    built, build = [], windows.build
    monkeypatch.setattr("vclip.search.windows.build", lambda blocks: built.append(len(blocks)) or build(blocks))
    index = MomentIndex.build(model, processor, folder, indexes.Quadrants(), tmp_path / "index")
    assert index.search(QUERY) and built == [6]
    (folder / "video 1.mov").unlink()
    index.update()
    assert index.search(QUERY) and built == [6, 5]
    index.update()
    assert index.search(QUERY) and built == [6, 5, 5]


def test_counts_are_those_after_the_update(model, processor, folder):
    index = MomentIndex.open(folder / ".vclip", model, processor, indexes.Quadrants())
    assert repr(index) == "MomentIndex('videos': 6 videos, 0.0 h, 12 windows)"
    (folder / "video 3.mov").unlink()
    indexes.write(folder / "video 1.mov", 34, 4)
    index.update()
    assert repr(index) == "MomentIndex('videos': 5 videos, 0.0 h, 10 windows)" and len(index) == 5
    assert index.videos == [f"video {i}.mov" for i in (0, 1, 2, 4, 5)] and index.seconds == [3, 34, 33, 70, 1]


def test_no_hit_outlasts_its_video(model, processor, tmp_path):
    pictures = list(np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8))
    write_video(tmp_path / "a.mov", range(0, 2500, 500), pictures)
    index = MomentIndex.build(model, processor, tmp_path, indexes.Quadrants())
    assert index.seconds == [3] and [hit.end for hit in index.search(QUERY)] == [pytest.approx(2.5, abs=0.01)]
    (tmp_path / "a.mov").rename(tmp_path / "b.mov")
    index.update()
    assert index.search(QUERY)[0].end == pytest.approx(2.5, abs=0.01)


def test_half_a_character_in_a_query_is_shown_as_one(model, processor, made):
    index = MomentIndex.open(made / ".vclip", model, processor, indexes.Quadrants())
    hit = index.search("w3 \ud83d")[0]
    assert hit.query == "w3 \\ud83d" and len(index.explain(hit).scores)


def test_real_videos(model, processor, shared, tmp_path):
    folder = shutil.copytree(shared / "videos", tmp_path / "videos")
    index = MomentIndex.build(model, processor, folder, indexes.Quadrants())
    assert dict(zip(index.videos, index.seconds, strict=True)) == {
        "gnome-launching-applications.webm": 35,
        "googlework_short.mp4": 36,
        "rabbit320.mp4": 8,
        "sam2-coffee.mp4": 10,
    }
    hits = index.search(QUERY, 100)
    assert {h.video for h in hits} == {*index.videos} and any(h.text for h in hits if h.video.startswith("gnome"))


def test_the_encoder_that_the_checkpoint_names(tmp_path):
    checkpoint = minihowto() / "checkpoint"
    model, processor = AutoModel.from_pretrained(checkpoint), AutoProcessor.from_pretrained(checkpoint)
    indexes.write(tmp_path / "a.mov", 2, 0)
    index = MomentIndex.build(model, processor, tmp_path)
    assert isinstance(index._encoder, Projection) and index.search("chop the onion")[0].end == 2


def test_windows_of_a_model_that_takes_less(processor, tmp_path):
    model = indexes.model(max_video_tokens=8, video_config=TOWER | {"max_position_embeddings": 10})
    indexes.folder(tmp_path, (30, 9))
    index = MomentIndex.build(model, processor, tmp_path, indexes.Quadrants())
    assert len(index._windows) == len(sliding_windows(30, 8, 4)) + len(sliding_windows(9, 8, 4))
    assert all(hit.end - hit.start <= 8 for hit in index.search(QUERY, 20))


def test_an_index_in_cells(model, processor, folder, tmp_path, monkeypatch):
    exact = MomentIndex.open(folder / ".vclip", model, processor, indexes.Quadrants())
    monkeypatch.setattr("vclip.search.windows.EXACT_UP_TO", 4)
    index = MomentIndex.build(model, processor, folder, indexes.Quadrants(), tmp_path / "index")
    (file,) = (tmp_path / "index").glob("*.faiss")
    for video in ("*[0-4].mov", None):
        found, expected = (i.search(QUERY, 20, video) for i in (index, exact))
        assert sorted((h.video, h.start) for h in found) == sorted((h.video, h.start) for h in expected)
        assert [h.score for h in found] == pytest.approx([h.score for h in expected], rel=2e-3)
    (folder / "video 5.mov").unlink()
    index.update()
    assert not file.exists() and len([*(tmp_path / "index").glob("*.faiss")]) == 1
    again = MomentIndex.open(tmp_path / "index", model, processor, indexes.Quadrants())
    assert again.search(QUERY, 20) == index.search(QUERY, 20)


def test_half_precision(processor, made, tmp_path):
    index = MomentIndex.build(indexes.model().to(torch.bfloat16), processor, made, indexes.Quadrants(), tmp_path / "x")
    assert len(index.search(QUERY, 5)) == 5 and np.isfinite(index.explain(index.search(QUERY)[0]).scores).all()
