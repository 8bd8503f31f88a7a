import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vclip.datasets import howto100m
from vclip.datasets.howto100m import Video


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "annotations" / "howto100m"


def write(file, content):
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
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
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        next(howto100m.captions(tmp_path / "none.json"))


# captions


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
    assert {video_id: rows(c) for video_id, c in howto100m.captions(tmp_path)} == videos


def test_rows_without_text_are_left_out(tmp_path):
    columns = {"start": [0, 1, 2], "end": [1, 2, 3], "text": ["a", None, float("nan")]}
    write(tmp_path / "raw_caption.json", json.dumps({"v": columns}))
    assert [rows(c) for _, c in howto100m.captions(tmp_path)] == [[(0, 1, "a")]]


def test_a_bad_row_costs_a_row(tmp_path):
    columns = {"start": [0, "x"], "end": [1, 2], "text": ["a", "b"]}
    write(tmp_path / "raw_caption.json", json.dumps({"v": columns}))
    with pytest.warns(UserWarning, match="v, row 2: the times 'x' to 2 are not numbers; skipped 1 of 2 captions"):
        assert [rows(c) for _, c in howto100m.captions(tmp_path)] == [[(0, 1, "a")]]


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
