import csv
import io
import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclip.datasets._files import parse_csv, parse_json

field = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=5)
LONE = st.characters(categories=["Cs"])


@dataclass
class Row:
    a: str
    b: str


@dataclass
class Column:
    b: str


@given(st.lists(st.tuples(field, field), max_size=5), st.sampled_from(",\t"))
def test_rows_come_back_as_they_were_written(rows, delimiter):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([("a", "b"), *rows])
    assert [row for _, row in parse_csv(text.getvalue(), "f", Row, delimiter)] == [Row(*row) for row in rows]
    assert [row for _, row in parse_csv(text.getvalue(), "f", Column, delimiter)] == [Column(b) for _, b in rows]


def test_empty_rows_are_passed_over_and_counted():
    headed = list(parse_csv("a,b\n\n1,2\n\n3,4\n", "f", Row))
    assert headed == [("f, row 2", Row("1", "2")), ("f, row 4", Row("3", "4"))]
    assert list(parse_csv("1,2\n", "f", Row, header=False)) == [("f, row 1", Row("1", "2"))]


def test_a_json_file_taken_for_a_csv_is_named_in_a_line():
    text = json.dumps({"sentences": [{"caption": f"a man sings {i}"} for i in range(100_000)]})
    with pytest.raises(ValueError, match=r"f has no column 'a'; its first line is \['{") as raised:
        list(parse_csv(text, "f", Row))
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize("text", ['"a,b\n1,2\n', 'a,b\n"1,2\n3,4\n', 'a,b\n"1,2\n"3,4\n', 'a,b\n"1"x,2\n'])
def test_open_quotes_swallow_nothing(text):
    with pytest.raises(ValueError, match="f, after row 0: .*quote not closed"):
        list(parse_csv(text, "f", Row))


json_values = st.recursive(
    st.none() | st.integers() | st.text(st.characters(codec="utf-8") | st.sampled_from("\\ud8\U0001f600")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(json_values, st.booleans())
def test_whole_characters_are_read(value, ascii):
    assert parse_json(json.dumps(value, ensure_ascii=ascii), "f", Any) == value


@given(st.text(st.characters(codec="utf-8") | st.just("\\")), LONE, st.text(st.characters(codec="utf-8")))
def test_half_characters_are_refused(before, half, after):
    for value in ([before + half + after], {before + half: after}):
        with pytest.raises(
            ValueError, match=r"^f: Invalid JSON: .*surrogate|^f: Invalid JSON: unexpected end of hex escape"
        ):
            parse_json(json.dumps(value), "f", Any)


@pytest.mark.parametrize("text", ['{"a": 1, "b": {}, "a": 1}', '[{"x": {"a": 1, "\\u0061": 2}}]'])
def test_keys_that_occur_twice_are_refused(text):
    with pytest.raises(ValueError, match="f is not valid JSON: the key 'a' occurs twice"):
        parse_json(text, "f", Any)


@pytest.mark.parametrize("text", ["", "{", "[" * 200_000, "9" * 5000])
def test_what_is_not_json_is_refused(text):
    with pytest.raises(ValueError, match="^f is not valid JSON"):
        parse_json(text, "f", Any)
