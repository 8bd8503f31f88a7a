"""DiDeMo (Hendricks et al. 2017): Flickr videos of 30 s with descriptions of their moments."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from vclip.datasets._files import find_file, read_json, title
from vclip.datasets._records import Dataset, field, text_field

TASKS = ("moment_retrieval", "paragraph_retrieval")
BLOCKS = 6


@dataclass(frozen=True)
class Description:
    """A sentence about one moment of a video, and the moments that annotators found for it.

    `video_id` is the file's `video`, its extension-like tail included (so are the ids of features). `times` holds a
    pair (first, last) of five-second blocks an annotator, counted from 0, both included. `num_segments` is how many
    blocks the video has, 6 at most; it and `annotation_id` are None where a file lacks them.
    """

    video_id: str
    description: str
    times: tuple[tuple[int, int], ...]
    annotation_id: int | None = None
    num_segments: int | None = None


def load(path: str | Path, split: Literal["train", "val", "test"] = "test") -> Dataset[Description]:
    """The descriptions of one split in the order of its file, from the release's folder or its <split>_data.json.

    Raises FileNotFoundError, or ValueError that names file and row (from 1), for what is not such a file, a missing
    or mistyped column, an empty id or description, and times that are none, no pairs of blocks, end before they start
    or leave the video.
    """
    if split not in ("train", "val", "test"):
        raise ValueError(f"unknown split {split!r}: 'train', 'val' or 'test'")
    file = find_file(path, f"{split}_data.json")
    rows = read_json(file)
    if not isinstance(rows, list):
        raise ValueError(f"{file} is not a list of descriptions: is it {split}_data.json?")
    records = []
    for number, row in enumerate(rows, 1):
        where = f"{file}, row {number}"
        pairs = field(row, "times", list, where)
        known = [key for key in ("annotation_id", "num_segments") if row.get(key) is not None]
        numbers = {key: field(row, key, int, where) for key in known}
        blocks = numbers.get("num_segments", BLOCKS)
        if not 1 <= blocks <= BLOCKS:
            raise ValueError(f"{where}: 'num_segments' is {blocks}, a video has 1 to {BLOCKS} blocks")
        times = tuple(_moment(pair, blocks, where) for pair in pairs)
        if not times:
            raise ValueError(f"{where}: 'times' is empty, no annotator found the moment")
        video_id, description = text_field(row, "video", where), text_field(row, "description", where)
        records.append(Description(video_id, description, times, **numbers))
    return Dataset(title("DiDeMo", file), split, records, TASKS)


def _moment(pair: Any, blocks: int, where: str) -> tuple[int, int]:
    if not isinstance(pair, list) or len(pair) != 2 or any(type(block) is not int for block in pair):
        raise ValueError(f"{where}: {pair!r} in 'times' is not a pair of block numbers")
    first, last = pair
    if last < first:
        raise ValueError(f"{where}: the moment {pair!r} in 'times' ends before it starts")
    if first < 0 or last >= blocks:
        raise ValueError(f"{where}: the moment {pair!r} in 'times' leaves the blocks 0 to {blocks - 1} of the video")
    return first, last
