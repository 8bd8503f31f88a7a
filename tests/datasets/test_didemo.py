import json

import pytest

from vclip.datasets import didemo
from vclip.datasets.didemo import Description

ROW = {
    "annotation_id": 7,
    "video": "12@N00_3_a.avi",
    "description": "a dog jumps",
    "times": [[0, 1], [5, 5], [0, 5]],
    "num_segments": 6,
    "dl_link": "none",
}


def release(folder, *rows):
    (folder / "test_data.json").write_text(json.dumps(list(rows)))
    return folder


@pytest.mark.parametrize(("split", "records", "videos"), [("test", 4021, 1037), ("val", 4180, 1094)])
def test_real_counts(shared, split, records, videos):
    folder = shared / "annotations" / "didemo"
    data = didemo.load(folder, split)
    assert (len(data), len(data.video_ids)) == (records, videos)
    assert repr(data) == f"DiDeMo {split}: {records} records of {videos} videos"
    assert len({record.annotation_id for record in data}) == records
    assert {record.num_segments for record in data} == {5, 6}
    assert {len(record.times) for record in data} <= {4, 5, 7}
    assert didemo.load(folder / f"{split}_data.json.gz", split).records == data.records
    with pytest.raises(FileNotFoundError, match="train_data.json"):
        didemo.load(folder, "train")


def test_golden_records(shared):
    folder = shared / "golden" / "zero_shot" / "didemo"
    rows = json.loads((folder / "test_data.json").read_text())
    for record, row in zip(didemo.load(folder), rows, strict=True):
        assert [record.video_id, record.description] == [row["video"], row["description"]]
        assert [list(moment) for moment in record.times] == row["times"]


def test_fields(tmp_path):
    few = {key: ROW[key] for key in ("video", "description", "times")}
    data = didemo.load(release(tmp_path, ROW, few, few | {"num_segments": None, "annotation_id": None}))
    times = ((0, 1), (5, 5), (0, 5))
    assert data[0] == Description("12@N00_3_a.avi", "a dog jumps", times, annotation_id=7, num_segments=6)
    assert data[1] == data[2] == Description("12@N00_3_a.avi", "a dog jumps", times)
    assert data.tasks == ("moment_retrieval", "paragraph_retrieval")
    assert (data.name, data.split, data.video_ids) == ("DiDeMo", "test", ["12@N00_3_a.avi"])


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"times": [[0, 1], [2]]}, "times.1.1: Field required"),
        ({"times": [[0, 1.5]]}, "times.0.1: Input should be a valid integer.*, not 1.5"),
        ({"times": [[0, 0], [3, 2]]}, r"the moment \[3, 2\] is not first <= last among the blocks 0 to 5"),
        ({"times": [[4, 6]]}, r"the moment \[4, 6\] is not first <= last among the blocks 0 to 5"),
        ({"times": [[-1, 2]]}, r"the moment \[-1, 2\] is not first <= last among the blocks 0 to 5"),
        ({"times": [[0, 0], [4, 5]], "num_segments": 5}, r"the moment \[4, 5\] is not .* among the blocks 0 to 4"),
        ({"num_segments": 7}, "num_segments: Input should be less than or equal to 6, not 7"),
        ({"description": " "}, "description: String should match pattern"),
        ({"times": []}, "times: .*at least 1 item"),
        ("video", "video: Field required"),
    ],
)
def test_bad_rows_are_named(tmp_path, change, error):
    bad = {key: value for key, value in ROW.items() if key != change} if isinstance(change, str) else ROW | change
    with pytest.raises(ValueError, match=rf"test_data.json: 1(\.|: ){error}") as raised:
        didemo.load(release(tmp_path, ROW, bad))
    assert str(tmp_path) in str(raised.value)


def test_wrong_files_and_splits_are_named(tmp_path):
    (tmp_path / "test_data.json").write_text('{"database": {}}')
    with pytest.raises(ValueError, match="test_data.json: Input should be a valid array"):
        didemo.load(tmp_path)
    with pytest.raises(ValueError, match="test_data.json: 0: Input should be "):
        didemo.load(release(tmp_path, "a dog"))
    with pytest.raises(ValueError, match="'testing': one of 'train', 'val', 'test'"):
        didemo.load(tmp_path, "testing")
