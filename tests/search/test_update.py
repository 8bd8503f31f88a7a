import os
import shutil
import tempfile
import warnings
from pathlib import Path

import indexes
import pytest
from filelock import FileLock
from kills import killed
from permissions import unprivileged
from test_index import QUERY, SECONDS, same

from vclip.data import storage
from vclip.data.corpus import Corpus
from vclip.data.feature_store import writing
from vclip.search.index import MomentIndex


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = indexes.folder(tmp_path_factory.mktemp("made") / "videos", SECONDS)
    MomentIndex.build(indexes.clip(), folder)
    return folder


@pytest.fixture
def folder(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "videos")


@pytest.fixture
def clip():
    return indexes.clip()


def test_files_that_change_between_build_and_search(clip, folder):
    index = MomentIndex.open(folder / ".vclip", clip)
    for file in folder.iterdir():
        os.utime(file)
    index.update()  # copied files have another time and the same bytes
    assert clip.encoder.calls == 0 and index.report == []
    before = index.search(QUERY, 100)
    (folder / "video 3.mov").unlink()
    (folder / "video 0.mov").rename(folder / "new name.mov")
    (folder / "video 2.mov").write_bytes((folder / "video 2.mov").read_bytes()[:4000])
    (folder / "video 4.mov").write_bytes(b"\0" * 5000)
    assert index.search(QUERY, 100) == before  # the index is as it was
    assert len(index.explain(next(h for h in before if h.video == "video 3.mov")).scores) == 50
    with pytest.raises(FileNotFoundError, match=r"'video 3.mov' is no longer in .*call update\(\)"):
        index.file("video 3.mov")
    report = {row.video: (row.change, row.status) for row in index.update()}
    assert report == {
        "video 3.mov": ("dropped", "ok"),
        "new name.mov": ("moved", "ok"),
        "video 2.mov": ("changed", report["video 2.mov"][1]),
        "video 4.mov": ("changed", "failed"),
    }
    assert report["video 2.mov"][1] in ("damaged", "failed") and "video 4.mov (0 s) failed" in str(index.report)
    hits = index.search(QUERY, 100)
    assert {"new name.mov", "video 1.mov"} <= {h.video for h in hits} <= {*index.videos}
    assert "video 4.mov" not in index.videos and index.file("new name.mov").is_file()
    with pytest.raises(KeyError, match="search again"):
        index.explain(before[[h.video for h in before].index("video 3.mov")])
    assert [row.change for row in index.update() if row.video == "video 4.mov"] == ["skipped"]
    shutil.rmtree(folder / ".vclip")
    assert same(MomentIndex.build(clip, folder).search(QUERY, 100), hits)


def test_three_hundred_files_of_which_three_change_and_two_go(clip, tmp_path, monkeypatch):
    first = indexes.write(tmp_path / "videos/0000.mov", 2, 0).read_bytes()
    for i in range(1, 300):  # a byte behind the pictures tells them apart
        (tmp_path / f"videos/{i:04d}.mov").write_bytes(first + b"\0\0\0\x0cfree" + i.to_bytes(4, "big"))
    index = MomentIndex.build(clip, tmp_path / "videos", tmp_path / "index")
    assert clip.encoder.calls == len(index) == 300 and len(index.search(QUERY, 50)) == 50
    assert len([*(tmp_path / "index").glob("features-*")]) == 2
    for i in (3, 150, 299):
        indexes.write(tmp_path / f"videos/{i:04d}.mov", 130, i)
    for i in (4, 298):
        (tmp_path / f"videos/{i:04d}.mov").unlink()
    clip.encoder.calls = 0
    report = index.update()
    assert clip.encoder.calls == 3 and repr(report) == "5 videos: 3 changed, 2 dropped"
    assert {row.video for row in report if row.change == "changed"} == {"0003.mov", "0150.mov", "0299.mov"}
    again = MomentIndex.open(tmp_path / "index", clip)
    assert len(again) == 298 and sum(again.corpus.seconds) == 2 * 295 + 3 * 130
    assert same(again.search(QUERY, 9), index.search(QUERY, 9))
    monkeypatch.setattr("vclip.data.feature_store.content_of", None)  # a file that is as it was is not read
    assert again.update() == [] and clip.encoder.calls == 3


def test_captions_that_are_mended_are_read_at_the_next_update(clip, folder):
    index = MomentIndex.open(folder / ".vclip", clip)
    for text, status, said in (
        ("no captions", "captions unreadable", ""),
        ("00:00.000 --> 00:50.000\nhi\n", "ok", "hi"),
    ):
        (folder / "video 3.vtt").write_text(f"WEBVTT\n\n{text}" if said else text)
        assert [tuple(row)[:4] for row in index.update()] == [("video 3.mov", "captions", 50, status)]
        assert {hit.text for hit in index.search(QUERY, 100) if hit.video == "video 3.mov"} == {said}
    assert clip.encoder.calls == 0 and len(Corpus.open(folder / ".vclip").caption_text) == 1


def test_what_a_kill_left_goes_a_second_process_is_told_and_a_folder_may_be_read_only(clip, folder, monkeypatch):
    (inside,) = (folder / ".vclip" / "index").iterdir()
    (inside / ".index.json.1.tmp").write_text("half")
    index = MomentIndex.open(folder / ".vclip", clip)
    index.update()
    assert not [*inside.glob(".*")]
    with (
        FileLock(inside / "index.lock"),
        pytest.raises(RuntimeError, match="being written by another process: run again"),
    ):
        MomentIndex.build(indexes.clip(), Corpus.open(folder / ".vclip"))
    # a process without the right to write: root always has it, so the system's answer is replaced
    monkeypatch.setattr("os.access", lambda path, mode: False)
    monkeypatch.setattr("vclip.data.storage.FileLock", None)
    assert len(MomentIndex.build(indexes.clip(), Corpus.open(folder / ".vclip"))) == 6


def slow_build(folder: str, path: str) -> None:
    storage.SHARD_VIDEOS = 3
    MomentIndex.build(indexes.clip(), folder, path)


@pytest.mark.long
def test_killed_at_any_moment_it_goes_on(clip, tmp_path):
    folder, paths = indexes.folder(tmp_path / "videos", (3, 9, 33, 5, 40, 1)), (tmp_path / str(n) for n in range(99))
    expected = MomentIndex.build(clip, folder, tmp_path / "whole").search(QUERY, 50)

    def finished(_, path):
        fresh = indexes.clip()
        assert same(MomentIndex.open(path, fresh).search(QUERY, 50), expected)
        assert MomentIndex.build(fresh, folder, path).report == [] and fresh.encoder.calls == 0
        assert not list(Path(path).rglob(".*"))

    killed(slow_build, 12, 1.0, finished, lambda: (folder, next(paths)))


def test_what_was_done_before_a_stop_is_not_done_again(tmp_path):
    class Stopped(indexes.Quadrants):
        def __call__(self, frames):
            if self.calls == 2:
                raise KeyboardInterrupt
            return super().__call__(frames)

    folder, clip = indexes.folder(tmp_path / "videos"), indexes.clip()
    with pytest.raises(KeyboardInterrupt):
        MomentIndex.build(indexes.clip(Stopped()), folder)
    with pytest.raises(FileNotFoundError, match="is not finished: call extract or MomentIndex.build again to go on"):
        Corpus.open(folder / ".vclip")
    with pytest.raises(FileNotFoundError, match="holds no index by this model: make one with MomentIndex.build"):
        MomentIndex.open(folder / ".vclip", clip)
    indexes.write(folder / "video 1.mov", 21, 77)  # done before the stop, changed since
    index = MomentIndex.build(clip, folder)
    assert clip.encoder.calls == 5 and index.corpus.seconds.tolist() == [3, 21, 33, 50, 70, 1]
    fresh = MomentIndex.build(clip, folder, tmp_path / "fresh")
    assert same(index.search(QUERY, 50), fresh.search(QUERY, 50))


def test_an_index_that_was_opened_before_an_update_elsewhere(clip, folder, tmp_path):
    other = MomentIndex.build(clip, folder, tmp_path / "other")
    before = other.search(QUERY)
    for i in range(6):
        indexes.write(folder / f"video {i}.mov", 9, 100 + i)
    MomentIndex.open(tmp_path / "other", clip).update()
    assert other.search(QUERY) == before
    other.update()
    assert other.corpus.seconds.tolist() == [9] * 6
    fresh = MomentIndex.build(clip, folder, tmp_path / "fresh")
    assert same(other.search(QUERY, 50), fresh.search(QUERY, 50))


def test_folder_and_index_move_together(clip, folder, tmp_path):
    moved = folder.rename(tmp_path / "elsewhere")
    index = MomentIndex.open(moved / ".vclip", clip)
    assert index.folders == [moved] and index.update() == [] and len(index.search(QUERY)) == 10
    moved.rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError, match="elsewhere'?.*no such folder"):
        index.update()


def test_an_index_elsewhere_follows_its_folder(clip, folder, tmp_path):
    before = MomentIndex.build(clip, folder, tmp_path / "index").search(QUERY, 50)
    moved, clip.encoder.calls = folder.rename(tmp_path / "moved"), 0
    index = MomentIndex.build(clip, moved, tmp_path / "index")
    assert clip.encoder.calls == 0 and index.report == [] and same(index.search(QUERY, 50), before)
    again = MomentIndex.open(tmp_path / "index", clip)
    assert again.folders == [moved] and same(again.search(QUERY, 50), before) and again.update() == []


def test_a_folder_that_is_empty_or_holds_other_videos_empties_no_index(clip, folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no video in"):
        MomentIndex.build(clip, tmp_path / "empty")
    index = MomentIndex.build(clip, folder, tmp_path / "index")
    before, away = index.search(QUERY, 50), folder.rename(tmp_path / "away")
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match="no video in"):
        index.update()
    indexes.write(folder / "other.mov", 4, 9)
    said = "holds none of the 6 videos of .*index: is the drive mounted. If they were deleted on purpose, delete"
    for look in (index.update, lambda: MomentIndex.build(clip, folder, tmp_path / "index")):
        with pytest.raises(FileNotFoundError, match=said):
            look()
    shutil.rmtree(folder)
    away.rename(folder)
    assert index.update() == [] and same(index.search(QUERY, 50), before)


def test_names_are_shown_and_not_trusted(clip, tmp_path):
    strange = b"d\xff<i>.mov"
    video = indexes.write(tmp_path / "<img src=x onerror=alert(1)>.mov", 3, 0)
    shutil.copy(video, os.fsencode(tmp_path) + b"/" + strange)
    (tmp_path / "<b>.mp4").write_bytes(b"")
    index = MomentIndex.build(clip, tmp_path)
    assert index.videos == ["<img src=x onerror=alert(1)>.mov", "d\\udcff<i>.mov"]
    assert os.fsencode(index.file(index.videos[1]).name) == strange
    assert "<b>" not in index.report._repr_html_() and "&lt;b&gt;" in index.report._repr_html_()
    assert len(index.search(QUERY)) == 2 and index.update()[0].video == "<b>.mp4"
    shutil.copy(video, tmp_path / "d\\udcff<i>.mov")
    with pytest.raises(ValueError, match="two files get the id 'd.*udcff<i>.mov': rename"):
        index.update()
    assert len(index.search(QUERY)) == 2


@pytest.mark.parametrize("how", ["lost", "cut"])
@pytest.mark.parametrize("name, calls", [("features", 6), ("vectors", 0)])
def test_what_an_index_loses_is_made_again(clip, folder, how, name, calls):
    index = MomentIndex.open(folder / ".vclip", clip)
    before = index.search(QUERY, 50)
    for mend in (index.update, lambda: MomentIndex.build(clip, folder)):
        (file,) = (folder / ".vclip").rglob(f"{name}-*")
        file.unlink() if how == "lost" else os.truncate(file, file.stat().st_size // 2)
        with pytest.raises((ValueError, FileNotFoundError), match=f"{name}-.* is (missing|damaged)"):
            MomentIndex.open(folder / ".vclip", clip)
        clip.encoder.calls = 0
        if (name, how) == ("features", "cut"):  # it may be the only copy, so nobody deletes it but its owner
            with pytest.raises(ValueError, match="features-.* is damaged .*delete it"):
                mend()
            file.unlink()
        mend()
        assert clip.encoder.calls == calls
        assert same(MomentIndex.open(folder / ".vclip", clip).search(QUERY, 50), before)


def test_a_lost_video_of_a_lost_shard_is_dropped(clip, folder, tmp_path):
    index = MomentIndex.build(clip, folder, tmp_path / "index")
    next((tmp_path / "index").glob("features-*")).unlink()
    (folder / "video 3.mov").unlink()
    assert repr(index.update()) == "6 videos: 5 repaired, 1 dropped" and len(index) == 5


def test_only_new_videos_are_embedded(clip, folder, tmp_path, monkeypatch):
    index, seen, encode = MomentIndex.build(clip, folder, tmp_path / "index"), [], clip.encode_clips
    monkeypatch.setattr(clip, "encode_clips", lambda clips: seen.append(len(clips)) or encode(clips))
    indexes.write(folder / "new.mov", 40, 99)
    (folder / "video 0.mov").unlink()
    index.update()
    assert seen == [2]  # windows of 40 seconds; the others are kept
    fresh = MomentIndex.build(indexes.clip(), folder, tmp_path / "fresh")
    assert same(index.search(QUERY, 50), fresh.search(QUERY, 50))
    index.update()
    assert seen == [2]


def test_a_model_that_is_trained_on_makes_an_index_of_its_own(folder, tmp_path):
    clip = indexes.clip()
    index = MomentIndex.build(clip, folder, tmp_path / "index")
    before = index.search(QUERY, 50)
    for weight in clip.model.parameters():
        weight.data *= 1.5
    index.update()
    assert clip.encoder.calls == 6 and not same(index.search(QUERY, 50), before)
    assert same(MomentIndex.open(tmp_path / "index", indexes.clip()).search(QUERY, 50), before)


def test_counts_are_those_after_the_update(clip, folder):
    index = MomentIndex.open(folder / ".vclip", clip)
    assert repr(index) == "MomentIndex('videos': 6 videos, 0.0 h)"
    (folder / "video 3.mov").unlink()
    indexes.write(folder / "video 1.mov", 34, 4)
    index.update()
    assert repr(index) == "MomentIndex('videos': 5 videos, 0.0 h)" and len(index) == 5
    assert index.videos == [f"video {i}.mov" for i in (0, 1, 2, 4, 5)]
    assert index.corpus.seconds.tolist() == [3, 34, 33, 70, 1]


def two_folders(path) -> list:
    indexes.write(path / "videos/a/one.mov", 20, 0)
    indexes.write(path / "videos/b/deep/one.mov", 33, 1)
    indexes.write(path / "videos/c/other.mov", 5, 2)
    return [path / "videos/a", path / "videos/b"]


def test_several_folders_are_one_index(clip, tmp_path):
    folders = two_folders(tmp_path)
    with pytest.raises(ValueError, match="a file or several folders need path="):
        clip.index(folders)
    index = clip.index(folders, path=tmp_path / "index")
    assert index.videos == ["a/one.mov", "b/deep/one.mov"] and "a, b" in repr(index)
    assert index.file("b/deep/one.mov") == folders[1] / "deep/one.mov"
    assert {hit.video for hit in index.search(QUERY, 50)} == {*index.videos}
    index, clip.encoder.calls = MomentIndex.open(tmp_path / "index", clip), 0
    assert index.folders == folders and index.update() == [] and clip.encoder.calls == 0
    indexes.write(folders[0] / "new.mov", 3, 3)
    (folders[1] / "deep/one.mov").rename(folders[1] / "two.mov")
    report = {row.video: row.change for row in index.update()}
    assert report == {"a/new.mov": "added", "b/two.mov": "moved"} and clip.encoder.calls == 1
    assert index.search(QUERY, 50, "b/*") and "c/other.mov" not in index.videos
    whole = MomentIndex.build(clip, tmp_path / "videos", tmp_path / "whole")
    assert [v for v in whole.videos if v != "c/other.mov"] == index.videos


def test_an_index_of_one_folder_grows_to_two_and_encodes_the_second_alone(clip, tmp_path):
    folders, place = two_folders(tmp_path), tmp_path / "videos/index"  # in the folder that both have in common
    assert clip.index(folders[0], path=place).videos == ["one.mov"]
    clip.encoder.calls = 0
    index = clip.index(folders, path=place)
    assert index.videos == ["a/one.mov", "b/deep/one.mov"] and clip.encoder.calls == 1
    assert sorted((row.video, row.change) for row in index.report) == [
        ("a/one.mov", "moved"),
        ("b/deep/one.mov", "added"),
    ]


@pytest.mark.parametrize("empty", [False, True])
def test_a_drive_that_is_away_takes_no_video_from_an_index(clip, tmp_path, empty):
    folders = two_folders(tmp_path)
    index = clip.index(folders, path=tmp_path / "index")
    before, away = index.search(QUERY, 50), folders[1].rename(tmp_path / "away")
    if empty:  # where it was mounted
        folders[1].mkdir()
    with pytest.raises(FileNotFoundError, match="no video in .*b$" if empty else "b': no such folder or file"):
        index.update()
    assert MomentIndex.open(tmp_path / "index", clip).search(QUERY, 50) == before
    if empty:
        folders[1].rmdir()
    away.rename(folders[1])
    assert index.update() == [] and same(index.search(QUERY, 50), before)


def test_several_folders_move_with_the_index_among_them(clip, tmp_path):
    before = clip.index(two_folders(tmp_path), path=tmp_path / "videos/index").search(QUERY, 50)
    moved = (tmp_path / "videos").rename(tmp_path / "moved")
    index, clip.encoder.calls = MomentIndex.open(moved / "index", clip), 0
    assert index.folders == [moved / "a", moved / "b"] and index.update() == [] and clip.encoder.calls == 0
    assert same(index.search(QUERY, 50), before) and index.file("a/one.mov") == moved / "a/one.mov"


def test_an_index_from_before_several_folders(clip, folder):
    with writing(folder / ".vclip", clip.encoder.spec) as store:
        assert store.meta["folder"] == ["../."]
        store.remember(folder="..")
    index = MomentIndex.open(folder / ".vclip", clip)
    assert index.folders == [folder] and index.update() == [] and clip.encoder.calls == 0
    assert MomentIndex.open(folder / ".vclip", clip).folders == [folder]


def test_one_file_is_an_index_where_it_is_told_to_be(clip, tmp_path):
    file = indexes.write(tmp_path / "a.mov", 20, 0)
    with pytest.raises(ValueError, match="a file or several folders need path="):
        clip.index(file)
    assert clip.index(file, path=tmp_path / "index").videos == ["a.mov"]


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o311])
def test_a_folder_that_is_shut_takes_no_video_from_an_index(clip, made, mode):
    with tempfile.TemporaryDirectory() as place:  # which anybody may enter, unlike pytest's
        folder = shutil.copytree(made, Path(place, "videos"))
        shut = indexes.write(folder / "shut/deep/one.mov", 9, 9).parents[1]
        index = MomentIndex.build(clip, folder)
        before = index.search(QUERY, 50)
        (folder / "video 3.mov").unlink()
        indexes.write(folder / "new.mov", 5, 8)
        for file in folder.rglob("*"):
            file.chmod(0o777)
        folder.chmod(0o777)
        shut.chmod(mode)
        try:
            with unprivileged(Path(place)), warnings.catch_warnings(record=True) as said:
                report = {row.video: row.change for row in index.update()}
        finally:
            shut.chmod(0o755)
        assert "cannot be listed" in str(said[0].message) and "shut" in str(said[0].message)
        assert report == {"new.mov": "added", "video 3.mov": "dropped"}
        assert "shut/deep/one.mov" in index.videos and index.file("shut/deep/one.mov").is_file()
        assert index.update() == [] and {h.video for h in before} - {h.video for h in index.search(QUERY, 50)} == {
            "video 3.mov"
        }
