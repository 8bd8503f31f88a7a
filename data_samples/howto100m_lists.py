"""HowTo100M (Miech et al. 2019): its lists of narrated how-to videos."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field

from vclip.datasets._files import find_file, read_csv, read_text
from vclip.datasets._records import Dataset, check_split

IDS = {"train": "how2_s3d_train.lst", "val": "how2_s3d_val.lst", "holdout": "htm_holdout_vid.txt"}
LISTS = {"subset_train": "howto100m_subset_train.csv", "full_val": "howto100m_full_val.csv"}


@dataclass(frozen=True)
class Video:
    """A video of `seconds` that shows the task of that number; None where the list is of ids alone."""

    video_id: Annotated[str, AfterValidator(lambda file: Path(file).stem)]
    task: Annotated[int, Field(ge=0)] | None = None
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None


def load(path: str | Path, split: str = "train") -> Dataset[Video]:
    """The videos of one list, in its order.

    Args:
        path: the list, gzip or plain, or the folder that holds it.
        split: "train", "val" (MMPT's how2_s3d_*.lst) and "holdout" (htm_holdout_vid.txt) are ids, one a line;
            "subset_train" and "full_val" (howto100m_*.csv) are file names, task numbers and seconds.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "howto100m_full_val.csv").write_text("G0f_nSBiHh4.mp4 278 192.1\\n")
        ...     load(folder, "full_val")[0]
        Video(video_id='G0f_nSBiHh4', task=278, seconds=192.1)
    """
    names = IDS | LISTS
    check_split(split, list(names))
    source = read_text(find_file(path, names[split]))
    if split in IDS:
        return Dataset("HowTo100M", split, [Video(video_id) for video_id in source.text.split()])
    return Dataset("HowTo100M", split, [video for _, video in read_csv(source, Video, " ", header=False)])
