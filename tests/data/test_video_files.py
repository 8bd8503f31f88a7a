import os
import re
import shutil
import unicodedata
import warnings

import av
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_extraction import MeanColour, make
from videos import grey, write_sound, write_video

from vclip.data.extraction import extract
from vclip.data.video_files import Files, find_captions, is_in_shard, listing, video_files


def test_captions_beside_the_video(tmp_path):
    video = tmp_path / "a [1].mp4"
    for name in ("a [1].info.json", "a [1]2.vtt", "b.vtt"):
        (tmp_path / name).write_text("")
    assert find_captions(video) is None
    for name in ("a [1].de.vtt", "a [1].en-GB.vtt", "a [1].en.srt", "a [1].csv", "a [1].vtt"):
        (tmp_path / name).write_text("")
        assert find_captions(video) == tmp_path / name
    (tmp_path / "a [1].vtt").unlink()
    (tmp_path / "a [1].vtt").mkdir()
    assert find_captions(video) == tmp_path / "a [1].csv"
    assert find_captions(tmp_path / "gone" / "a.mp4") is None


def test_capitals_and_translations(tmp_path):
    for name in ("DJI_1.SRT", "b.EN.VTT", "talk.de.vtt", "talk.en-de.vtt", "talk.en.vtt"):
        (tmp_path / name).write_text("")
    for video, captions in {"DJI_1.MP4": "DJI_1.SRT", "b.mov": "b.EN.VTT", "talk.mp4": "talk.en.vtt"}.items():
        assert find_captions(tmp_path / video) == tmp_path / captions


@pytest.mark.parametrize(
    "name",
    ["talk.mp4.srt", "talk.wav.srt", "talk.m4a.en.vtt", "talk.English.srt", "talk.en.sdh.SRT", "talk.en_US.vtt"]
    + ["talk.eng.srt", "talk.en-US.vtt", "talk.fil.vtt", "talk.deu.sdh.srt", "talk.zh-Hans.vtt"]
    + ["talk.forced.srt", "talk.pt-BR.cc.vtt", "talk.tsv", "talk.en.json3"],
)
def test_names_that_programs_and_people_give(tmp_path, name):
    (tmp_path / name).touch()
    assert find_captions(tmp_path / "talk.mp4") == tmp_path / name


def test_files_of_other_kinds_and_of_another_video_are_left(tmp_path):
    for name in ("talk.info.json", "talk.live_chat.json", "talk.mkv.srt", "talk.part2.srt", "talk.mp4", "talking.srt"):
        (tmp_path / name).touch()
    for name in (
        "talk.two.srt",
        "talk.ts.srt",
        "talk.mov.vtt",
        "talk.raw.en.vtt",
        "talk.two-part.srt",
        "talk.old.json",
    ):
        (tmp_path / name).touch()
    assert find_captions(tmp_path / "talk.mp4") is None
    assert find_captions(tmp_path / "talk.mkv") == tmp_path / "talk.mkv.srt"


@pytest.mark.parametrize(
    "best_first",
    [
        [
            "a.vtt",
            "a.en.vtt",
            "a.en-GB.vtt",
            "a.en-orig.vtt",
            "a.de.vtt",
            "a.de-orig.vtt",
            "a.en-de.vtt",
            "a.en.forced.vtt",
        ],
        ["a.en.vtt", "a.en.auto.vtt", "a.en-zh-Hans.vtt"],
        ["a.zh-Hans.vtt", "a.en-zh.vtt"],
        ["a.en-us.srt", "a.de.vtt"],
    ],
)
def test_written_before_recognised_before_translated(tmp_path, best_first):
    for name in reversed(best_first):
        (tmp_path / name).touch()
        assert find_captions(tmp_path / "a.mp4") == tmp_path / name


@pytest.mark.parametrize(("video", "captions"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_apart_from_their_letters(tmp_path, video, captions):
    video, captions = (unicodedata.normalize(form, "crème brûlée") for form in (video, captions))
    for name in (captions, "crema", "creme", "crèmes", "zz"):
        (tmp_path / f"{name}.en.srt").touch()
    assert find_captions(tmp_path / f"{video}.mp4") == tmp_path / f"{captions}.en.srt"


@given(st.sets(st.text(st.characters(exclude_categories=["Cs"]), min_size=1)), st.integers(1, 40))
def test_each_video_is_in_one_shard(videos, n):
    shards = [{video for video in videos if is_in_shard(video, (k, n))} for k in range(1, n + 1)]
    assert sum(map(len, shards)) == len(videos) and set().union(*shards) == videos


def test_shards_are_of_a_size_and_the_same_everywhere():
    sizes = [sum(is_in_shard(f"video {i}", (k, 8)) for i in range(8000)) for k in range(1, 9)]
    assert sum(sizes) == 8000 and 850 < min(sizes) <= max(sizes) < 1150  # five standard deviations of 30
    assert [is_in_shard(unicodedata.normalize("NFD", "zwiebel schälen"), (k, 8)) for k in range(1, 9)].index(True) == 4
    known = {"dQw4w9WgXcQ": 7, "x/a.mov": 3, "9bZkp7q19f0": 7, "zwiebel schälen": 5}
    assert all(is_in_shard(video, (k, 8)) for video, k in known.items())


@given(
    st.lists(st.text("ab./-\u0301\U0001f600", min_size=1, max_size=4), max_size=8),
    st.text("ab", min_size=1, max_size=3),
)
def test_a_listing_gives_what_the_folder_does(tmp_path_factory, others, stem):
    folder = tmp_path_factory.mktemp("v")
    for other in (name for name in others if "/" not in name and name.strip(".")):
        (folder / f"{other}.vtt").touch()
    expected = {f for f in folder.iterdir() if f.name == f"{stem}.vtt" or f.name.startswith(f"{stem}.")}
    found = find_captions(folder / f"{stem}.mp4", listing(folder))
    assert found == find_captions(folder / f"{stem}.mp4") and (found is None or found in expected)
    assert (found is not None) >= (folder / f"{stem}.vtt").exists()


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


def test_a_file_of_an_unknown_suffix_is_a_video_if_ffmpeg_finds_two_frames(tmp_path):
    times, pictures = (0, 500, 1000), grey(0, 100, 200, size=(32, 32))
    for suffix, codec, pixels in (("gif", "gif", "rgb8"), ("mov", "png", "rgb24"), ("mkv", "ffv1", "bgr0")):
        write_video(tmp_path / f"moving.{suffix}", times, pictures, codec, pixels)
        write_video(tmp_path / f"still.{suffix}", times[:1], pictures[:1], codec, pixels)
    for name, suffix in (("mov", "qt"), ("mkv", "DIVX")):
        for kind in ("moving", "still"):
            (tmp_path / f"{kind}.{name}").rename(tmp_path / f"{kind}.{suffix}")
    with av.open(str(tmp_path / "song.ogg"), "w") as out:
        write_sound(out, out.add_stream("libopus", rate=8000), 0, 500)
    (tmp_path / "broken.rmvb").write_bytes(b"x" * 5000)
    (tmp_path / "lost.dv").symlink_to(tmp_path / "nowhere")
    with pytest.warns(
        UserWarning, match=r"^6 files in .* hold no moving picture, such as 'broken\.rmvb', 'lost\.dv', "
    ):
        found = video_files(tmp_path)
    assert [f.name for f in found] == ["moving.DIVX", "moving.gif", "moving.qt"]
    report = extract(found, tmp_path / "out", MeanColour())
    assert {row.status for row in report} == {"ok"}


@pytest.mark.parametrize(
    "name",
    ["notes.txt", "a.mp4.asc", "a.ass", "a.NPY", "a.en.vtt", "a.jpg", "a.mp3", "a.json", "list.m3u8", "README"],
)
def test_files_that_are_no_videos_are_not_opened(tmp_path, name):
    make(tmp_path, ["a"], captions=False)
    shutil.copy(tmp_path / "a.mov", tmp_path / name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert video_files(tmp_path) == [tmp_path / "a.mov"]


def test_a_known_suffix_is_not_opened(tmp_path):
    (tmp_path / "a.MP4").write_text("not yet copied")
    assert video_files(tmp_path) == [tmp_path / "a.MP4"]


def test_a_folder_is_found_by_its_own_path_and_pipes_are_left_out(tmp_path):
    (tmp_path / "z/sub").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "z/sub/a.mp4").write_text("")
    (tmp_path / "b/link").symlink_to(tmp_path / "z/sub")
    os.mkfifo(tmp_path / "cam.mp4")
    assert video_files(tmp_path) == [tmp_path / "z/sub/a.mp4"]


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
    assert sorted(failed) == ["lost", "round"] and "No such file" in failed["lost"]


@pytest.mark.parametrize(
    "shard", [(0, 8), (9, 8), (3, 2), (1, 0), (-1, 8), ("1", 8), (1, "8"), (1.5, 8), (1, 2, 3), 3, None, "12"]
)
def test_a_shard_that_is_none_is_refused(tmp_path, shard):
    with pytest.raises(
        ValueError, match=re.escape(f"shard must be (k, n) with 1 <= k <= n, e.g. (1, 2) or (2, 2); got {shard!r}")
    ):
        extract(make(tmp_path / "videos", ["a"]), tmp_path / "out", MeanColour(), shard)
    assert not (tmp_path / "out").exists()


def test_a_folder_is_listed_once_for_the_captions_of_all_its_videos(tmp_path, monkeypatch):
    names = [f"{i:03d}" for i in range(50)]
    for name in names:
        for suffix in (".mp4", ".en.vtt"):
            (tmp_path / f"{name}{suffix}").touch()
    listed, files = [], Files(tmp_path, tmp_path / "out")
    monkeypatch.setattr(os, "listdir", lambda folder, listdir=os.listdir: listed.append(folder) or listdir(folder))
    assert [files.captions(name) for name in names] == [tmp_path / f"{name}.en.vtt" for name in names]
    assert len(listed) == 1
