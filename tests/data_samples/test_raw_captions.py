import json

import pytest
import raw_captions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def write(file, content):
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


def rows(captions):
    return list(zip(captions.start.tolist(), captions.end.tolist(), captions.text, strict=True))


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
    assert {video_id: rows(c) for video_id, c in raw_captions.captions(tmp_path)} == videos


def test_rows_without_text_are_left_out(tmp_path):
    columns = {"start": [0, 1, 2], "end": [1, 2, 3], "text": ["a", None, float("nan")]}
    write(tmp_path / "raw_caption.json", json.dumps({"v": columns}))
    assert [rows(c) for _, c in raw_captions.captions(tmp_path)] == [[(0, 1, "a")]]


def test_a_bad_row_costs_a_row(tmp_path):
    columns = {"start": [0, "x"], "end": [1, 2], "text": ["a", "b"]}
    write(tmp_path / "raw_caption.json", json.dumps({"v": columns}))
    with pytest.warns(UserWarning, match="v, row 2: the times 'x' to 2 are not numbers; skipped 1 of 2 captions"):
        assert [rows(c) for _, c in raw_captions.captions(tmp_path)] == [[(0, 1, "a")]]


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
        list(raw_captions.captions(tmp_path))
    assert str(file) in str(raised.value)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        next(raw_captions.captions(tmp_path / "none.json"))
