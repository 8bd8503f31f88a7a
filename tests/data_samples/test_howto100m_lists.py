import gzip

import howto100m_lists
import pytest
from howto100m_lists import Video


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "annotations" / "howto100m"


def write(file, content):
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


# lists


def test_real_lists(folder):
    subset, full = (howto100m_lists.load(folder, split) for split in ("subset_train", "full_val"))
    assert (len(subset), len(subset.video_ids), len({v.task for v in subset})) == (77363, 77363, 1053)
    assert round(sum(v.seconds for v in subset) / 3600) == 9017
    assert (len(full), len(full.video_ids), len({v.task for v in full})) == (36473, 36473, 1059)
    assert subset[0] == Video("G0f_nSBiHh4", 278, 192.1) and full[2] == Video("PSBDqNjcUyk", 295, 1538.38)
    assert {len(v.video_id) for v in [*subset, *full]} == {11}


def test_real_ids(folder):
    holdout = howto100m_lists.load(folder / "htm_holdout_vid.txt", "holdout")
    assert (len(holdout), len(holdout.video_ids), holdout.tasks) == (1000, 1000, ())
    assert holdout[1] == Video("--1tgx27xrM") and list(howto100m_lists.load(folder, "holdout")) == list(holdout)
    assert repr(holdout) == "HowTo100M holdout: 1000 records of 1000 videos"


def test_lists_of_ids(tmp_path):
    write(tmp_path / "how2_s3d_train.lst", "b\r\na\n\n-c_1\n")
    write(tmp_path / "how2_s3d_val.lst.gz", gzip.compress(b"v"))
    assert howto100m_lists.load(tmp_path).video_ids == ["b", "a", "-c_1"]
    assert howto100m_lists.load(tmp_path, "val").video_ids == ["v"]


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
        howto100m_lists.load(file, split)
    assert str(file) in str(raised.value)


def test_absent_files_and_unknown_splits(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"how2_s3d_train\.lst"):
        howto100m_lists.load(tmp_path)
    with pytest.raises(ValueError, match="'test'.*'subset_train'"):
        howto100m_lists.load(tmp_path, "test")
