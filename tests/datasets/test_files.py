import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclip.datasets._files import MADE, parse_csv, parse_json, title

field = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=5)
LONE = st.characters(categories=["Cs"])


@given(st.lists(st.tuples(field, field), max_size=5), st.sampled_from(",\t"))
def test_rows_come_back_as_they_were_written(rows, delimiter):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([("a", "b"), *rows])
    read = [row for _, row in parse_csv(text.getvalue(), "f", ("b",), delimiter)]
    assert read == [{"a": a, "b": b} for a, b in rows]


def test_empty_rows_are_passed_over_and_counted():
    headed = list(parse_csv("a,b\n\n1,2\n\n3,4\n", "f", ("a",)))
    assert headed == [("f, row 2", {"a": "1", "b": "2"}), ("f, row 4", {"a": "3", "b": "4"})]
    assert list(parse_csv("1,2\n", "f", ("a", "b"), header=False)) == [("f, row 1", {"a": "1", "b": "2"})]


@pytest.mark.parametrize("text", ['"a,b\n1,2\n', 'a,b\n"1,2\n3,4\n', 'a,b\n"1,2\n"3,4\n', 'a,b\n"1"x,2\n'])
def test_open_quotes_swallow_nothing(text):
    with pytest.raises(ValueError, match="f, after row 0: .*quote not closed"):
        list(parse_csv(text, "f", ("a", "b")))


json_values = st.recursive(
    st.none() | st.integers() | st.text(st.characters(codec="utf-8") | st.sampled_from("\\ud8\U0001f600")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(json_values, st.booleans())
def test_whole_characters_are_read(value, ascii):
    assert parse_json(json.dumps(value, ensure_ascii=ascii), "f") == value


@given(st.text(st.characters(codec="utf-8") | st.just("\\")), LONE, st.text(st.characters(codec="utf-8")))
def test_half_characters_are_refused(before, half, after):
    for value in ([before + half + after], {before + half: after}):
        with pytest.raises(ValueError, match=r"^f is not valid JSON: \\ud[89a-f].. is half a character"):
            parse_json(json.dumps(value), "f")


@pytest.mark.parametrize("text", ['{"a": 1, "b": {}, "a": 1}', '[{"x": {"a": 1, "\\u0061": 2}}]'])
def test_keys_that_occur_twice_are_refused(text):
    with pytest.raises(ValueError, match="f is not valid JSON: the key 'a' occurs twice"):
        parse_json(text, "f")


@pytest.mark.parametrize("text", ["", "{", "[" * 200_000, "9" * 5000])
def test_what_is_not_json_is_refused(text):
    with pytest.raises(ValueError, match="^f is not valid JSON"):
        parse_json(text, "f")


def test_only_marked_files_are_said_to_be_made(tmp_path):
    file = tmp_path / "COIN.json"
    assert title("COIN", file) == title("COIN", tmp_path) == "COIN"
    (tmp_path / MADE).write_text("unseen\n")
    file.touch()
    assert title("COIN", file) == title("COIN", tmp_path) == "MiniHowTo unseen, as COIN"
