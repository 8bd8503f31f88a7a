from pathlib import Path

import pytest
from permissions import unprivileged
from videos import grey, write_video

from vclip.search.folder import (
    alike,
    captions_during,
    clashing,
    duration_of,
    inside,
    place_of,
    present_in,
    stat_of,
    state_of,
    warn_of,
)


def test_paths_that_lead_out_are_refused(tmp_path):
    (tmp_path / "videos/sub").mkdir(parents=True)
    (tmp_path / "videos/sub/a.mp4").touch()
    (tmp_path / "secret.mp4").touch()
    assert inside(tmp_path / "videos", "sub/../sub/a.mp4") == tmp_path / "videos/sub/a.mp4"
    for path in ("../secret.mp4", str(tmp_path / "secret.mp4"), "sub/../../secret.mp4"):
        with pytest.raises(ValueError, match="leads out"):
            inside(tmp_path / "videos", path)
    assert inside(tmp_path / "videos", "sub/b.mp4") == tmp_path / "videos/sub/b.mp4"  # gone or not
    with pytest.raises(ValueError, match="leads out"):
        state_of(tmp_path / "videos", "../secret.mp4", (0, 0))


def test_where_the_videos_are_seen_from_the_index(tmp_path):
    assert place_of(tmp_path, tmp_path / ".vclip") == ".." and place_of(tmp_path, tmp_path / "a/b") == "../.."
    assert place_of(tmp_path / "videos", tmp_path / "index") == str((tmp_path / "videos").resolve())


def test_present_in(tmp_path):
    for name in ("a.mp4", "b/a.mkv", "b/notes.txt", "._a.mp4", ".trash/c.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert present_in(tmp_path) == ({"a.mp4": tmp_path / "a.mp4", "b/a.mkv": tmp_path / "b/a.mkv"}, {})
    (tmp_path / "empty").mkdir()
    assert present_in(tmp_path / "empty") == ({}, {})
    with pytest.raises(FileNotFoundError, match="mount it"):
        present_in(tmp_path / "none")


def test_a_link_that_leads_nowhere_hides_what_was_there(tmp_path):
    (tmp_path / "drive/sub").mkdir(parents=True)
    (tmp_path / "drive/sub/a.mp4").touch()
    videos = tmp_path / "videos"
    (videos / "b").mkdir(parents=True)
    (videos / "b/link").symlink_to(tmp_path / "drive")
    (videos / "other").symlink_to(tmp_path / "nowhere")
    held = ["b/link/sub/a.mp4", "b/gone.mp4", "gone.mp4"]
    assert present_in(videos, held) == ({held[0]: videos / held[0]}, {})
    (tmp_path / "drive").rename(tmp_path / "away")
    assert present_in(videos, held) == ({}, {"b/link": "is a link that leads nowhere: is its drive away?"})
    assert present_in(videos, held[1:]) == ({}, {})


def test_the_same_changed_or_gone(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"one")
    before = stat_of(tmp_path / "a.mp4")
    assert state_of(tmp_path, "a.mp4", before) == "same"
    (tmp_path / "a.mp4").write_bytes(b"other")
    assert state_of(tmp_path, "a.mp4", before) == "changed"
    (tmp_path / "a.mp4").unlink()
    assert state_of(tmp_path, "a.mp4", before) == "gone"


def test_one_warning_for_all(recwarn):
    warn_of([], "gone")
    warn_of(["a", "d\udcff"], "gone")
    warn_of([*"abcdefg"], "changed")
    said = [str(warning.message) for warning in recwarn.list]
    assert said == ["gone: 'a', 'd\\\\udcff'; call update()", "changed: 'a', 'b', 'c' and 4 more; call update()"]


def test_a_folder_that_may_not_be_listed_is_named(tmp_path):
    for name in ("a.mp4", "b/c/a.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b/c").chmod(0)
    try:
        with unprivileged(tmp_path):
            assert present_in(Path(".")) == ({"a.mp4": Path("a.mp4")}, {"b/c": "cannot be listed (Permission denied)"})
    finally:
        (tmp_path / "b/c").chmod(0o755)


def test_names_that_look_alike():
    composed, decomposed = "caf\xe9.mp4", "cafe\u0301.mp4"
    assert alike([composed, "a.mp4", decomposed, "A.mp4", "b.mp4", "CAF\xc9.mp4"]) == {
        composed: "CAF\xc9.mp4",
        decomposed: composed,
        "CAF\xc9.mp4": decomposed,
        "a.mp4": "A.mp4",
        "A.mp4": "a.mp4",
    }
    assert alike(["a.mp4", "b/a.mp4", "d\udcff.mp4"]) == {}


def test_names_that_print_the_same():
    assert clashing(["d\udcff.mp4", "d\\udcff.mp4", "d.mp4", "caf\xe9.mp4", "cafe\u0301.mp4"]) == {"d\udcff.mp4"}
    assert clashing(["d\udcff.mp4", "d\udcfe.mp4"]) == clashing([]) == set()


def test_a_video_ends_within_its_last_second(tmp_path):
    path = write_video(tmp_path / "a.mov", [0, 500, 1000, 1500, 2000], grey(1, 2, 3, 4, 5))
    assert duration_of(path, 3) == pytest.approx(2.5, abs=0.01) and duration_of(path, 2) == 2.0
    assert duration_of(path, 9) == 9.0  # what the container says cannot be right
    (tmp_path / "b.mov").write_bytes(b"no video")
    assert duration_of(tmp_path / "b.mov", 4) == duration_of(tmp_path / "gone.mov", 4) == 4.0


def test_captions_during(tmp_path):
    (tmp_path / "a.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\none\n\n00:04.000 --> 00:06.000\ntwo\n")
    (tmp_path / "d.json").write_text('{"start": [0], "end": [9], "text": ["half \\ud83d"]}')
    assert captions_during(tmp_path / "d.mp4", 0, 9) == "half \\ud83d"
    said = {span: captions_during(tmp_path / "a.mp4", *span) for span in ((0, 1), (1, 2), (0, 5), (5, 9), (2, 4))}
    assert list(said.values()) == ["", "one", "one two", "two", ""]
    assert captions_during(tmp_path / "c.mp4", 0, 9) == captions_during(tmp_path / "none/c.mp4", 0, 9) == ""


def test_captions_are_read_once_until_they_change(tmp_path, monkeypatch):
    from vclip.data import captions

    reads, read = [], captions.read_captions
    monkeypatch.setattr("vclip.data.captions.read_captions", lambda path: reads.append(path) or read(path))
    (tmp_path / "a.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\none\n")
    assert [captions_during(tmp_path / "a.mp4", *span) for span in ((0, 3), (0, 1), (1, 2))] == ["one", "", "one"]
    assert reads == [tmp_path / "a.vtt"]
    (tmp_path / "a.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\ntwo!\n")
    assert captions_during(tmp_path / "a.mp4", 0, 3) == "two!" and len(reads) == 2


def test_damaged_captions_are_said_once(tmp_path, recwarn):
    (tmp_path / "b.vtt").write_bytes(b"WEBVTT\n\n\xff\xfe")
    assert captions_during(tmp_path / "b.mp4", 0, 9) == captions_during(tmp_path / "b.mp4", 5, 9) == ""
    (warning,) = recwarn.list
    assert "no captions" in str(warning.message) and "b.vtt" in str(warning.message)
