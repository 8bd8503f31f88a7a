"""CrossTask (Zhukov et al. 2019): how-to videos of a task whose steps are listed in order; for step localization."""

from collections import defaultdict
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from vclip.datasets._files import Seconds, Source, Text, find_file, read_csv, read_text, read_texts
from vclip.datasets._records import Dataset, check_split

PRIMARY, RELATED, VIDEOS, VALIDATION = "tasks_primary.txt", "tasks_related.txt", "videos.csv", "videos_val.csv"
ANNOTATIONS = "annotations"
Split = Literal["train", "test", "validation", "primary", "related", "all"]
TASKS = ("localization",)
Row = tuple[str, str]  # (task, video)


@dataclass(frozen=True)
class Video:
    """A video of task number `task`, named `title`, whose `steps` are in order.

    `segments`: (step from 0, start, end), seconds, in the order of the file; they may overlap, a step may come several
    times or never. () if nobody annotated the video. A video can be listed under several tasks: a record each.
    """

    video_id: str
    task: str
    title: str
    steps: tuple[str, ...]
    segments: tuple[tuple[int, float, float], ...]


@dataclass
class _Listed:
    task: Text
    video: Text
    address: str


@dataclass
class _Step:
    step: int
    start: Seconds
    end: Seconds


def load(
    path: str | Path,
    split: Split = "test",
    features: Container[str] | None = None,
    n_train: int = 30,
    seed: int = 0,
) -> Dataset[Video]:
    """The videos of one split; `left_out` names those without features, annotation or task.

    "train" and "test" are the released code's (MMPT dsprocessor.py:378-656): of the annotated videos that are in
    `features` and not in videos_val.csv, numpy's legacy generator draws `n_train` of each primary task for training,
    the rest is for testing; a task that is not primary or has no more than `n_train` is all for training.

    Args:
        path: the release's folder or one of its files. Every file may be gzipped; the annotations are a folder
            `annotations` of <task>_<video>.csv or an archive annotations.tar.gz, which is never extracted.
        split: "train", "test", or every row of videos_val.csv ("validation") or of videos.csv ("primary", "related",
            "all": of these tasks). The other arguments matter for "train" and "test" alone.
        features: which videos have features: a Corpus or a set of ids; None means all.
        n_train: how many videos a primary task are drawn for training, with `seed`.

    Example:
        >>> import vclip
        >>> load(vclip.minihowto() / "crosstask" / "test", "train", n_train=8)
        CrossTask train: 48 records of 48 videos
    """
    check_split(split, get_args(Split))
    folder = Path(path).parent if Path(path).is_file() else Path(path)
    primary, related = (_read_tasks(read_text(find_file(folder, name))) for name in (PRIMARY, RELATED))
    tasks = primary | related
    listed = _read_videos(folder, VALIDATION if split == "validation" else VIDEOS)
    annotations = _read_annotations(folder, {row: f"{row[0]}_{row[1]}.csv" for row in listed if row[0] in tasks})
    wanted = {"primary": primary, "test": primary, "related": related}.get(split, tasks)
    if split in ("train", "test"):
        found = [row for row in listed if row in annotations and (features is None or row[1] in features)]
        held_out = set(_read_videos(folder, VALIDATION))
        rows = _draw(found, held_out, primary, n_train, seed)[split]
        absent = set(listed) - set(found) - held_out
    else:
        rows = [row for row in listed if row[0] in wanted]
        absent = {row for row in listed if row[0] not in tasks}
    videos = []
    for task, video in rows:
        title, steps = tasks[task]
        segments = _segments(annotations.get((task, video)), len(steps))
        videos.append(Video(video, task, title, steps, segments))
    left_out = [row[1] for row in listed if row in absent and (row[0] in wanted or row[0] not in tasks)]
    return Dataset("CrossTask", split, videos, TASKS, left_out)


def _draw(found: list[Row], held_out: set[Row], primary: dict, n_train: int, seed: int) -> dict[str, list[Row]]:
    """The (task, video) rows for training, in the order in which they were drawn, and for testing, task by task."""
    rng = np.random.RandomState(seed)
    of_task = defaultdict(list)
    for row in found:  # also held out rows: a task has its turn where its first video with features stands
        of_task[row[0]] += [] if row in held_out else [row]
    split: dict[str, list[Row]] = {"train": [], "test": []}
    for task, rows in of_task.items():
        if task in primary and len(rows) > n_train:
            drawn = rng.choice(len(rows), n_train, replace=False).tolist()
            split["train"] += [rows[i] for i in drawn]
            split["test"] += [row for i, row in enumerate(rows) if i not in drawn]
        else:
            split["train"] += rows
    return split


def _read_tasks(source: Source) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Title and steps of each task: blocks of id, title, address, number of steps, steps, and an empty line."""
    lines = [line.strip() for line in source.text.rstrip().splitlines()]
    tasks = {}
    for first in range(0, len(lines), 6):
        block = lines[first : first + 6]
        steps = tuple(block[4].split(",")) if len(block) > 4 else ()
        if not steps or block[3] != str(len(steps)) or "".join(block[5:]):
            lines_of_a_task = "five lines (id, title, address, number of steps, steps) and an empty one"
            raise ValueError(f"{source.where}, line {first + 1}: a task is {lines_of_a_task}, not {block}")
        tasks[block[0]] = block[1], steps
    return tasks


def _read_videos(folder: Path, name: str) -> list[Row]:
    rows = read_csv(read_text(find_file(folder, name)), _Listed, header=False)
    return list(dict.fromkeys((row.task, row.video) for _, row in rows))


def _read_annotations(folder: Path, names: dict[Row, str]) -> dict[Row, Source]:
    """The annotation file of each (task, video) whose file name is there."""
    paths = [folder / ANNOTATIONS, folder / f"{ANNOTATIONS}.tar.gz", folder / f"{ANNOTATIONS}.tar"]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        raise FileNotFoundError(f"{folder} has neither a folder {ANNOTATIONS} nor {ANNOTATIONS}.tar.gz")
    # an id can hold a path: names are looked up among those that are there, and none is opened for its name
    found = dict(read_texts(path, set(names.values()).__contains__))
    return {row: found[name] for row, name in names.items() if name in found}


def _segments(source: Source | None, n_steps: int) -> tuple[tuple[int, float, float], ...]:
    segments = []
    for where, row in read_csv(source, _Step, header=False) if source else ():
        if not 1 <= row.step <= n_steps or row.end < row.start:
            raise ValueError(f"{where}: {row} is not one of the steps 1 to {n_steps}, or ends before it starts")
        segments.append((row.step - 1, row.start, row.end))
    return tuple(segments)
