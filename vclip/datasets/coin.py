"""COIN (Tang et al. 2019): instructional videos of 180 tasks, cut into steps with Outside time between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from vclip.datasets._files import Release, Text, find_file, parse_json, read_text
from vclip.datasets._files import Segment as Span
from vclip.datasets._records import Dataset

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
    """A video of `seconds` (the file's duration) that shows `task` (the file's class), and its steps in file order.

    `recipe_type` is the official number of the task. What the file does not say is None.
    """

    video_id: str
    seconds: float | None
    task: str | None
    recipe_type: int | None
    segments: tuple[Segment, ...]


class COIN(Dataset[Video]):
    """The videos of one split, with the steps of all: ids `labels` 1 to K, and `texts[k - 1]` what step k is called.

    Two steps of different tasks can have the same text: the real 778 ids have 749.
    """

    def __init__(self, split: str, records: Sequence[Video], texts: Sequence[str], left_out: Sequence[str] = ()):
        super().__init__("COIN", split, records, TASKS, left_out)
        self.labels, self.texts = list(range(1, len(texts) + 1)), list(texts)


def _digits(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 10 else value


@dataclass
class _Step:
    id: Annotated[int, Field(ge=1), BeforeValidator(_digits)]
    label: Text
    segment: Span


@dataclass
class _Video:
    subset: str
    annotation: list[_Step]
    duration: float | None = None
    task: Annotated[str | None, Field(alias="class")] = None
    recipe_type: int | None = None


def load(
    path: str | Path,
    split: Literal["testing", "training"] = "testing",
    videos: str | Path | None = None,
    labels: str | Path | None = None,
) -> COIN:
    """The videos of one split, with the steps of all videos of the testing subset (MMPT dsprocessor.py:661-805).

    Args:
        path: the release's folder, its COIN.json, or a file that holds a list of `{video id: annotations}`.
        split: "testing" or "training".
        videos: restricts to a list, in its order: lines of file name, task, duration, or of file name, step from 0,
            duration, start, end (ProcedureVRL's coin_task_*.csv, coin_step_*.csv). Listed videos without annotation
            are `left_out`.
        labels: another annotation file that has the steps, for a `path` with some of the videos only.

    Returns:
        A `COIN`: `Video`s, `labels` and `texts`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: unknown split, a value that is not as in the official files, a step id without a text or with two,
            ids that are not 1 to K, a listed video of the other split; it names file, place and value.

    Example:
        >>> import json, tempfile
        >>> step = {"id": "1", "segment": [2.0, 9.0], "label": "peel"}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     database = {"v": {"subset": "testing", "annotation": [step]}}
        ...     _ = (Path(folder) / "COIN.json").write_text(json.dumps({"database": database}))
        ...     load(folder)[0].segments
        (Segment(start=2.0, end=9.0, label=1),)
    """
    if split not in ("testing", "training"):
        raise ValueError(f"unknown split {split!r}: 'testing' or 'training'")
    file = find_file(path, FILE)
    data = _read(file)
    texts = _texts(data, file) if labels is None else _texts(_read(find_file(labels, FILE)), find_file(labels, FILE))
    records = [_record(name, video, texts, file) for name, video in data.items() if video.subset == split]
    if videos is None:
        return COIN(split, records, texts)
    found = {record.video_id: record for record in records}
    listed = _read_list(Path(videos))
    for video_id, where in listed.items():
        if video_id in data and video_id not in found:
            raise ValueError(f"{where}: {video_id!r} is not in the {split} split of {file}")
    left_out = [video_id for video_id in listed if video_id not in data]
    return COIN(split, [found[video_id] for video_id in listed if video_id in found], texts, left_out)


def _read(file: Path) -> dict[str, _Video]:
    """Video id -> its annotations, from the official layout or a list of {video id: annotations}."""
    text = read_text(file)
    if not text.lstrip().startswith("["):
        return parse_json(text, str(file), Release[_Video]).database
    rows = [pair for row in parse_json(text, str(file), list[dict[Text, _Video]]) for pair in row.items()]
    videos = dict(rows)
    if len(videos) != len(rows):
        raise ValueError(f"{file} names a video twice: {len(rows)} rows, but {len(videos)} videos")
    return videos


def _texts(data: dict[str, _Video], file: Path) -> list[str]:
    """The text of each id 1 to K, by all videos of the testing subset."""
    texts: dict[int, str] = {}
    for video_id, video in data.items():
        for number, step in enumerate(video.annotation if video.subset == "testing" else ()):
            if texts.setdefault(step.id, step.label) != step.label:
                where = f"{file}: {video_id}.annotation.{number}"
                raise ValueError(f"{where}: the id {step.id} is {step.label!r} here and {texts[step.id]!r} before")
    absent = next(label for label in range(1, len(texts) + 2) if label not in texts)
    if not texts or absent <= len(texts):
        raise ValueError(
            f"{file}: its testing videos have {len(texts)} step ids, but none is {absent}: give `labels`, the "
            "annotation file of all testing videos"
        )
    return [texts[label] for label in sorted(texts)]


def _record(video_id: str, video: _Video, texts: Sequence[str], file: Path) -> Video:
    for number, step in enumerate(video.annotation):
        where = f"{file}: {video_id}.annotation.{number}"
        if step.id > len(texts):
            raise ValueError(f"{where}: the id {step.id} has no label, the testing videos' are 1 to {len(texts)}")
        if step.label != texts[step.id - 1]:
            raise ValueError(f"{where}: the id {step.id} is {step.label!r}, and {texts[step.id - 1]!r} when testing")
    segments = tuple(Segment(*step.segment, step.id) for step in video.annotation)
    return Video(video_id, video.duration, video.task, video.recipe_type, segments)


def _read_list(file: Path) -> dict[str, str]:
    """Each video id with the words that say where it is listed."""
    listed = {}
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if len(line.split()) not in (3, 5):
            raise ValueError(f"{file}, row {number}: neither file, task, duration nor file, step, duration, start, end")
        listed.setdefault(Path(line.split()[0]).stem, f"{file}, row {number}")
    return listed
