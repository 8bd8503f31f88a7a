import json

import pytest

from vclip.search.folder import Content
from vclip.search.state import COPY, INDEX, Entry, State, are_whole, begin, read_state, write_state

ENTRY = Entry("d\udcff.mov", 1, 2, "hash", 3, 1, "ok", "", 0, 0, 2.5)
FILES = {"features-00000.safetensors": Content(5, 6, "digest"), "x.faiss": Content(7, 8, "other")}
STATE = State({"weights": "a"}, "..", 0, FILES, [ENTRY], [ENTRY._replace(status="failed")], "x.faiss")


def test_what_is_written_is_read_again(tmp_path, recwarn):
    begin(tmp_path / "a/index", State({}, "/videos"))
    assert read_state(tmp_path / "a/index") == State({}, "/videos")
    write_state(tmp_path / "a/index", STATE)
    begin(tmp_path / "a/index", State({}, ".."))  # an index that is there stays
    assert read_state(tmp_path / "a/index") == STATE and are_whole(tmp_path / "a/index") and not recwarn.list


@pytest.mark.parametrize(
    "text", [None, "", "{", "7", "[]", "null", "\xff", "{}", '{"videos": [[1]]}', "files", "faiss"]
)
def test_one_of_the_two_files_is_enough(tmp_path, recwarn, text):
    write_state(tmp_path, STATE)
    text = json.dumps(vars(STATE) | {text: [1]}) if text in ("files", "faiss") else text
    for name in (COPY, INDEX):
        if text is None:
            (tmp_path / name).unlink()
        else:
            (tmp_path / name).write_text(text, encoding="latin-1")
        assert read_state(tmp_path) == STATE and not are_whole(tmp_path)
        assert [f"{INDEX} is " in str(w.message) for w in recwarn.list] == [True] * (name == INDEX)
        if name == COPY:
            write_state(tmp_path, STATE)
    if text is None:
        (tmp_path / COPY).unlink()
        with pytest.raises(FileNotFoundError, match="holds no index"):
            read_state(tmp_path)
    else:
        (tmp_path / COPY).write_text(text, encoding="latin-1")
        with pytest.raises(
            ValueError, match="index.json is damaged .* and index.copy.json is damaged .*: put one back"
        ):
            read_state(tmp_path)


def test_an_index_that_has_lost_both_is_not_called_something_else(tmp_path):
    (tmp_path / "features-00003.safetensors").touch()
    for look, error in (
        (lambda: read_state(tmp_path), FileNotFoundError),
        (lambda: begin(tmp_path, STATE), FileExistsError),
    ):
        with pytest.raises(error, match="has lost index.json and index.copy.json: put one back, or remove"):
            look()


def test_something_else_is_left_alone(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thing").touch()
    for path in (tmp_path / "other", tmp_path / "other/thing"):
        with pytest.raises(FileExistsError, match="something else"):
            begin(path, STATE)
    with pytest.raises(FileNotFoundError, match="holds no index"):
        read_state(tmp_path / "other")
    (tmp_path / "half").mkdir()
    (tmp_path / "half/.index.json.7.tmp").touch()
    begin(tmp_path / "half", STATE)
    assert read_state(tmp_path / "half") == STATE
