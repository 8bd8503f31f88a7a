"""DiDeMo (Hendricks et al. 2017): Flickr videos of 30 s with descriptions of their moments."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from vclip.datasets._files import Rows, Text, find_file, read_json, read_text
from vclip.datasets._records import Dataset, check_split

TASKS = ("moment_retrieval", "paragraph_retrieval")
BLOCKS = 6


@dataclass(frozen=True)
class Description:
    """A sentence about one moment of a video, and the moments that annotators found for it.

    `video_id` is the file's `video`, its extension-like tail included. `times` holds a pair (first, last) of
    five-second blocks an annotator, counted from 0, both included. `num_segments` is how many blocks the video has.
    """

    video_id: Annotated[Text, Field(alias="video")]
    description: Text
    times: Annotated[tuple[tuple[int, int], ...], Field(min_length=1)]
    annotation_id: int | None = None
    num_segments: Annotated[int, Field(ge=1, le=BLOCKS)] | None = None

    def __post_init__(self):
        blocks = self.num_segments or BLOCKS
        for first, last in self.times:
            if not 0 <= first <= last < blocks:
                raise ValueError(f"the moment {[first, last]} is not first <= last among the blocks 0 to {blocks - 1}")


def load(path: str | Path, split: Literal["train", "val", "test"] = "test") -> Dataset[Description]:
    """The descriptions of one split, in the order of its file.

    Args:
        path: the release's folder or its `<split>_data.json`, gzip or plain.

    Example:
        >>> import vclip
        >>> load(vclip.minihowto() / "didemo" / "test")[0].times
        ((0, 2), (0, 1), (0, 1), (0, 1))
    """
    check_split(split, ("train", "val", "test"))
    rows = read_json(read_text(find_file(path, f"{split}_data.json")), Rows[Description])
    return Dataset("DiDeMo", split, rows, TASKS)
