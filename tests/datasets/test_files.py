import csv
import io
import json
import tarfile
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import run_limited

from vclip.datasets._files import Seconds, Segment, Source, Text, read_csv, read_json, read_texts

field = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=5)


@dataclass
class Row:
    a: str
    b: str


@dataclass
class Column:
    b: str


def rows_of(text, kind=Row, *options):
    return [row for _, row in read_csv(Source("f", text), kind, *options)]


@given(st.lists(st.tuples(field, field), max_size=5), st.sampled_from(",\t"))
def test_rows_come_back_as_they_were_written(rows, delimiter):
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows([("a", "b"), *rows])
    assert rows_of(text.getvalue(), Row, delimiter) == [Row(*row) for row in rows]
    assert rows_of(text.getvalue(), Column, delimiter) == [Column(b) for _, b in rows]


def test_empty_rows_are_passed_over():
    headed = list(read_csv(Source("f", "a,b\n\n1,2\n\n3,4\n"), Row))
    assert headed == [("f, row 1", Row("1", "2")), ("f, row 2", Row("3", "4"))]
    assert rows_of("1,2\n", Row, ",", False) == [Row("1", "2")]


def test_a_json_file_taken_for_a_csv_is_named_in_a_line():
    text = json.dumps({"sentences": [{"caption": f"a man sings {i}"} for i in range(100_000)]})
    with pytest.raises(ValueError, match=r"f has no column 'a'; its first line is \['{") as raised:
        rows_of(text)
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('"a,b\n1,2\n', "f, after row 0: .*quote not closed"),
        ('a,b\n1,2\n"1,2\n3,4\n', "f, after row 1: .*quote not closed"),
        ('a,b\n"1"x,2\n', "f, after row 0: .*quote not closed"),
        ("a,b\n1,2\n1,2,3\n", "f, row 2: 3 fields in place of 2"),
        ("a,b\n1\n", "f, row 1: 1 fields in place of 2"),
        ("a\n1\n", "f has no column 'b'"),
        ("", "f has no column 'a'"),
    ],
)
def test_bad_csv_is_named(text, error):
    with pytest.raises(ValueError, match=error):
        rows_of(text)


@dataclass
class Step:
    label: Text
    segment: Segment[Seconds]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"segment": [9, 3]}, r"segment: the second number must not be smaller than the first, not \[9, 3\]"),
        ({"segment": [-1, 3]}, "segment.0: Input should be greater than or equal to 0, not -1"),
        ({"segment": [1, float("nan")]}, "segment.1: Input should be .* not nan"),
        ({"segment": [1]}, "segment.1: Field required"),
        ({"segment": [1, 2, 3]}, "segment: .*at most 2 items"),
        ({"label": None}, "label: Input should be a valid string, not None"),
        ({"label": " "}, "label: String should match pattern .*, not ' '"),
        ({"label": "\ud800"}, "Invalid JSON"),
        ("label", "label: Field required"),
    ],
)
def test_bad_values_are_named(change, error):
    row = {"label": "peel", "segment": [1, 2.5]}
    assert read_json(Source("f", json.dumps([row])), list[Step]) == [Step("peel", (1, 2.5))]
    bad = {k: v for k, v in row.items() if k != change} if isinstance(change, str) else row | change
    with pytest.raises(ValueError, match=rf"^f: (1\.)?{error}"):
        read_json(Source("f", json.dumps([row, bad])), list[Step])


json_values = st.recursive(
    st.none() | st.integers() | st.text(st.characters(codec="utf-8") | st.sampled_from("\\ud8\U0001f600")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(json_values, st.booleans())
def test_whole_characters_are_read(value, ascii):
    assert read_json(Source("f", json.dumps(value, ensure_ascii=ascii)), Any) == value


@pytest.mark.parametrize("text", ["", "{", "[" * 200_000])
def test_what_is_not_json_is_refused(text):
    with pytest.raises(ValueError, match="^f: Invalid JSON"):
        read_json(Source("f", text), Any)


@pytest.mark.parametrize("text", [f"[{'1,' * 600_000}1]", '{"segment": [1, 2], "label": "' + "x" * 10**6])
def test_the_first_of_many_wrong_rows_is_named_in_a_line(tmp_path, text):
    (tmp_path / "f.json").write_text(text)
    script = (
        "import sys; from dataclasses import dataclass; from pathlib import Path; from memory import peak_mb\n"
        "from vclip.datasets._files import Rows, Source, Text, read_json\n"
        "Step = dataclass(type('Step', (), {'__annotations__': {'label': Text}}))\n"
        "text, before = Path(sys.argv[1]).read_text(), peak_mb()\n"
        "try:\n    read_json(Source('f', text), Rows[Step])\n"
        "except ValueError as error:\n    print(peak_mb() - before, len(str(error)))"
    )
    grown, length = map(float, run_limited(script, tmp_path / "f.json").split())
    assert grown < 150 and length < 300


def test_a_long_key_is_quoted_in_a_line():
    with pytest.raises(ValueError, match=r"^f: k*: Input should be") as raised:
        read_json(Source("f", json.dumps({"k" * 10**6: 1})), dict[Text, Step])
    assert len(str(raised.value)) < 400


def test_a_member_far_larger_than_captions_is_refused(tmp_path):
    """A few bytes of gzip, or a sparse member, can stand for any number of zeros."""
    file = tmp_path / "f.tar.gz"
    with tarfile.open(file, "w:gz") as tar:
        member = tarfile.TarInfo("a.csv")
        member.size = 65 * 2**20
        tar.addfile(member, io.BytesIO(bytes(member.size)))
    with pytest.raises(ValueError, match=r"f\.tar\.gz, a\.csv: 68157440 bytes are far more"):
        list(read_texts(file, lambda name: True))


def archive(file, members, kind=tarfile.REGTYPE):
    with tarfile.open(file, "w:gz") as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.size = kind, "/etc/passwd", len(data)
            tar.addfile(member, io.BytesIO(data))
    return file


def test_a_tar_file_becomes_no_path(tmp_path):
    """Names that lead elsewhere stay names, links are passed over, and what nobody wants is not read."""
    inside = tmp_path / "inside"
    inside.mkdir()
    names = ["../a.csv", str(tmp_path / "b.csv"), "captions/c.csv"]
    file = archive(inside / "f.tar.gz", [*((name, b"x") for name in names), ("._a.csv", b"\x00\xff")])
    found = list(read_texts(file, lambda name: name in ("a.csv", "b.csv", "c.csv")))
    assert [name for name, _ in found] == ["a.csv", "b.csv", "c.csv"] and {source.text for _, source in found} == {"x"}
    assert found[0][1].where == f"{file}, ../a.csv" and sorted(tmp_path.rglob("*")) == [inside, file]
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
        assert not list(read_texts(archive(inside / "f.tar.gz", [("a.csv", b"")], kind), lambda name: True))


def test_damaged_archives_and_bytes_are_named(tmp_path):
    digits = b"".join(b"%d" % (i * i * i % 1_000_003) for i in range(100_000))
    whole = archive(tmp_path / "f.tar.gz", [("a.csv", b"1"), ("b.csv", digits)]).read_bytes()
    half = len(whole) // 2
    for content in (whole[:half], whole[:600] + bytes(40) + whole[640:], b"nonsense", b""):
        (tmp_path / "f.tar.gz").write_bytes(content)
        with pytest.raises(ValueError, match=r"f\.tar\.gz is a damaged tar file"):
            list(read_texts(tmp_path / "f.tar.gz", lambda name: True))
    with pytest.raises(ValueError, match=r"f\.tar\.gz, a\.csv, line 2: byte 0xff is not UTF-8"):
        list(read_texts(archive(tmp_path / "f.tar.gz", [("a.csv", b"1\n2\xff\n")]), lambda name: True))
