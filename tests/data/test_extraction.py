import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from kills import CONTEXT, killed
from limits import still_running
from permissions import unprivileged
from safetensors.numpy import load_file
from stops import Stop, stopping
from test_transcripts import film
from videos import cut, grey, write_video

from vclip.data import extraction, storage, transcripts, video_files
from vclip.data.captions import read_captions
from vclip.data.corpus import Corpus
from vclip.data.extraction import encode_file, extract
from vclip.data.feature_store import Content, Entry, FeatureStore, writing
from vclip.data.spec import FeatureSpec
from vclip.data.video_files import Files, find_videos
from vclip.datasets.minihowto import minihowto

from corpora import tokenizer

REAL = {"sam2-coffee": 10, "gnome-launching-applications": 34, "googlework_short": 35, "rabbit320": 8}
VTT = "WEBVTT\n\n00:00.000 --> 00:01.000\nstir it\n"


class MeanColour:
    """An encoder that needs no network, and remembers how many seconds it was given."""

    def __init__(self, fps=2, dim=3):
        self.spec = FeatureSpec("mean-colour", "0" * 16, fps, 16, "centre", "x / 255", "mean", None, dim)
        self.seconds = 0

    def __call__(self, frames):
        self.seconds += len(frames)
        return (frames.mean((1, 2, 3)) / 255).astype(np.float32)[:, : self.spec.dim]


def make(folder: Path, names, captions: bool = True) -> Path:
    """Videos of 1, 2, ... seconds, each of another grey, with captions."""
    folder.mkdir(exist_ok=True)
    for i, name in enumerate(names, 1):
        path = folder / f"{name}.mov"
        path.parent.mkdir(exist_ok=True)
        pictures = grey(*[10 * i] * 2 * i)
        for k, picture in enumerate(pictures):
            picture[0, 0] += k // 2  # no two seconds are alike: each is encoded
        write_video(path, range(0, 1000 * i, 500), pictures)
        if captions:
            path.with_suffix(".vtt").write_text(VTT.replace("it", name))
    return folder


def content(out: Path) -> dict:
    """What a reader of a corpus sees."""
    corpus = Corpus.open(out)
    return {
        video: (corpus.features(i).tolist(), corpus.captions(i).text, corpus.media[i])
        for i, video in enumerate(corpus.video_ids)
    }


def rows(report) -> list[tuple]:
    return [(row.video, row.seconds, row.status) for row in report]


def test_a_folder_of_real_videos(shared, tmp_path):
    folder = shutil.copytree(shared / "videos", tmp_path / "videos")
    (folder / "README.md").unlink()
    for video in [f for f in folder.iterdir() if f.suffix != ".vtt"]:
        cut(video, folder / f"cut-{video.name}")
    (folder / "empty.mp4").write_bytes(b"")
    encoder = MeanColour()
    report = extract(folder, tmp_path / "out", encoder)
    corpus = Corpus.open(tmp_path / "out")
    found = {row.video: row for row in report}
    assert len(report) == 9 and corpus.spec == encoder.spec
    assert corpus.video_ids == [row.video for row in report if row.status != "failed"]
    for video, seconds in REAL.items():
        assert found[video] == (video, seconds, "ok", "")
        damaged = found[f"cut-{video}"]
        assert damaged.status == "damaged" and 0 < damaged.seconds < seconds and "although its header" in damaged.error
        for row in (found[video], damaged):
            assert corpus.features(corpus.index(row.video)).shape == (row.seconds, 3)
        media = corpus.media[corpus.index(video)]
        assert media is not None and (folder / media).is_file()
    assert found["empty"].status == "failed" and "empty" in found["empty"].error
    expected = read_captions(shared / "videos/gnome-launching-applications.en.vtt")
    captions = corpus.captions(corpus.index("gnome-launching-applications"))
    assert captions.text == expected.text and len(captions) == 7
    np.testing.assert_array_equal(captions.start, expected.start)
    assert len(corpus.captions(corpus.index("rabbit320"))) == 0


def test_features_are_the_encoders_for_each_second(tmp_path):
    path = write_video(tmp_path / "v.mov", range(0, 300_000, 1000), grey(*range(250), *range(50)))
    extract(path, tmp_path / "out", MeanColour(fps=1))
    levels = np.array([*range(250), *range(50)], np.float32) / 255
    np.testing.assert_allclose(Corpus.open(tmp_path / "out").features(0)[:, 1], levels, atol=1e-3)


def test_names_become_ids(tmp_path):
    folder = make(tmp_path / "videos", ["a", "b", "x/a", "x/c"])
    (folder / "b.MP4").write_bytes(b"")
    (folder / "._a.mov").write_bytes(b"")
    (folder / "notes.txt").write_text("no video")
    shutil.copy(folder / "a.mov", os.fsencode(folder) + b"/d\xff<i>.mov")
    videos, root = find_videos(folder)
    assert list(videos) == ["a.mov", "b.MP4", "b.mov", "d\\udcff<i>", "x/a.mov", "c"] and root == folder
    report = extract(folder, tmp_path / "out", MeanColour())
    assert [row.video for row in report] == list(videos) and [row.status for row in report].count("failed") == 1
    assert Corpus.open(tmp_path / "out").video_ids == ["a.mov", "b.mov", "d\\udcff<i>", "x/a.mov", "c"]
    shown = report._repr_html_()
    assert "<td>d\\udcff&lt;i&gt;</td>" in shown and "<i>" not in shown and shown.count("<tr") == 7
    assert repr(report).isprintable() or "\n" in repr(report)
    assert "6 videos: 5 ok, 1 failed" in repr(report) and "b.MP4 (0 s) failed" in repr(report)


def test_a_list_of_files(tmp_path):
    folder = make(tmp_path / "videos", ["a", "x/a", "b"])
    listed = [folder / "x/a.mov", str(folder / "a.mov"), folder / "gone.mov", folder / "a.mov"]
    report = extract(listed, tmp_path / "out", MeanColour())
    assert rows(report) == [("a.mov", 1, "ok"), ("gone", 0, "failed"), ("x/a.mov", 2, "ok")]
    assert "gone.mov" in report[1].error
    with pytest.raises(FileNotFoundError, match="vidoes': no such folder or file"):
        extract(tmp_path / "vidoes", tmp_path / "out", MeanColour())
    with pytest.raises(FileNotFoundError, match="empty"):
        extract([], tmp_path / "other", MeanColour())
    (tmp_path / "nothing").mkdir()
    with pytest.raises(FileNotFoundError, match="no video in .*nothing"):
        extract(tmp_path / "nothing", tmp_path / "other", MeanColour())


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    make(tmp_path / "videos", ["a"])
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert rows(extract("~/videos", "~/out", MeanColour())) == [("a", 1, "ok")]
    assert Corpus.open("~/out").video_ids == ["a"] and not (tmp_path / "~").exists()


def test_bad_captions_cost_the_captions_only(tmp_path):
    folder = make(tmp_path / "videos", ["a", "b", "c", "d", "e"])
    (folder / "a.vtt").write_text("WEBVTT\n\n00:02.000 --> 00:01.000\nbackwards\n")
    (folder / "b.vtt").write_bytes(b"WEBVTT\n\n00:00.000 --> 00:01.000\n\xff\n")
    (folder / "c.vtt").unlink()
    (folder / "c.csv").write_text("start,end,text\nnan,1,x\n")
    (folder / "d.vtt").unlink()
    (folder / "d.json").write_text('{"start": [0], "end": [1], "text": ["half \\ud800"]}')
    report = extract(folder, tmp_path / "out", MeanColour())
    assert [row.status for row in report] == ["captions unreadable"] * 4 + ["ok"]
    for row, file in zip(report, ("a.vtt", "b.vtt", "c.csv"), strict=False):
        assert file in row.error
    corpus = Corpus.open(tmp_path / "out")
    assert corpus.seconds.tolist() == [1, 2, 3, 4, 5] and len(corpus.caption_text) == 1
    # mended, it is read
    (folder / "a.vtt").write_text(VTT)
    encoder = MeanColour()
    assert rows(extract(folder, tmp_path / "out", encoder))[0] == ("a", 1, "ok")
    assert encoder.seconds == 0 and content(tmp_path / "out")["a"][1] == ["stir it"]


def test_a_bad_row_costs_a_row_and_is_reported(tmp_path):
    folder = make(tmp_path / "videos", ["a"])
    (folder / "a.vtt").write_text(VTT + "\n00:01.000 -> 00:02.000\nlost\n\n00:02.000 --> 00:03.000\nwell\n")
    for _ in range(2):
        report = extract(folder, tmp_path / "out", MeanColour())
        assert rows(report) == [("a", 1, "captions incomplete")] and "a.vtt, line 6" in report[0].error
    assert content(tmp_path / "out")["a"][1] == ["stir it", "well"]


def test_milliseconds_are_told_by_the_length_of_the_video(tmp_path):
    folder = make(tmp_path / "videos", ["a", "b"], captions=False)
    (folder / "b.csv").write_text("start,end,text\n0,300,chop\n300,900,the\n900,1200,onion\n")
    (folder / "a.csv").write_text("start,end,text\n0,30,chop\n30,90,the\n90,120,onion\n")
    extract(folder, tmp_path / "out", MeanColour())
    corpus = Corpus.open(tmp_path / "out")
    assert corpus.captions(1).end.tolist() == [0.3, 0.9, 1.2] and corpus.captions(0).end.tolist() == [30, 90, 120]


def test_captions_inside_a_video_unless_a_file_lies_beside_it(tmp_path, monkeypatch):
    folder, out, encoder = make(tmp_path / "videos", ["b"], captions=False), tmp_path / "out", MeanColour()
    film(folder / "a.mkv", ("subrip", Disposition(0), [(1000, 2000, "chop"), (2000, 3000, "the onion")]))
    film(folder / "c.mkv", ("dvdsub", Disposition(0), [(1000, 2000, "x")]))
    report = extract(folder, out, encoder)
    assert rows(report) == [("a", 8, "ok"), ("b", 1, "ok"), ("c", 8, "ok")]  # c's are pictures
    assert [said for _, said, _ in content(out).values()] == [["chop", "the onion"], [], []]
    (folder / "c.srt").write_text("1\n00:00 --> 00:01\nbeside\n")
    with monkeypatch.context() as closed:  # what has not changed is not opened again
        closed.setattr(transcripts, "open_video", None)
        assert rows(extract(folder, out, encoder))[2] == ("c", 8, "ok")
    (folder / "a.srt").write_text("1\n00:00 --> 00:01\nbeside\n")
    extract(folder, out, encoder)
    assert content(out)["a"][1] == content(out)["c"][1] == ["beside"] and encoder.seconds == 3  # stills


def test_rolling_captions_are_made_plain(tmp_path):
    folder = make(tmp_path / "videos", ["a"])
    (folder / "a.vtt").write_text(VTT + "\n00:01.000 --> 00:02.000\nstir it well\n")
    extract(folder, tmp_path / "out", MeanColour())
    assert content(tmp_path / "out")["a"][1] == ["stir it", "well"]


def test_features_that_are_not_numbers_cost_a_row(tmp_path):
    class Broken(MeanColour):
        def __call__(self, frames):
            return np.where(frames.mean() > 15, np.nan, super().__call__(frames))

    report = extract(make(tmp_path / "videos", ["a", "b"]), tmp_path / "out", Broken())
    assert rows(report) == [("a", 1, "ok"), ("b", 0, "failed")] and "NaN" in report[1].error


def test_when_nothing_can_be_read_there_is_a_report_and_an_empty_corpus(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/a.mp4").write_bytes(b"")
    assert rows(extract(tmp_path / "videos", tmp_path / "out", MeanColour())) == [("a", 0, "failed")]
    assert len(Corpus.open(tmp_path / "out")) == 0


def test_a_finished_corpus_grows_and_is_otherwise_left_alone(tmp_path):
    folder, out = make(tmp_path / "videos", ["b", "c"]), tmp_path / "out"
    whole = (folder / "c.mov").read_bytes()
    cut(folder / "c.mov", folder / "c.mov", 0.9)
    extract(folder, out, MeanColour())
    Corpus.open(out).tokenize(tokenizer())
    before = {f.name: f.read_bytes() for f in out.iterdir()}
    encoder = MeanColour()
    assert rows(extract(folder, out, encoder)) == [("b", 1, "ok"), ("c", 0, "failed")]
    assert encoder.seconds == 0 and {f.name: f.read_bytes() for f in out.iterdir()} == before
    (folder / "c.mov").write_bytes(whole)
    make(folder, ["a"])
    assert rows(extract(folder, out, encoder)) == [("a", 1, "ok"), ("b", 1, "ok"), ("c", 2, "ok")]
    assert encoder.seconds == 3
    extract(folder, tmp_path / "fresh", MeanColour())
    assert content(out) == content(tmp_path / "fresh") and list(content(out)) == ["a", "b", "c"]
    # a video that has gone stays in the corpus
    (folder / "b.mov").unlink()
    with pytest.raises(ValueError, match="fresh holds another encoder.s features .*fps: 2 against 3.*another folder"):
        extract(folder, tmp_path / "fresh", MeanColour(fps=3))
    assert rows(extract(folder, out, encoder)) == [("a", 1, "ok"), ("c", 2, "ok")] and "b" in content(out)


def test_what_is_there_is_not_overwritten(tmp_path):
    folder = make(tmp_path / "videos", ["a"])
    with pytest.raises(FileExistsError, match="videos"):
        extract(folder, folder, MeanColour())
    extract(folder, tmp_path / "out", MeanColour(dim=3))
    with pytest.raises(ValueError, match="dim: 3 against 2"):
        extract(folder, tmp_path / "out", MeanColour(dim=2))


@pytest.mark.parametrize("limit, value, sizes", [("VIDEOS", 3, [3, 3, 1]), ("BYTES", 24, [3, 1, 1, 1, 1])])
def test_shards_close_when_full(tmp_path, monkeypatch, limit, value, sizes):
    # 3 numbers of 2 bytes a second; the videos are 1, 2, ... 7 s long
    folder, out = make(tmp_path / "videos", "abcdefg"), tmp_path / "out"
    monkeypatch.setattr(storage, f"SHARD_{limit}", value)
    extract(folder, out, MeanColour())
    assert sorted(len(np.unique(load_file(f)["starts"])) - 1 for f in out.glob("features-*")) == sorted(sizes)
    for i, (video, (features, *_)) in enumerate(content(out).items(), 1):
        assert video == "abcdefg"[i - 1] and np.shape(features) == (i, 3)
        np.testing.assert_allclose(features, 10 * i / 255, atol=1e-3)


def slow_extract(folder: str, out: str) -> None:
    class Slow(MeanColour):
        def __call__(self, frames):
            time.sleep(0.02)
            return super().__call__(frames)

    storage.SHARD_VIDEOS = 3
    extract(folder, out, Slow())


@pytest.mark.parametrize("most", [1, 2, 3, 100])
def test_a_picture_that_stands_still_is_encoded_once(tmp_path, monkeypatch, most):
    levels = [5, 5, 5, 9, 5, 5, 7, 7, 7, 7, 8]  # one a second
    path = write_video(tmp_path / "a.mov", range(0, 1000 * len(levels), 1000), grey(*levels))
    monkeypatch.setattr(extraction, "BYTES_AT_ONCE", most * 2 * 16 * 16 * 3)
    encoder = MeanColour()
    features, error = encode_file(path, encoder)
    assert not error and encoder.seconds == 5
    assert features.tolist() == [[np.float16(np.float32(level) / 255)] * 3 for level in levels]


@pytest.mark.long
def test_any_map_may_do_the_work(tmp_path, capsys):
    folder = make(tmp_path / "videos", "abcdef")
    (folder / "bad.mov").write_bytes(b"")
    report = extract(folder, tmp_path / "whole", MeanColour())

    def backwards(function, items):
        return (function(item) for item in reversed(list(items)))

    with ThreadPoolExecutor(3) as threads, CONTEXT.Pool(2) as processes:
        for name, loop in {"back": backwards, "threads": threads.map, "pool": processes.imap_unordered}.items():
            assert rows(extract(folder, tmp_path / name, MeanColour(), map=loop)) == rows(report)
            assert content(tmp_path / name) == content(tmp_path / "whole")
    capsys.readouterr()
    make(folder, "h")
    extract(folder, tmp_path / "pool", MeanColour())
    assert "| 7/8 " in capsys.readouterr().err  # the bar begins with what is there


@pytest.mark.long
def test_killed_at_any_moment_it_goes_on(tmp_path):
    folder, outs = make(tmp_path / "videos", "abcdefgh"), (tmp_path / str(n) for n in range(99))
    extract(folder, tmp_path / "whole", MeanColour())

    def finished(_, out):
        assert content(out) == content(tmp_path / "whole")
        assert not list(Path(out).glob(".*"))
        encoder = MeanColour()
        assert rows(extract(folder, out, encoder)) == [(v, i, "ok") for i, v in enumerate("abcdefgh", 1)]
        assert encoder.seconds == 0

    killed(slow_extract, 12, 0.7, finished, lambda: (folder, next(outs)))


def test_a_stop_at_any_write_loses_at_most_one_video(tmp_path, monkeypatch):
    """Stops before the n-th change of a file, for every n there is, then goes on."""
    folder = make(make(tmp_path / "videos", "abcd"), "f")
    extract(folder, tmp_path / "whole", MeanColour())
    monkeypatch.setattr(storage, "SHARD_VIDEOS", 2)
    stop_at = stopping(monkeypatch, (os, "replace"), (Path, "unlink"), (FeatureStore, "commit"))
    for n in range(1, 200):
        out = tmp_path / str(n)
        extract(folder.glob("[abc].mov"), out, MeanColour())
        first, again = MeanColour(), MeanColour()
        try:
            with stop_at(n):
                extract(folder, out, first)
        except Stop:
            expected = list(zip("abcdf", (1, 2, 3, 4, 1), ["ok"] * 5, strict=True))
            assert rows(extract(folder, out, again)) == expected
            assert 4 + 1 <= first.seconds + again.seconds <= 4 + 1 + 4
        else:
            break
        assert content(out) == content(tmp_path / "whole") and not list(out.glob(".*"))
    assert n > 10


def test_only_what_changed_is_encoded_again(tmp_path):
    folder, out, encoder = make(tmp_path / "videos", "abcd"), tmp_path / "out", MeanColour()
    extract(folder, out, encoder)

    def encoded() -> int:
        encoder.seconds = 0
        extract(folder, out, encoder)
        fresh = extract(folder, fresh_out := tmp_path / f"fresh {time.monotonic_ns()}", MeanColour())
        assert extract(folder, out, encoder) == fresh
        here = {row.video for row in fresh}
        assert {video: row for video, row in content(out).items() if video in here} == content(fresh_out)
        return encoder.seconds

    assert encoded() == 0
    os.utime(folder / "a.mov")  # another time, the same bytes
    assert encoded() == 0
    write_video(folder / "b.mov", range(0, 5000, 500), grey(*range(10)))
    assert encoded() == 5 and np.shape(content(out)["b"][0]) == (5, 3)
    before = (folder / "c.mov").stat()
    data = bytearray((folder / "c.mov").read_bytes())
    data[data.index(b"IDAT") + 8] ^= 1
    (folder / "c.mov").write_bytes(data)  # the same size: its time tells
    assert before.st_size == (folder / "c.mov").stat().st_size and encoded() in (0, 1, 2, 3)
    assert extract(folder, tmp_path / "damage", MeanColour())[2] == extract(folder, out, encoder)[2]
    os.utime(folder / "c.mov", ns=(0, before.st_mtime_ns))
    assert encoded() == 0
    (folder / "d.mov").rename(folder / "e.mov")
    (folder / "d.vtt").rename(folder / "e.vtt")
    assert encoded() == 0 and "d" not in content(out) and len(content(out)["e"][0]) == 4
    (folder / "sub").mkdir()
    (folder / "e.mov").rename(folder / "sub/a.mov")  # which gives a.mov another id too, and leaves the captions behind
    assert encoded() == 0 and content(out)["sub/a.mov"][1:] == ([], "sub/a.mov") and "a" not in content(out)


def test_two_that_change_places_are_not_encoded_again(tmp_path):
    folder, out, encoder = make(tmp_path / "videos", "ab"), tmp_path / "out", MeanColour()
    extract(folder, out, encoder)
    for old, new in (("a", "x"), ("b", "a"), ("x", "b")):
        (folder / f"{old}.mov").rename(folder / f"{new}.mov")
    assert rows(extract(folder, out, encoder)) == [("a", 2, "ok"), ("b", 1, "ok")] and encoder.seconds == 3
    assert [len(rows) for rows, *_ in content(out).values()] == [2, 1] and content(out)["a"][1] == ["stir a"]
    shutil.copy(folder / "a.mov", folder / "c.mov")  # a copy is another video
    assert rows(extract(folder, out, encoder))[2] == ("c", 2, "ok") and encoder.seconds == 5


def test_files_of_another_list_keep_their_features(tmp_path):
    folder, out, encoder = make(tmp_path / "videos", "ab"), tmp_path / "out", MeanColour()
    (tmp_path / "other").mkdir()
    shutil.copy(folder / "a.mov", tmp_path / "other/z.mov")
    extract([folder / "a.mov"], out, encoder)
    extract([tmp_path / "other/z.mov"], out, encoder)
    extract([folder / "b.mov"], out, encoder)
    assert list(content(out)) == ["a", "b", "z"] and encoder.seconds == 1 + 1 + 2


def test_captions_that_come_later_are_read_without_encoding(tmp_path):
    folder, out, encoder = make(tmp_path / "videos", "ab", captions=False), tmp_path / "out", MeanColour()
    extract(folder, out, encoder)
    fried = VTT.replace("stir", "fry!")
    for text, said in ((VTT, ["stir it"]), (fried, ["fry! it"]), ("no captions", ["fry! it"]), (None, [])):
        (folder / "a.vtt").write_text(text) if text else (folder / "a.vtt").unlink()
        status = "captions unreadable" if text == "no captions" else "ok"
        assert rows(extract(folder, out, encoder)) == [("a", 1, status), ("b", 2, "ok")]
        assert content(out)["a"][1] == said
    assert encoder.seconds == 3


def test_a_damaged_or_failed_file_is_tried_again_once_it_has_changed(shared, tmp_path):
    folder, out = tmp_path / "videos", tmp_path / "out"
    folder.mkdir()
    cut(shared / "videos/rabbit320.mp4", folder / "rabbit.mp4")
    (folder / "bad.mp4").write_bytes(b"no video")
    encoder = MeanColour()
    expected = [("bad", 0, "failed"), ("rabbit", 5, "damaged")]
    assert rows(extract(folder, out, encoder)) == rows(extract(folder, out, encoder)) == expected
    assert encoder.seconds == 5
    shutil.copy(shared / "videos/rabbit320.mp4", folder / "rabbit.mp4")
    assert rows(extract(folder, out, encoder)) == [("bad", 0, "failed"), ("rabbit", 8, "ok")]
    shutil.copy(folder / "rabbit.mp4", folder / "bad.mp4")
    assert rows(extract(folder, out, encoder)) == [("bad", 8, "ok"), ("rabbit", 8, "ok")]
    (folder / "bad.mp4").write_bytes(b"no video, once more")
    assert rows(extract(folder, out, encoder))[0] == ("bad", 0, "failed")
    assert Corpus.open(out).video_ids == ["rabbit"] and encoder.seconds == 5 + 8 + 8


def test_what_cannot_be_read_any_more_keeps_its_features(tmp_path):
    folder, out, encoder = make(tmp_path / "videos", "ab"), tmp_path / "out", MeanColour()
    extract(folder, out, encoder)
    before = content(out)
    (folder / "a.mov").unlink()
    (folder / "a.mov").symlink_to(tmp_path / "a drive that is away")
    report = extract(folder, out, encoder)
    assert rows(report) == [("a", 1, "unreadable"), ("b", 2, "ok")] and "No such file" in report[0].error
    assert content(out) == before and encoder.seconds == 3


def test_a_shard_that_is_lost_is_made_again_and_a_damaged_one_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "SHARD_VIDEOS", 2)
    folder, out, encoder = make(tmp_path / "videos", "abcd"), tmp_path / "out", MeanColour()
    extract(folder, out, encoder)
    before = content(out)
    (file, _) = sorted(out.glob("features-*"))
    os.truncate(file, file.stat().st_size - 8)
    extract(folder, out, encoder)
    with pytest.raises(ValueError, match=f"{file} is damaged .* delete it and extract or update"):
        Corpus.open(out)
    file.unlink()
    assert rows(extract(folder, out, encoder)) == [(v, i, "ok") for i, v in enumerate("abcd", 1)]
    assert encoder.seconds == 1 + 2 + 3 + 4 + 1 + 2 and content(out) == before and not file.exists()


def test_captions_that_cannot_be_read_any_more_stay(tmp_path, monkeypatch):
    folder, out = make(tmp_path / "videos", "a"), tmp_path / "out"
    extract(folder, out, MeanColour())
    os.utime(folder / "a.vtt", (0, 0))
    with monkeypatch.context() as broken:
        broken.setattr(video_files, "read_and_skip", lambda file, length: os.stat(file / "a disk that fails"))
        assert rows(extract(folder, out, MeanColour())) == [("a", 1, "captions unreadable")]
    assert content(out)["a"][1] == ["stir a"]
    assert rows(extract(folder, out, MeanColour())) == [("a", 1, "ok")]


def test_a_copied_corpus_is_whole(tmp_path):
    folder, out, encoder = make(tmp_path / "videos", "ab"), tmp_path / "out", MeanColour()
    extract(folder, out, encoder)
    shutil.copytree(out, tmp_path / "copy", copy_function=shutil.copyfile)
    shutil.copytree(folder, tmp_path / "elsewhere", copy_function=shutil.copyfile)
    assert rows(extract(tmp_path / "elsewhere", tmp_path / "copy", encoder)) == [("a", 1, "ok"), ("b", 2, "ok")]
    assert encoder.seconds == 3


def test_the_encoder_may_be_named_and_its_matrix_comes_along(tmp_path):
    from vclip.encoders.loading import from_spec, load_encoder
    from vclip.encoders.networks import Projection

    folder = make(tmp_path / "videos", "a")
    extract(folder, tmp_path / "named", "efficientnet-lite0")
    encoder = load_encoder("efficientnet-lite0")
    assert Corpus.open(tmp_path / "named").spec == encoder.spec
    projection = Projection(encoder, np.eye(encoder.spec.dim, 4, dtype=np.float32), np.zeros(4, np.float32))
    extract(folder, tmp_path / "projected", projection)
    found = from_spec(Corpus.open(tmp_path / "projected").spec, tmp_path / "projected")
    assert found.spec == projection.spec


def test_what_may_not_be_read_is_named(tmp_path):
    folder = make(tmp_path / "v", ["a", "b"], captions=False)
    make(folder / "shut", ["c"], captions=False)
    make(folder / "listed only", ["d"], captions=False)
    encode_file(folder / "a.mov", MeanColour())  # imports what is imported when first used
    for name, mode in {"b.mov": 0o000, "shut": 0o000, "listed only": 0o444}.items():
        (folder / name).chmod(mode)
    found = {name: Path("v", name) for name in ("a.mov", "b.mov", "listed only/d.mov")}
    try:
        with writing(tmp_path / "out", MeanColour().spec), unprivileged(tmp_path):
            with pytest.warns(UserWarning, match="^left out: 'v/shut' cannot be listed .Permission denied"):
                listed = video_files.video_files(Path("v"))
            with pytest.raises(PermissionError, match="shut"):
                video_files.video_files(Path("v/shut"))
            assert listed == sorted(found.values())
            files = Files(found.values(), tmp_path / "out", stems=False)
            files.videos, files.folder = found, Path("v")
            items = [(Entry(v, *files.place(v), *Content()), file, None) for v, file in found.items()]
            made = [extraction.encode_one(item, MeanColour())[0] for item in items]
    finally:
        for name in ("shut", "listed only"):
            (folder / name).chmod(0o755)
    failed = {entry.video: entry for entry in made if entry.status == "failed"}
    assert sorted(failed) == ["b.mov", "listed only/d.mov"]
    # a mode is changed without a trace in size and time, so such a file is tried again
    assert all("Permission denied" in entry.error and entry.size == -1 for entry in failed.values())


@pytest.mark.parametrize("limit, calls", [(2**28, 1), (100 * 2 * 16 * 16 * 3, 3), (1, 250)])
def test_the_encoder_sees_a_video_at_once_unless_it_is_long(tmp_path, monkeypatch, limit, calls):
    monkeypatch.setattr(extraction, "BYTES_AT_ONCE", limit)
    path, seen = write_video(tmp_path / "v.mov", range(0, 250_000, 1000), grey(*range(250))), []

    class Counting(MeanColour):
        def __call__(self, frames):
            seen.append(frames)
            return super().__call__(frames)

    features = encode_file(path, Counting())[0]
    assert features is not None and len(seen) == calls and sum(map(len, seen)) == len(features) == 250
    np.testing.assert_allclose(features[:, 0], np.arange(250) / 255, atol=1e-3)
    np.testing.assert_array_equal(np.concatenate(seen)[:, 0, 0, 0, 0], np.arange(250))  # none is written over


@pytest.mark.parametrize("fps, size, seconds, blocks", [(3, 128, 120, [56, 56, 8]), (30, 224, 3, [1, 1, 1])])
def test_a_video_is_decoded_on_while_its_first_seconds_are_encoded(tmp_path, monkeypatch, fps, size, seconds, blocks):
    """With the seconds of EfficientNet-Lite0 and of S3D."""
    path = write_video(tmp_path / "v.mov", range(0, 1000 * seconds, 1000), grey(*range(seconds)))
    read, seen, more, read_seconds = [], [], threading.Condition(), extraction.read_seconds

    def counted(*arguments):
        for frames in read_seconds(*arguments):
            with more:
                read.append(frames)
                more.notify()
            yield frames

    class Waiting(MeanColour):
        def __call__(self, frames):
            seen.append(len(frames))
            with more:
                most = min(seconds, sum(seen) + blocks[0])
                assert more.wait_for(lambda: len(read) >= most, 10)
            time.sleep(0.02)
            assert len(read) == most
            return super().__call__(frames)

    encoder = Waiting()
    encoder.spec = replace(encoder.spec, fps=fps, size=size)
    monkeypatch.setattr(extraction, "read_seconds", counted)
    assert encode_file(path, encoder)[1] == "" and seen == blocks


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_encoder_that_fails_leaves_no_thread_and_no_open_file(tmp_path, monkeypatch, error):
    """Also while the exception is held, and without waiting for the whole block that is being decoded."""
    path = write_video(tmp_path / "v.mov", range(0, 250_000, 1000), grey(*range(250)))
    read, begun, read_seconds = [], threading.Event(), extraction.read_seconds

    def slowly(*arguments):
        for frames in read_seconds(*arguments):
            read.append(frames)
            if len(read) > 100:
                begun.set()
                time.sleep(0.02)
            yield frames

    class Failing(MeanColour):
        def __call__(self, frames):
            assert begun.wait(10)
            raise error("as asked")

    monkeypatch.setattr(extraction, "read_seconds", slowly)
    monkeypatch.setattr(extraction, "BYTES_AT_ONCE", 100 * 2 * 16 * 16 * 3)
    threads = set(threading.enumerate())
    with pytest.raises(error, match="as asked") as held:
        encode_file(path, Failing())
    assert held.value.__traceback__ and not still_running(threads)
    assert str(path) not in [os.path.realpath(f) for f in Path("/proc/self/fd").iterdir()]
    assert 100 < len(read) < 180  # of the 200 of two blocks


def test_a_second_folder_with_the_same_names_is_refused_and_nothing_is_lost(tmp_path):
    first, second = make(tmp_path / "cam1", "ab"), tmp_path / "cam2"
    second.mkdir()
    write_video(second / "a.mov", range(0, 3000, 500), grey(*[200] * 6))
    extract(first, tmp_path / "out", MeanColour())
    before = content(tmp_path / "out")
    with pytest.raises(ValueError, match=r"cam2/a.mov and .*cam1/a.mov have one id, 'a': rename one"):
        extract(second, tmp_path / "out", MeanColour())
    assert content(tmp_path / "out") == before


def test_a_codec_that_nobody_knows_costs_a_row(tmp_path):
    folder = make(tmp_path / "videos", "a")
    data = (minihowto() / "videos" / "test0000.mp4").read_bytes()
    (folder / "b.mp4").write_bytes(data.replace(b"avc1", b"zzzz"))
    a, b = extract(folder, tmp_path / "out", MeanColour())
    assert (a.status, b.status) == ("ok", "failed") and "unknown codec" in b.error


@pytest.mark.parametrize(
    "error", [AttributeError, TypeError, MemoryError, ZeroDivisionError, OverflowError, KeyError, RecursionError]
)
def test_whatever_a_reader_meets_costs_one_file_or_its_captions(tmp_path, monkeypatch, error):
    folder, out, open_file = make(tmp_path / "videos", "ac"), tmp_path / "out", av.open
    film(folder / "b.mkv", ("subrip", Disposition(0), [(1000, 2000, "chop")]))

    def failing(file, *arguments, **options):
        if not file.endswith(".mov"):
            raise error("as asked")
        return open_file(file, *arguments, **options)

    with monkeypatch.context() as broken:
        broken.setattr(av, "open", failing)
        for _ in range(2):
            report = extract(folder, out, MeanColour())
            assert rows(report) == [("a", 1, "ok"), ("b", 0, "failed"), ("c", 2, "ok")]
            assert "b.mkv" in report[1].error and error.__name__ in report[1].error and "as asked" in report[1].error
    film(folder / "b.mkv", ("subrip", Disposition(0), [(2000, 3000, "fry")]))
    assert rows(extract(folder, out, MeanColour()))[1] == ("b", 8, "ok") and content(out)["b"][1] == ["fry"]
    os.utime(folder / "b.mkv", (0, 0))  # its captions alone are read again
    monkeypatch.setattr(av, "open", failing)
    report = extract(folder, out, MeanColour())
    assert rows(report)[1] == ("b", 8, "captions unreadable") and "b.mkv" in report[1].error
    assert content(out)["b"][1] == ["fry"]


def test_a_mended_file_of_the_same_size_and_time_is_read_again(shared, tmp_path):
    """As `cp -p` and `rsync -t` leave it."""
    folder, out = tmp_path / "videos", tmp_path / "out"
    folder.mkdir()
    whole = (shared / "videos/rabbit320.mp4").read_bytes()
    for name, begin in (("failed", 0), ("damaged", len(whole) // 2)):
        (folder / f"{name}.mp4").write_bytes(whole[:begin] + bytes(len(whole) - begin))
    before = {file: file.stat() for file in folder.iterdir()}
    assert [row.status for row in extract(folder, out, MeanColour())] == ["damaged", "failed"]
    for file, found in before.items():
        file.write_bytes(whole)
        os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert rows(extract(folder, out, MeanColour())) == [("damaged", 8, "ok"), ("failed", 8, "ok")]


def test_a_file_that_is_still_copied_is_encoded_again(tmp_path):
    folder, out = make(tmp_path / "videos", ["a"]), tmp_path / "out"
    write_video(tmp_path / "b.mov", range(0, 4000, 500), grey(*range(8)))

    class Copying(MeanColour):
        def __call__(self, frames):
            shutil.copyfile(tmp_path / "b.mov", folder / "a.mov")
            return super().__call__(frames)

    assert rows(extract(folder, out, Copying())) == [("a", 1, "ok")]
    encoder = MeanColour()
    assert rows(extract(folder, out, encoder)) == [("a", 4, "ok")] and encoder.seconds == 4


def test_a_second_folder_with_the_same_names_sizes_and_times_is_refused(tmp_path):
    first, out = make(tmp_path / "cam1", "a"), tmp_path / "out"
    extract(first, out, MeanColour())
    data = bytearray((first / "a.mov").read_bytes())
    data[data.index(b"IDAT") + 8] ^= 1
    (tmp_path / "cam2").mkdir()
    (tmp_path / "cam2/a.mov").write_bytes(data)
    shutil.copystat(first / "a.mov", tmp_path / "cam2/a.mov")
    with pytest.raises(ValueError, match=r"cam2/a.mov and .*cam1/a.mov have one id, 'a'"):
        extract(tmp_path / "cam2", out, MeanColour())
    shutil.copy2(first / "a.mov", tmp_path / "cam2/a.mov")  # a copy is the same video
    encoder = MeanColour()
    assert rows(extract(tmp_path / "cam2", out, encoder)) == [("a", 1, "ok")] and encoder.seconds == 0


@pytest.mark.parametrize("later", ["a.mkv", "sub/a.mov"])
@pytest.mark.parametrize("change", ["none", "replaced", "unreadable"])
def test_a_stem_that_clashes_later_puts_no_file_in_twice(tmp_path, later, change):
    folder, out, encoder = make(tmp_path / "videos", "a"), tmp_path / "out", MeanColour()
    extract(folder, out, encoder)
    before = content(out)["a"]
    (folder / "sub").mkdir()
    write_video(folder / "sub/a.mov", range(0, 3000, 500), grey(*range(200, 206))).rename(folder / later)
    if change == "replaced":
        write_video(folder / "a.mov", range(0, 4000, 500), grey(*range(8)))
    if change == "unreadable":
        (folder / "a.mov").unlink()
        (folder / "a.mov").symlink_to(tmp_path / "a drive that is away")
    report = {row.video: row.status for row in extract(folder, out, encoder)}
    assert report == {"a.mov": "unreadable" if change == "unreadable" else "ok", later: "ok"}
    assert sorted(content(out)) == sorted(["a.mov", later])
    assert encoder.seconds == 1 + 3 + (4 if change == "replaced" else 0)
    if change != "replaced":
        assert content(out)["a.mov"] == before
    (folder / later).unlink()  # then the file has its first id again
    extract(folder, out, encoder)
    assert sorted(content(out)) == sorted(["a", later]) and content(out)["a"][2] == "a.mov"


def contents(folder: Path) -> dict:
    return {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


@pytest.mark.parametrize("what", ["pictures", "created", "index", "run", "file", "loop", "source"])
def test_a_folder_of_another_owner_is_left_as_it_was(tmp_path, what):
    folder, out = make(tmp_path / "videos", "a"), tmp_path / "out"
    if what == "pictures":
        make(out, ["x"])
    elif what == "created":
        Corpus.create(out, MeanColour().spec, [("x", np.ones((2, 3)), None)])
    elif what == "index":
        with writing(out, MeanColour().spec) as store:
            store.remember(folder=["../videos"])
    elif what == "run":
        out.mkdir()
        (out / "config.json").write_text("{}")
    elif what == "file":
        out.write_text("mine")
    elif what == "loop":
        out.symlink_to(out)
    else:
        out = folder
    before = contents(tmp_path)
    for _ in range(2):
        with pytest.raises((FileExistsError, RuntimeError), match=str(out)):
            extract(folder, out, MeanColour())
    assert contents(tmp_path) == before


def test_two_at_once_in_one_folder(tmp_path):
    folder, out = make(tmp_path / "videos", "ab"), tmp_path / "out"

    class Twice(MeanColour):
        def __call__(self, frames):
            with pytest.raises(RuntimeError, match="out is being written by another process: run again"):
                extract(folder, out, MeanColour())
            return super().__call__(frames)

    assert rows(extract(folder, out, Twice())) == [("a", 1, "ok"), ("b", 2, "ok")]


ODD = ["new\nline", "quo'te\"", "[id]", "-dash", "x" * 251, "tail ", "tail.", "a\\b", "%s{0}", "c:d", "*?", "\u202ertl"]
ODD += [os.fsdecode(name) for name in (b"bad\xff", b"\xed\xa0\x80", b"e\xcc\x81" * 80, b"\xc3\xa9")]


def test_videos_of_odd_names_have_their_captions(tmp_path):
    video, folder, out, encoder = (
        make(tmp_path / "one", "a") / "a.mov",
        tmp_path / "v",
        tmp_path / "o\n'[x]",
        MeanColour(),
    )
    folder.mkdir()
    for i, name in enumerate(ODD):
        shutil.copy(video, folder / f"{name}.mov")
        (folder / f"{name}.vtt").write_text(VTT.replace("it", str(i)))
    first = extract(folder, out, encoder)
    assert [row.status for row in first] == ["ok"] * len(ODD) == [row.status for row in extract(folder, out, encoder)]
    assert encoder.seconds == len(ODD) and {file for *_, file in content(out).values()} == {
        os.fsencode(f"{name}.mov").decode("utf-8", "backslashreplace").replace("\\x", "\\udc") for name in ODD
    }
    assert sorted(said for _, (said,), _ in content(out).values()) == sorted(f"stir {i}" for i in range(len(ODD)))
