import pytest

from vclip.moments.files import captions_during, inside, is_there, place_of, present_in, stat_of


def test_paths_that_lead_out_are_refused(tmp_path):
    (tmp_path / "videos/sub").mkdir(parents=True)
    (tmp_path / "videos/sub/a.mp4").touch()
    (tmp_path / "secret.mp4").touch()
    assert inside(tmp_path / "videos", "sub/../sub/a.mp4") == tmp_path / "videos/sub/a.mp4"
    for path in ("../secret.mp4", str(tmp_path / "secret.mp4"), "sub/../../secret.mp4"):
        with pytest.raises(ValueError, match="leads out"):
            inside(tmp_path / "videos", path)
    with pytest.raises(FileNotFoundError, match=r"call update\(\)"):
        inside(tmp_path / "videos", "sub/b.mp4")


def test_where_the_videos_are_seen_from_the_index(tmp_path):
    assert place_of(tmp_path, tmp_path / ".vclip") == ".." and place_of(tmp_path, tmp_path / "a/b") == "../.."
    assert place_of(tmp_path / "videos", tmp_path / "index") == str((tmp_path / "videos").resolve())


def test_present_in(tmp_path):
    for name in ("a.mp4", "b/a.mkv", "b/notes.txt", "._a.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list(present_in(tmp_path)) == ["a.mp4", "b/a.mkv"] and present_in(tmp_path / "b") != {}
    (tmp_path / "empty").mkdir()
    assert present_in(tmp_path / "empty") == {}
    with pytest.raises(FileNotFoundError, match="mount it"):
        present_in(tmp_path / "none")


def test_there_gone_or_changed(tmp_path, recwarn):
    (tmp_path / "a.mp4").write_bytes(b"one")
    before = stat_of(tmp_path / "a.mp4")
    assert is_there(tmp_path, "a.mp4", before) and not recwarn.list
    (tmp_path / "a.mp4").write_bytes(b"other")
    with pytest.warns(UserWarning, match="'a.mp4' has changed"):
        assert is_there(tmp_path, "a.mp4", before)
    (tmp_path / "a.mp4").unlink()
    with pytest.warns(UserWarning, match="'a.mp4' is gone"):
        assert not is_there(tmp_path, "a.mp4", before)


def test_captions_during(tmp_path):
    (tmp_path / "a.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\none\n\n00:04.000 --> 00:06.000\ntwo\n")
    (tmp_path / "b.vtt").write_bytes(b"WEBVTT\n\n\xff\xfe")
    said = {span: captions_during(tmp_path / "a.mp4", *span) for span in ((0, 1), (1, 2), (0, 5), (5, 9), (2, 4))}
    assert list(said.values()) == ["", "one", "one two", "two", ""]
    assert captions_during(tmp_path / "b.mp4", 0, 9) == captions_during(tmp_path / "c.mp4", 0, 9) == ""
