import os
import re
import shutil
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from permissions import unprivileged
from safetensors.numpy import load_file
from stops import Stop, stopping
from videos import cut, grey, write_video

from vclip.data import extraction, parts, storage
from vclip.data.captions import read_captions
from vclip.data.corpus import Corpus
from vclip.data.extraction import extract, find_captions, find_videos, is_in_share, video_files
from vclip.data.spec import FeatureSpec

from corpora import tokenizer

REAL = {"sam2-coffee": 10, "gnome-launching-applications": 35, "googlework_short": 36, "rabbit320": 8}
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
        write_video(path, range(0, 1000 * i, 500), grey(*[10 * i] * 2 * i))
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
    assert "<td>d\\udcff&lt;i&gt;</td>" in shown and "<i>" not in shown and shown.count("<tr>") == 7
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
    with pytest.raises(FileNotFoundError, match=r"nothing .*\.mp4"):
        extract(tmp_path / "nothing", tmp_path / "other", MeanColour())


def test_captions_beside_the_video(tmp_path):
    video = tmp_path / "a [1].mp4"
    for name in ("a [1].info.json", "a [1]2.vtt", "b.vtt"):
        (tmp_path / name).write_text("")
    assert find_captions(video) is None
    for name in ("a [1].de.vtt", "a [1].en-GB.vtt", "a [1].en.srt", "a [1].csv", "a [1].vtt"):
        (tmp_path / name).write_text("")
        if name.endswith(".de.vtt"):
            assert find_captions(video) == tmp_path / name
        elif ".en" in name:
            assert find_captions(video) == tmp_path / "a [1].en-GB.vtt"
        else:
            assert find_captions(video) == tmp_path / name


@given(st.sets(st.text(st.characters(exclude_categories=["Cs"]), min_size=1)), st.integers(1, 40))
def test_each_video_is_in_one_share(videos, n):
    shares = [{video for video in videos if is_in_share(video, (k, n))} for k in range(1, n + 1)]
    assert sum(map(len, shares)) == len(videos) and set().union(*shares) == videos


def test_shares_are_of_a_size_and_the_same_everywhere():
    sizes = [sum(is_in_share(f"video {i}", (k, 8)) for i in range(8000)) for k in range(1, 9)]
    assert sum(sizes) == 8000 and 850 < min(sizes) <= max(sizes) < 1150  # five standard deviations of 30
    known = {"dQw4w9WgXcQ": 7, "x/a.mov": 3, "9bZkp7q19f0": 7, "zwiebel schälen": 5}
    assert all(is_in_share(video, (k, 8)) for video, k in known.items())


@pytest.mark.parametrize("share", [(0, 2), (3, 2), (1, 0), (1,), (1, 2, 3), ("1", "2"), "12", (1.0, 2.0), True, None])
def test_a_share_that_is_none_is_refused(tmp_path, share):
    with pytest.raises(ValueError, match=re.escape(f"share {share!r} is none: it is (k, n), the k-th of n")):
        extract(make(tmp_path / "videos", ["a"]), tmp_path / "out", MeanColour(), share)
    assert not (tmp_path / "out").exists()


def test_captions_of_the_videos_name_are_found_without_listing_the_folder(tmp_path, monkeypatch):
    (tmp_path / "a.srt").write_text("")
    (tmp_path / "b.en.srt").write_text("")
    listed, iterdir = [], Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda folder: listed.append(folder) or iterdir(folder))
    assert find_captions(tmp_path / "a.mp4") == tmp_path / "a.srt" and listed == []
    assert find_captions(tmp_path / "b.mp4") == tmp_path / "b.en.srt" and listed == [tmp_path]


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
    assert encoder.seconds == 1 and content(tmp_path / "out")["a"][1] == ["stir it"]


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


def test_a_damaged_file_is_tried_again_once_it_was_replaced(shared, tmp_path):
    folder, out = tmp_path / "videos", tmp_path / "out"
    folder.mkdir()
    cut(shared / "videos/rabbit320.mp4", folder / "rabbit.mp4")
    encoder = MeanColour()
    assert rows(extract(folder, out, encoder)) == rows(extract(folder, out, encoder)) == [("rabbit", 5, "damaged")]
    assert encoder.seconds == 5
    shutil.copy(shared / "videos/rabbit320.mp4", folder / "rabbit.mp4")
    assert rows(extract(folder, out, encoder)) == [("rabbit", 8, "ok")]
    corpus = Corpus.open(out)
    assert corpus.features(0).shape == (8, 3) and len(list(out.glob("features-*"))) == 1


def test_what_is_there_is_not_overwritten(tmp_path):
    folder = make(tmp_path / "videos", ["a"])
    with pytest.raises(FileExistsError, match="videos"):
        extract(folder, folder, MeanColour())
    extract(folder, tmp_path / "out", MeanColour(dim=3))
    with pytest.raises(ValueError, match="dim: 3 against 2"):
        extract(folder, tmp_path / "out", MeanColour(dim=2))


@pytest.mark.parametrize("left", ["spec.json.tmp", "1-0.json", "1-0.safetensors"])
def test_what_a_stopped_run_left_half_done_is_swept_away(tmp_path, left):
    folder, work = make(tmp_path / "videos", ["a"]), tmp_path / "out/unmerged"
    work.mkdir(parents=True)
    (work / left).write_text('{"rows": [{"video": "a"}]}')
    assert rows(extract(folder, tmp_path / "out", MeanColour())) == [("a", 1, "ok")]


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


def test_a_stop_at_any_write_loses_at_most_one_video(tmp_path, monkeypatch):
    """Stops before the n-th change of a file, for every n there is, then goes on."""
    folder = make(make(tmp_path / "videos", "abcde"), "f")
    extract(folder, tmp_path / "whole", MeanColour())
    monkeypatch.setattr(storage, "SHARD_VIDEOS", 2)
    stop_at = stopping(monkeypatch, (os, "replace"), (os, "link"), (Path, "unlink"), (shutil, "rmtree"))
    for n in range(1, 200):
        out = tmp_path / str(n)
        extract(folder.glob("[abc].mov"), out, MeanColour())
        first, again = MeanColour(), MeanColour()
        try:
            with stop_at(n):
                extract(folder, out, first)
        except Stop:
            assert rows(extract(folder, out, again)) == [
                (v, 1 if v == "f" else i, "ok") for i, v in enumerate("abcdef", 1)
            ]
            assert 4 + 5 + 1 <= first.seconds + again.seconds <= 4 + 5 + 1 + 5
        else:
            break
        assert content(out) == content(tmp_path / "whole")
        assert not (out / "unmerged").exists()
    assert n > 20


SLOW = """
import sys, time
sys.path[:0] = {tests!r}
from test_extraction import MeanColour, extract

class Slow(MeanColour):
    calls = 0
    def __call__(self, frames):
        self.calls += 1
        while self.calls == {last}:  # here at the latest it is killed
            time.sleep(1)
        time.sleep(0.15)
        return super().__call__(frames)

extract(sys.argv[1], sys.argv[2], Slow(), (int(sys.argv[3]), int(sys.argv[4])))
"""


def kill_after(videos: int, folder: Path, out: Path, share: tuple[int, int] = (1, 1)) -> set[str]:
    """Extract in a process that is killed once it has written so many videos; those that it has finished."""
    tests = [str(Path(__file__).parents[n]) for n in (0, 1)]
    script = SLOW.format(tests=tests, last=videos + 2)
    arguments = [str(folder), str(out), *map(str, share)]
    process = subprocess.Popen([sys.executable, "-c", script, *arguments], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 300
    try:
        while len(list(out.glob("unmerged/*-*.json"))) < videos:
            assert process.poll() is None and time.monotonic() < end
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    return {row["video"] for part in parts.read(out) for row in part.rows}


def test_a_killed_run_goes_on(tmp_path):
    folder, out = make(tmp_path / "videos", "abcdefgh"), tmp_path / "out"
    finished = kill_after(3, folder, out)
    assert {"a", "b", "c"} <= finished < set("abcdefgh") and not (out / "corpus.json").exists()
    encoder = MeanColour()
    assert rows(extract(folder, out, encoder)) == [(v, i, "ok") for i, v in enumerate("abcdefgh", 1)]
    assert encoder.seconds == sum(i for i, v in enumerate("abcdefgh", 1) if v not in finished)
    extract(folder, tmp_path / "whole", MeanColour())
    assert content(out) == content(tmp_path / "whole")


@pytest.mark.long
def test_two_processes_share_the_videos(tmp_path):
    folder = make(tmp_path / "videos", ["a", "b", "x/a", "d", "e"])
    (folder / "c.mov").write_bytes(b"")
    command = ["torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "vclip.encoders.loading"]
    command += [str(folder), str(tmp_path / "two"), "--fps", "2", "--size", "32"]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "0/3" in done.stderr  # the main process has half of the six
    assert done.stdout.count("6 videos: 5 ok, 1 failed") == 1
    from vclip.encoders.networks import EfficientNetLite0

    alone = extract(folder, tmp_path / "one", EfficientNetLite0(2, 32))
    two, one = Corpus.open(tmp_path / "two"), Corpus.open(tmp_path / "one")
    assert two.video_ids == one.video_ids == ["a.mov", "b", "d", "e", "x/a.mov"] and two.spec == one.spec
    for i in range(5):
        np.testing.assert_allclose(two.features(i), one.features(i), atol=2e-3)
        assert two.captions(i).text == one.captions(i).text
    assert [tuple(row) for row in alone] == [
        tuple(row[name] for name in extraction.Row._fields) for row in sorted_rows(tmp_path / "two", alone)
    ]


def sorted_rows(out: Path, report) -> list[dict]:
    order = [row.video for row in report]
    return sorted(parts.read_report(out), key=lambda row: order.index(row["video"]))


def test_a_folder_that_goes_while_it_is_listed_is_not_an_empty_one(tmp_path, monkeypatch):
    make(tmp_path / "videos", ["a"])
    make(tmp_path / "videos" / "sub", ["b"])
    assert [f.name for f in video_files(tmp_path / "videos")] == ["a.mov", "b.mov"]
    walk = os.walk

    def going(folder, **arguments):
        for step, found in enumerate(walk(folder, **arguments)):
            if not step:
                shutil.rmtree(tmp_path / "videos" / "sub")
            yield found

    monkeypatch.setattr(os, "walk", going)
    assert [f.name for f in video_files(tmp_path / "videos")] == ["a.mov"]
    monkeypatch.undo()
    with pytest.raises(FileNotFoundError):
        video_files(tmp_path / "gone")


def test_hidden_files_and_folders_are_left_out(tmp_path):
    make(tmp_path / "v", ["a", ".b"], captions=False)
    make(tmp_path / "v" / ".trash", ["c"], captions=False)
    assert video_files(tmp_path / "v") == [tmp_path / "v" / "a.mov"]


def test_links_are_followed_and_loops_end(tmp_path):
    make(tmp_path / "disk", ["a"], captions=False)
    make(tmp_path / "disk" / "deep", ["b"], captions=False)
    folder = make(tmp_path / "v", ["c"], captions=False)
    make(folder / "sub", ["d"], captions=False)
    for name, target in {"up": "..", "self": ".", "disk": "../disk", "inner": "../disk/deep", "0": "sub"}.items():
        (folder / name).symlink_to(target, target_is_directory=True)
    (tmp_path / "disk" / "back").symlink_to(folder, target_is_directory=True)
    (folder / "e.mov").symlink_to(tmp_path / "disk" / "a.mov")
    (folder / "lost.mov").symlink_to(tmp_path / "nowhere.mov")
    (folder / "round.mov").symlink_to(folder / "round.mov")
    found = [f.relative_to(folder).as_posix() for f in video_files(folder)]
    expected = ["c.mov", "disk/a.mov", "disk/deep/b.mov", "e.mov", "lost.mov", "round.mov", "sub/d.mov"]
    assert found == expected
    report = extract(folder, tmp_path / "out", MeanColour())
    failed = {row.video: row.error for row in report if row.status == "failed"}
    assert sorted(failed) == ["lost", "round"] and "no such file" in failed["lost"]


def test_what_may_not_be_read_is_named(tmp_path):
    folder = make(tmp_path / "v", ["a", "b"], captions=False)
    make(folder / "shut", ["c"], captions=False)
    make(folder / "listed only", ["d"], captions=False)
    extract(folder, tmp_path / "before", MeanColour())  # imports what is imported when first used
    for name, mode in {"b.mov": 0o000, "shut": 0o000, "listed only": 0o444}.items():
        (folder / name).chmod(mode)
    try:
        with unprivileged(tmp_path):
            unlisted = []
            found = video_files(Path("v"), unlisted)
            with pytest.raises(PermissionError, match="shut"):
                video_files(Path("v"))
            rows = [extraction.extract_one(f.name, f, MeanColour())[0] for f in found]
    finally:
        for name in ("shut", "listed only"):
            (folder / name).chmod(0o755)
    assert [error.filename for error in unlisted] == ["v/shut"]
    assert [(row.video, row.status) for row in rows] == [("a.mov", "ok"), ("b.mov", "failed"), ("d.mov", "failed")]
    assert all("Permission denied" in row.error for row in rows[1:])


@pytest.mark.parametrize("limit, calls", [(2**28, 1), (100 * 2 * 16 * 16 * 3, 3), (1, 250)])
def test_the_encoder_sees_a_video_at_once_unless_it_is_long(tmp_path, monkeypatch, limit, calls):
    monkeypatch.setattr(extraction, "BYTES_AT_ONCE", limit)
    path, seen = write_video(tmp_path / "v.mov", range(0, 250_000, 1000), grey(*range(250))), []

    class Counting(MeanColour):
        def __call__(self, frames):
            seen.append(frames)
            return super().__call__(frames)

    features = extraction.extract_one("v", path, Counting())[1]
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
                assert more.wait_for(lambda: len(read) >= most, 60)
            time.sleep(0.02)
            assert len(read) == most
            return super().__call__(frames)

    encoder = Waiting()
    encoder.spec = replace(encoder.spec, fps=fps, size=size)
    monkeypatch.setattr(extraction, "read_seconds", counted)
    assert extraction.extract_one("v", path, encoder)[0].status == "ok" and seen == blocks


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_encoder_that_fails_leaves_no_thread_and_no_open_file(tmp_path, monkeypatch, error):
    """Also while the exception is held, and without waiting for the whole block that is being decoded."""
    path = write_video(tmp_path / "v.mov", range(0, 250_000, 1000), grey(*range(250)))
    read, begun, failed, read_seconds = [], threading.Event(), threading.Event(), extraction.read_seconds

    def slowly(*arguments):
        for frames in read_seconds(*arguments):
            read.append(frames)
            if len(read) > 100:
                begun.set()
                assert failed.wait(60)
                time.sleep(0.2)  # so the rest of the block would take 16 s
            yield frames

    class Failing(MeanColour):
        def __call__(self, frames):
            assert begun.wait(60)
            failed.set()
            raise error("as asked")

    monkeypatch.setattr(extraction, "read_seconds", slowly)
    monkeypatch.setattr(extraction, "BYTES_AT_ONCE", 100 * 2 * 16 * 16 * 3)
    threads = set(threading.enumerate())
    with pytest.raises(error, match="as asked") as held:
        extraction.extract_one("v", path, Failing())
    assert held.value.__traceback__ and set(threading.enumerate()) <= threads
    assert str(path) not in [os.path.realpath(f) for f in Path("/proc/self/fd").iterdir()]
    assert 100 < len(read) < 180  # of the 200 of two blocks
