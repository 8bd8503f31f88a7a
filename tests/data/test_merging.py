import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from stops import Stop, stopping
from test_extraction import MeanColour, content, kill_after, make

from vclip.data import parts, storage
from vclip.data.corpus import Corpus
from vclip.data.extraction import extract, find_videos, is_in_share
from vclip.data.merging import merge
from vclip.encoders import loading

import corpora

NAMES = ["a", "b", "c", "d", "x/a", "x/e", "f"]


def shares_of(folder: Path, out: Path, n: int) -> list[Path]:
    """Corpora of the n shares, each extracted alone."""
    for k in range(1, n + 1):
        extract(folder, out / f"{k}", MeanColour(), (k, n))
    return [out / f"{k}" for k in range(1, n + 1)]


def snapshot(folders: list[Path]) -> dict[Path, tuple[bytes, int]]:
    return {f: (f.read_bytes(), f.stat().st_mtime_ns) for folder in folders for f in folder.rglob("*") if f.is_file()}


def test_shares_become_what_one_machine_extracts(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "SHARD_VIDEOS", 2)
    folder = make(tmp_path / "videos", NAMES)
    (folder / "bad.mov").write_bytes(b"")
    report = extract(folder, tmp_path / "whole", MeanColour())
    shares = shares_of(folder, tmp_path, 3)
    before = snapshot(shares)
    whole, merged = Corpus.open(tmp_path / "whole"), merge(reversed(shares), tmp_path / "merged")
    assert merged.video_ids == whole.video_ids == ["a.mov", "b", "c", "d", "f", "x/a.mov", "e"]
    assert content(tmp_path / "merged") == content(tmp_path / "whole") and merged.spec == whole.spec
    np.testing.assert_array_equal(merged.caption_offsets, whole.caption_offsets)
    by_video = [{row["video"]: row for row in parts.read_report(out)} for out in (whole.path, merged.path)]
    assert by_video[0] == by_video[1] and len(by_video[1]) == 8
    assert snapshot(shares) == before and not list(tmp_path.glob(".*"))
    # one copy on the disk
    inodes = {f.stat().st_ino for share in shares for f in share.glob("features-*")}
    assert {f.stat().st_ino for f in merged.path.glob("features-*")} == inodes and len(inodes) > 3
    # merged, it is a corpus like any other: extract knows what it holds
    encoder = MeanColour()
    assert extract(folder, merged.path, encoder) == report and encoder.seconds == 0
    for share in shares:
        shutil.rmtree(share)
    assert content(merged.path) == content(whole.path)
    assert merged.tokenize(corpora.tokenizer()).tokenizer is not None


def test_a_share_that_never_came_is_made_up_for(tmp_path):
    folder = make(tmp_path / "videos", NAMES)
    shares = shares_of(folder, tmp_path, 2)
    merge(shares[:1], tmp_path / "merged")
    encoder = MeanColour()
    extract(folder, tmp_path / "merged", encoder)
    extract(folder, tmp_path / "whole", MeanColour())
    assert content(tmp_path / "merged") == content(tmp_path / "whole")
    assert encoder.seconds == Corpus.open(shares[1]).seconds.sum() > 0


def test_other_corpora_may_be_merged_too(tmp_path, monkeypatch):
    videos = list(corpora.videos(10))
    monkeypatch.setattr(storage, "SHARD_VIDEOS", 3)
    first = Corpus.create(tmp_path / "1", corpora.spec(), videos[5:], split="train", licence="CC0")
    second = Corpus.create(tmp_path / "2", corpora.spec(), videos[:5], split="train", licence="CC0")
    second.tokenize(corpora.tokenizer())
    monkeypatch.setattr("vclip.data.merging.VIDEOS_AT_ONCE", 4)
    merged = merge([first.path, str(second.path)], tmp_path / "deep/merged")
    assert merged.video_ids == first.video_ids + second.video_ids  # without paths, as given
    assert (merged.split, merged.licence, merged.tokenizer) == ("train", "CC0", None)
    for i, (video, features, captions) in enumerate(videos[5:] + videos[:5]):
        np.testing.assert_array_equal(merged.features(i), features.astype(np.float16))
        found = merged.captions(i)
        assert (merged.video_ids[i], found.text) == (video, captions.text)
        np.testing.assert_array_equal([found.start, found.end], [captions.start, captions.end])
    assert [row["status"] for row in parts.read_report(merged.path)] == ["ok"] * 10


def test_without_links_files_are_copied(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("another disk")

    shares = shares_of(make(tmp_path / "videos", NAMES), tmp_path, 2)
    linked = merge(shares, tmp_path / "linked")
    monkeypatch.setattr(os, "link", refuse)
    copied = merge(shares, tmp_path / "copied")
    assert content(copied.path) == content(linked.path)
    files = [sorted(corpus.path.glob("features-*")) for corpus in (linked, copied)]
    assert [f.read_bytes() for f in files[0]] == [f.read_bytes() for f in files[1]]
    assert not {f.stat().st_ino for f in files[0]} & {f.stat().st_ino for f in files[1]}


def test_a_file_that_is_itself_a_link_is_followed(tmp_path):
    (share,) = shares_of(make(tmp_path / "videos", ["a"]), tmp_path, 1)
    (file,) = share.glob("features-*")
    (tmp_path / "elsewhere").mkdir()
    file.rename(tmp_path / "elsewhere/f.safetensors")
    file.symlink_to("../elsewhere/f.safetensors")
    merged = merge([share], tmp_path / "deep/merged")
    assert not next(merged.path.glob("features-*")).is_symlink() and content(merged.path) == content(share)


def test_a_video_that_failed_on_one_machine_and_not_on_another(tmp_path):
    folder = make(tmp_path / "videos", ["a", "b"])
    whole = (folder / "b.mov").read_bytes()
    (folder / "b.mov").write_bytes(b"")
    extract(folder, tmp_path / "1", MeanColour())
    (folder / "b.mov").write_bytes(whole)
    extract([folder / "b.mov"], tmp_path / "2", MeanColour())
    for order in (["1", "2"], ["2", "1"]):
        merged = merge([tmp_path / name for name in order], tmp_path / f"merged {order[0]}").path
        assert {row["video"]: row["status"] for row in parts.read_report(merged)} == {"a": "ok", "b": "ok"}


def test_shares_without_a_video(tmp_path):
    (tmp_path / "videos").mkdir()
    for name in "ab":
        (tmp_path / f"videos/{name}.mov").write_bytes(b"")
    shares = shares_of(tmp_path / "videos", tmp_path, 4)  # two videos, so two shares have none at all
    assert len(merge(shares, tmp_path / "merged")) == 0
    assert len(parts.read_report(tmp_path / "merged")) == 2


@pytest.mark.long
def test_two_killed_shares_go_on_and_are_merged(tmp_path):
    folder, shares = make(tmp_path / "videos", "abcdefgh"), [tmp_path / "1", tmp_path / "2"]
    done = [kill_after(1, folder, share, (k, 2)) for k, share in enumerate(shares, 1)]
    with pytest.raises(ValueError, match="1 is not finished: call extract"):
        merge(shares, tmp_path / "merged")
    again = MeanColour()
    for k, share in enumerate(shares, 1):
        extract(folder, share, again, (k, 2))
    extract(folder, tmp_path / "whole", MeanColour())
    merge(shares, tmp_path / "merged")
    assert content(tmp_path / "merged") == content(tmp_path / "whole")
    assert again.seconds == sum(i for i, v in enumerate("abcdefgh", 1) if v not in done[0] | done[1])


def test_a_stop_at_any_write_leaves_the_shares_and_no_half_corpus(tmp_path, monkeypatch):
    shares = shares_of(make(tmp_path / "videos", NAMES), tmp_path, 2)
    before = snapshot(shares)
    stop_at = stopping(monkeypatch, (os, "replace"), (os, "link"), (Path, "rename"), (Path, "mkdir"))
    for n in range(1, 50):
        try:
            with stop_at(n):
                merge(shares, tmp_path / "merged")
        except Stop:
            assert not (tmp_path / "merged").exists() and snapshot(shares) == before
        else:
            break
    assert n > 6 and snapshot(shares) == before and not list(tmp_path.glob(".*"))


def test_what_a_killed_merge_left_goes(tmp_path):
    shares = shares_of(make(tmp_path / "videos", NAMES), tmp_path, 2)
    (tmp_path / ".merged.merging").mkdir()
    for name in ("features-00000.safetensors", "features-00099.safetensors", ".videos.parquet.7.tmp"):
        (tmp_path / ".merged.merging" / name).write_text("half")
    merge(shares, tmp_path / "merged")
    merge(shares, tmp_path / "again")
    assert sorted(os.listdir(tmp_path / "merged")) == sorted(os.listdir(tmp_path / "again"))
    assert not list(tmp_path.glob(".*"))


def test_refused(tmp_path):
    folder = make(tmp_path / "videos", ["a", "b"])
    a, both, other, plain = (tmp_path / name for name in ("a", "both", "other", "plain"))
    extract([folder / "a.mov"], a, MeanColour())
    extract(folder, both, MeanColour())
    extract([folder / "b.mov"], other, MeanColour(fps=4))
    plain.mkdir()
    np.save(plain / "c.npy", np.ones((2, 3)))
    val = Corpus.create(tmp_path / "val", MeanColour().spec, [("v", np.ones((2, 3)), None)], split="val").path
    for given, error, message in (
        ([a, other], ValueError, "/a and .*/other were extracted by different loading .fps: 2 against 4"),
        ([a, both], ValueError, "video 'a' is in .*/a and in .*/both: leave one"),
        ([a, a], ValueError, "video 'a' is in .*/a and in .*/a"),
        ([a, val], ValueError, "the split of .*/a is None, that of .*/val 'val'"),
        ([a, plain], FileNotFoundError, "plain holds no corpus.json"),
        ([a, tmp_path / "nowhere"], FileNotFoundError, "nowhere holds no corpus.json"),
        ([], ValueError, "no corpora to merge"),
    ):
        with pytest.raises(error, match=message):
            merge(given, tmp_path / "out")
    with pytest.raises(FileExistsError, match="both is a corpus already.* first name the folder to write"):
        merge([a], both)
    with pytest.raises(FileExistsError, match=f"{tmp_path.name} is not empty"):
        merge([], tmp_path)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))
    (file,) = both.glob("features-*")
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(ValueError, match="features-00000.safetensors is damaged"):
        merge([both], tmp_path / "out")


def test_an_empty_folder_may_be_named_by_a_link_but_not_be_the_current_one(tmp_path, monkeypatch):
    shares = shares_of(make(tmp_path / "videos", ["a", "b"]), tmp_path, 2)
    for name in ("here", "disk"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to("disk", target_is_directory=True)
    linked = merge(shares, tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and content(tmp_path / "disk") == content(linked.path)
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(FileExistsError, match="here is the current folder, which cannot be replaced: name a new one"):
        merge(["../1", "../2"], ".")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("out", ["1/out", "1", "all", "link/out"])
def test_a_corpus_inside_a_share_or_around_one_is_refused(tmp_path, out):
    shares = shares_of(make(tmp_path / "videos", ["a", "b"]), tmp_path / "all", 2)
    for share in shares:
        (tmp_path / share.name).symlink_to(share, target_is_directory=True)
    (tmp_path / "link").symlink_to(shares[0], target_is_directory=True)
    before = snapshot(shares)
    with pytest.raises(ValueError, match="one is inside the other: choose an `out` beside the shares"):
        merge(shares, tmp_path / out)
    assert snapshot(shares) == before and not (tmp_path / "1/out").exists()


def test_a_share_that_lacks_a_file_is_named(tmp_path):
    shares = shares_of(make(tmp_path / "videos", NAMES), tmp_path, 2)
    (file,) = shares[1].glob("features-*")
    file.unlink()
    with pytest.raises(FileNotFoundError, match=f"{file} is missing: copy the folder again, whole, or extract it anew"):
        merge(shares, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("share", ["3/2", "0/2", "1", "a/b", "1/2/3"])
def test_the_command_line_refuses_what_is_no_share(monkeypatch, capsys, share):
    monkeypatch.setattr(sys, "argv", ["vclip.encoders.loading", "videos", "out", "--share", share])
    with pytest.raises(SystemExit):
        loading.main()
    assert f"{share} is no share; of two there are 1/2 and 2/2" in capsys.readouterr().err


@pytest.mark.long
def test_the_commands_of_two_machines(tmp_path):
    folder = make(tmp_path / "videos", NAMES)
    for k in (1, 2):
        options = ["--share", f"{k}/2", "--fps", "2", "--size", "32"]
        command = [sys.executable, "-m", "vclip.encoders.loading", str(folder), str(tmp_path / f"{k}"), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        mine = [video for video in find_videos(folder)[0] if is_in_share(video, (k, 2))]
        assert f"{len(mine)} videos: {len(mine)} ok" in done.stdout and 0 < len(mine) < 7
    command = [sys.executable, "-m", "vclip.data.merging", *(str(tmp_path / name) for name in ("out", "1", "2"))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "7 videos" in done.stdout and len(Corpus.open(tmp_path / "out")) == 7
