import csv
import gzip
import io
import json
import tarfile

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vclip.data.captions import read_captions
from vclip.datasets import howto100m
from vclip.datasets.howto100m import Video

HEADER = "start,end,text\n"


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "annotations" / "howto100m"


def write(file, content):
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def tar(file, members):
    """A .tar.gz of (name, text) in that order."""
    with tarfile.open(file, "w:gz") as out:
        for name, text in members:
            member = tarfile.TarInfo(name)
            data = text if isinstance(text, bytes) else text.encode()
            member.size = len(data)
            out.addfile(member, io.BytesIO(data))
    return file


def rows(captions):
    return list(zip(captions.start.tolist(), captions.end.tolist(), captions.text, strict=True))


# lists


def test_real_lists(folder):
    subset, full = (howto100m.load(folder, split) for split in ("subset_train", "full_val"))
    assert (len(subset), len(subset.video_ids), len({v.task for v in subset})) == (77363, 77363, 1053)
    assert round(sum(v.seconds for v in subset) / 3600) == 9017
    assert (len(full), len(full.video_ids), len({v.task for v in full})) == (36473, 36473, 1059)
    assert subset[0] == Video("G0f_nSBiHh4", 278, 192.1) and full[2] == Video("PSBDqNjcUyk", 295, 1538.38)
    assert {len(v.video_id) for v in [*subset, *full]} == {11}


def test_real_ids(folder):
    holdout = howto100m.load(folder / "htm_holdout_vid.txt", "holdout")
    assert (len(holdout), len(holdout.video_ids), holdout.tasks) == (1000, 1000, ())
    assert holdout[1] == Video("--1tgx27xrM") and list(howto100m.load(folder, "holdout")) == list(holdout)
    assert repr(holdout) == "HowTo100M holdout: 1000 records of 1000 videos"


def test_lists_of_ids(tmp_path):
    write(tmp_path / "how2_s3d_train.lst", "b\r\na\n\n-c_1\n")
    write(tmp_path / "how2_s3d_val.lst.gz", gzip.compress(b"v"))
    assert howto100m.load(tmp_path).video_ids == ["b", "a", "-c_1"]
    assert howto100m.load(tmp_path, "val").video_ids == ["v"]


@pytest.mark.parametrize(
    ("split", "content", "error"),
    [
        ("full_val", "a.mp4 3\n", "row 1: 2 fields in place of 3"),
        ("full_val", "a.mp4 3 9.5\na 3 9.5\n", "row 2: video_id: the file name is not <video id>.<extension>, not 'a'"),
        ("subset_train", "a.mp4 x 9.5\n", "row 1: task: Input should be a valid integer, .*'x'"),
        ("subset_train", "a.mp4 3 0\n", "row 1: seconds: .*'0'"),
    ],
)
def test_bad_lists_are_named(tmp_path, split, content, error):
    file = write(tmp_path / "list", content)
    with pytest.raises(ValueError, match=error) as raised:
        howto100m.load(file, split)
    assert str(file) in str(raised.value)


def test_absent_files_and_unknown_splits(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"how2_s3d_train\.lst"):
        howto100m.load(tmp_path)
    with pytest.raises(ValueError, match="'test'.*'subset_train'"):
        howto100m.load(tmp_path, "test")
    with pytest.raises(FileNotFoundError, match=r"none\.tar\.gz"):
        next(howto100m.captions(tmp_path / "none.tar.gz"))


# captions


def test_real_captions(folder, tmp_path):
    found = dict(howto100m.captions(folder / "captions.tar.gz"))
    assert (len(found), sum(map(len, found.values()))) == (100, 11173)
    assert sum(len(text.split()) for captions in found.values() for text in captions.text) == 46794
    assert round(sum(captions.end.max() for captions in found.values()) / 3600, 1) == 11.2
    assert {video_id: rows(c) for video_id, c in howto100m.captions(folder)} == {k: rows(c) for k, c in found.items()}
    with tarfile.open(folder / "captions.tar.gz") as real:
        for name in [name for name in real.getnames() if name.endswith(".csv")][::10]:
            file = write(tmp_path / "one.csv", real.extractfile(name).read())
            assert rows(read_captions(file)) == rows(found[name[9:-4]])


times = st.floats(0, 1e5).map(lambda t: round(t, 2))
caption = st.tuples(times, times, st.text(st.characters(codec="utf-8"), min_size=1)).map(
    lambda row: (*sorted(row[:2]), row[2].replace("\r", " ").replace("\0", " "))
)
video_ids = st.from_regex(r"[A-Za-z0-9_-]{11}", fullmatch=True)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(st.dictionaries(video_ids, st.lists(caption, max_size=4), max_size=3))
def test_captions_come_back_as_they_were_written(tmp_path, videos):
    columns = {
        video_id: dict(zip(("start", "end", "text"), map(list, zip(*c, strict=True)), strict=True))
        if c
        else {"start": [], "end": [], "text": []}
        for video_id, c in videos.items()
    }
    write(tmp_path / "raw_caption.json", json.dumps(columns))
    members = []
    for video_id, c in videos.items():
        text = io.StringIO(newline="")
        csv.writer(text).writerows([("start", "end", "text"), *c])
        members.append((f"captions/{video_id}.csv", text.getvalue()))
    tar(tmp_path / "captions.tar.gz", members)
    for name in ("raw_caption.json", "captions.tar.gz"):
        assert {video_id: rows(c) for video_id, c in howto100m.captions(tmp_path / name)} == videos


def test_rows_without_text_are_left_out(tmp_path):
    columns = {"start": [0, 1, 2], "end": [1, 2, 3], "text": ["a", None, float("nan")]}
    write(tmp_path / "raw_caption.json", json.dumps({"v": columns}))
    assert [rows(c) for _, c in howto100m.captions(tmp_path)] == [[(0, 1, "a")]]
    packed = tar(tmp_path / "some.tar.gz", [("v.csv", f"{HEADER}0,1,a\n1,2,\n")])
    assert [(video_id, rows(c)) for video_id, c in howto100m.captions(packed)] == [("v", [(0, 1, "a")])]


def test_a_bad_row_costs_a_row(tmp_path):
    columns = {"start": [0, "x"], "end": [1, 2], "text": ["a", "b"]}
    write(tmp_path / "raw_caption.json", json.dumps({"v": columns}))
    with pytest.warns(UserWarning, match="v, row 2: the times 'x' to 2 are not numbers; skipped 1 of 2 captions"):
        assert [rows(c) for _, c in howto100m.captions(tmp_path)] == [[(0, 1, "a")]]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (f"{HEADER}0,1,a\n3,2,b\n", "row 2: the times '3' to '2' are not seconds with 0 <= start <= end"),
        (f"{HEADER}-1,2,b\n", "row 1: the times '-1' to '2' are not seconds with 0 <= start <= end"),
        (f"{HEADER}0,nan,b\n", "row 1: the times '0' to 'nan' are not seconds"),
        (f"{HEADER}0,1,\xff\n".encode("latin1"), "line 2: byte 0xff is not UTF-8"),
        ("start,end\n0,1\n", "the first line must name the columns start,end,text"),
    ],
)
def test_bad_captions_are_named(tmp_path, content, error):
    packed = tar(tmp_path / "captions.tar.gz", [("captions/u.csv", HEADER), ("captions/v.csv", content)])
    with pytest.raises(ValueError, match=error) as raised:
        list(howto100m.captions(tmp_path))
    assert f"{packed}, captions/v.csv" in str(raised.value)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({"v": {"start": [0], "end": [1]}}, "v: a video's captions are lists start, end, text .*'text'"),
        ({"v": {"start": [0], "end": [1, 2], "text": ["a"]}}, "v: a video's captions are lists .* of one length"),
        ({"v": {"start": [0, 3], "end": [1, 1], "text": ["a", "b"]}}, "v, row 2: the times 3 to 1 are not seconds"),
        ({"v": {"start": ["x"], "end": [4], "text": ["a"]}}, "v, row 1: the times 'x' to 4 are not numbers"),
    ],
)
def test_bad_json_is_named(tmp_path, data, error):
    file = write(tmp_path / "raw_caption.json", json.dumps(data))
    with pytest.raises(ValueError, match=error) as raised:
        list(howto100m.captions(tmp_path))
    assert str(file) in str(raised.value)
