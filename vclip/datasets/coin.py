"""COIN (Tang et al. 2019): instructional videos of 180 tasks, cut into steps with Outside time between them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Literal

from vclip.datasets._files import find_file, read_json, read_text, title
from vclip.datasets._records import Dataset, database, field, segment, text_field

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

    def __init__(
        self,
        split: str,
        records: Sequence[Video],
        texts: Sequence[str],
        left_out: Sequence[str] = (),
        name: str = "COIN",
    ):
        super().__init__(name, split, records, TASKS, left_out)
        self.labels, self.texts = list(range(1, len(texts) + 1)), list(texts)


def load(
    path: str | Path,
    split: Literal["testing", "training"] = "testing",
    videos: str | Path | None = None,
    labels: str | Path | None = None,
) -> COIN:
    """The videos of one split from the release's folder, its COIN.json or a file of that layout.

    The steps are those of all videos of the testing subset (MMPT dsprocessor.py:661-805), with features or without.
    `labels` names another annotation file that has them, for a file with some of the videos only.
    `videos` restricts to a list, in its order: lines of file name, task, duration, or of file name, step from 0,
    duration, start, end (ProcedureVRL's coin_task_*.csv, coin_step_*.csv). Listed videos that the annotations say
    nothing of are left out; the dataset's `left_out` names them.
    Raises FileNotFoundError, or ValueError that names file and row, for what is not such a file, a missing key, a
    segment that ends before it starts, an id that is not a number or has no label or two, ids that are not 1 to K,
    a listed video of the other split, a listed step that its video does not have.
    """
    if split not in ("testing", "training"):
        raise ValueError(f"unknown split {split!r}: 'testing' or 'training'")
    file = _find(path)
    data = _read(file)
    texts = _texts(data, file) if labels is None else _texts(_read(_find(labels)), _find(labels))
    records = [_video(video_id, video, texts, file) for video_id, video in _of_split(data, split, file)]
    name = title("COIN", file)
    if videos is None:
        return COIN(split, records, texts, name=name)
    wanted = _read_list(Path(videos))
    listed = list(dict.fromkeys(video_id for _, video_id, _ in wanted))
    found = {record.video_id: record for record in records}
    for where, video_id, step in wanted:
        if video_id in data and video_id not in found:
            raise ValueError(f"{where}: {video_id!r} is not in the {split} split of {file}")
        if step is not None and video_id in found and step not in found[video_id].segments:
            raise ValueError(f"{where}: {file} has no such step of video {video_id!r}: {step}")
    left_out = [video_id for video_id in listed if video_id not in data]
    return COIN(split, [found[video_id] for video_id in listed if video_id in found], texts, left_out, name)


def _find(path: str | Path) -> Path:
    merged = Path(path) / "COIN.merged.json.gz"
    return merged if merged.is_file() and not list(Path(path).glob(f"{FILE}*")) else find_file(path, FILE)


def _read(file: Path) -> dict[str, Any]:
    """Video id -> its annotations, from the official layout or a list of {video id: annotations}."""
    data = read_json(file)
    if isinstance(data, list) and all(isinstance(row, dict) and len(row) == 1 for row in data):
        videos = {video_id: video for row in data for video_id, video in row.items()}
        if len(videos) != len(data):
            raise ValueError(f"{file} names a video twice: {len(data)} rows, but {len(videos)} videos")
        data = {"database": videos}
    return database(data, str(file))


def _of_split(data: dict[str, Any], split: str, file: Path) -> Iterator[tuple[str, Any]]:
    for video_id, video in data.items():
        if field(video, "subset", str, f"{file}, video {video_id!r}") == split:
            yield video_id, video


def _annotations(video_id: str, video: Any, file: Path) -> Iterator[tuple[str, int, str, Any]]:
    """(where, id, text, annotation) of each step of a video."""
    for number, annotation in enumerate(field(video, "annotation", list, f"{file}, video {video_id!r}")):
        where = f"{file}, video {video_id!r}, annotation {number}"
        label = str(field(annotation, "id", (str, int), where))
        if not (label.isascii() and label.isdecimal() and len(label) < 10):
            raise ValueError(f"{where}: the id {label!r} is not a number")
        yield where, int(label), text_field(annotation, "label", where), annotation


def _texts(data: dict[str, Any], file: Path) -> list[str]:
    """The text of each id 1 to K, by all videos of the testing subset."""
    texts: dict[int, str] = {}
    for video_id, video in _of_split(data, "testing", file):
        for where, label, text, _ in _annotations(video_id, video, file):
            if texts.setdefault(label, text) != text:
                raise ValueError(f"{where}: the id {label} is {text!r} here and {texts[label]!r} before")
    if not texts:
        raise ValueError(
            f"{file} has no testing video with a step, so no texts of steps: give `labels`, the annotation file of all "
            "testing videos"
        )
    if 0 in texts:
        raise ValueError(f"{file}: ids are counted from 1, but {texts[0]!r} has id 0")
    absent = next(label for label in count(1) if label not in texts)
    if absent <= max(texts):
        raise ValueError(
            f"{file}: its testing videos have {len(texts)} step ids, but none is {absent}: give `labels`, the "
            "annotation file of all testing videos"
        )
    return [texts[label] for label in sorted(texts)]


def _video(video_id: str, video: Any, texts: Sequence[str], file: Path) -> Video:
    segments = []
    for where, label, text, annotation in _annotations(video_id, video, file):
        if not 1 <= label <= len(texts):
            raise ValueError(f"{where}: the id {label} has no label, the testing videos' are 1 to {len(texts)}")
        if text != texts[label - 1]:
            raise ValueError(f"{where}: the id {label} is {text!r} here and {texts[label - 1]!r} in the testing videos")
        start, end = segment(field(annotation, "segment", list, where), where)
        segments.append(Segment(start, end, label))
    where = f"{file}, video {video_id!r}"
    seconds = field(video, "duration", (int, float), where) if "duration" in video else None
    task = field(video, "class", str, where) if "class" in video else None
    recipe_type = field(video, "recipe_type", int, where) if "recipe_type" in video else None
    return Video(video_id, seconds, task, recipe_type, tuple(segments))


def _read_list(file: Path) -> list[tuple[str, str, Segment | None]]:
    """(where, video_id, the step or None) of each line."""
    rows = []
    for number, line in enumerate(read_text(file).splitlines(), 1):
        where, values = f"{file}, row {number}", line.split()
        if len(values) not in (3, 5):
            raise ValueError(f"{where}: {line!r} is neither file, task, duration nor file, step, duration, start, end")
        try:
            step = Segment(float(values[3]), float(values[4]), int(values[1]) + 1) if len(values) == 5 else None
        except ValueError:
            raise ValueError(f"{where}: {line!r} has no numbers for step, start and end") from None
        rows.append((where, Path(values[0]).stem, step))
    return rows
