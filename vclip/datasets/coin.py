"""COIN (Tang et al. 2019): instructional videos of 180 tasks, cut into steps with Outside time between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from vclip.datasets._files import Release, Rows, Seconds, Text, find_file, read_json, read_text
from vclip.datasets._files import Segment as Span
from vclip.datasets._records import Dataset, check_split

FILE = "COIN.json"
TASKS = ("segmentation",)


@dataclass(frozen=True)
class Segment:
    """Seconds `start` to `end` of a video, in which the step with id `label` (from 1) is done."""

    start: float
    end: float
    label: int


@dataclass(frozen=True)
class Video:
    """A video of `seconds` showing `task` (number `recipe_type`), with steps in file order; None if not in the file."""

    video_id: str
    seconds: float | None
    task: str | None
    recipe_type: int | None
    segments: tuple[Segment, ...]


class COIN(Dataset[Video]):
    """The videos of one split, with the steps of all: ids `labels` 1 to K, and `texts[k - 1]` what step k is called.

    Two steps of different tasks can have the same text: the real 778 ids have 749.
    """

    def __init__(self, split: str, records: Sequence[Video], texts: Sequence[str]):
        super().__init__("COIN", split, records, TASKS)
        self.labels, self.texts = list(range(1, len(texts) + 1)), list(texts)


@dataclass
class _Step:
    id: Annotated[int, Field(ge=1)]
    label: Text
    segment: Span[Seconds]


@dataclass
class _Video:
    subset: str
    annotation: Rows[_Step]
    duration: float | None = None
    task: Annotated[str | None, Field(alias="class")] = None
    recipe_type: int | None = None


def load(path: str | Path, split: Literal["testing", "training"] = "testing") -> COIN:
    """The videos of one split, with the steps of all videos of the testing subset (MMPT dsprocessor.py:661-805).

    Args:
        path: the release's folder or its COIN.json, gzip or plain.

    Example:
        >>> import vclip
        >>> load(vclip.minihowto() / "coin" / "test")[0].segments[0]
        Segment(start=8.0, end=16.0, label=45)
    """
    check_split(split, ("testing", "training"))
    file = find_file(path, FILE)
    data = read_json(read_text(file), Release[_Video]).database
    texts = _texts(data, file)
    records = [_record(video_id, video, texts, file) for video_id, video in data.items() if video.subset == split]
    return COIN(split, records, texts)


def _texts(data: dict[str, _Video], file: Path) -> list[str]:
    """The text of each id 1 to K, by all videos of the testing subset."""
    texts = {step.id: step.label for video in data.values() if video.subset == "testing" for step in video.annotation}
    absent = next(label for label in range(1, len(texts) + 2) if label not in texts)
    if not texts or absent <= len(texts):
        raise ValueError(f"{file}: its testing videos have {len(texts)} step ids, but none is {absent}; is it whole?")
    return [texts[label] for label in sorted(texts)]


def _record(video_id: str, video: _Video, texts: Sequence[str], file: Path) -> Video:
    for number, step in enumerate(video.annotation):
        expected = texts[step.id - 1] if step.id <= len(texts) else None
        if step.label != expected:
            where = f"{file}: {video_id}.annotation.{number}"
            raise ValueError(f"{where}: the id {step.id} is {step.label!r}, but the testing videos say {expected!r}")
    segments = tuple(Segment(*step.segment, step.id) for step in video.annotation)
    return Video(video_id, video.duration, video.task, video.recipe_type, segments)
