import subprocess
import sys

from vclip.datasets._records import Dataset
from vclip.datasets.didemo import Description


def test_a_sequence_of_records():
    records = [Description(video_id, "a dog jumps", ((0, 1),)) for video_id in "bab"]
    dataset = Dataset("DiDeMo", "test", records, ["moment_retrieval"], ["c"])
    assert list(dataset) == records and dataset[-1] is records[2] and dataset[1:] == records[1:]
    assert dataset.video_ids == ["b", "a"] and dataset.missing({"b"}) == ["a"]
    assert repr(dataset) == "DiDeMo test: 3 records of 2 videos, 1 listed left out"


def test_the_name_is_light():
    code = "import sys, vclip.datasets; sys.exit(bool({'numpy', 'torch', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
    code = "import sys, vclip.datasets.coin, vclip.datasets.youcook2; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
