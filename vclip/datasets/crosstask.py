"""CrossTask (Zhukov et al. 2019): how-to videos of a task whose steps are listed in order; for step localization."""

from collections import defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from vclip.datasets._files import find_file, parse_csv, read_text, read_texts, title
from vclip.datasets._records import Dataset, segment, text_field

PRIMARY, RELATED, VIDEOS, VALIDATION = "tasks_primary.txt", "tasks_related.txt", "videos.csv", "videos_val.csv"
ANNOTATIONS = "annotations"
SPLITS = ("train", "test", "validation", "primary", "related", "all")
TASKS = ("localization",)


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


def load(
    path: str | Path,
    split: Literal["train", "test", "validation", "primary", "related", "all"] = "test",
    features: Container[str] | None = None,
    n_train: int = 30,
    seed: int = 0,
) -> Dataset[Video]:
    """The videos of one split, from the release's folder or one of its files; every file may be gzipped.

    "train" and "test" are the released code's (MMPT dsprocessor.py:378-656): of the annotated videos that are in
    `features` (a Corpus, a set of ids; None: every video) and not in videos_val.csv, numpy's legacy generator with
    `seed` draws `n_train` of each primary task for training, the rest is for testing; a task that is not primary or has
    no more than `n_train` is all for training. So the draw depends on which videos have features. `left_out` names the
    videos without features, annotation or task. The other splits are every row of videos_val.csv ("validation") or of
    videos.csv (of the primary, the related, all tasks); for them `features`, `n_train`, `seed` do not matter.

    Annotations are the folder `annotations` of <task>_<video>.csv or an archive annotations.tar.gz, which is read in
    memory, never extracted. Raises FileNotFoundError, or ValueError that names file and row, for a cut block of a task
    file, another number of steps than it says, a step that the task does not have, a segment that ends before it
    starts, a video that is listed twice.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: one of {', '.join(SPLITS)}")
    folder = Path(path).parent if Path(path).is_file() else Path(path)
    primary, related = (_read_tasks(find_file(folder, name)) for name in (PRIMARY, RELATED))
    if both := primary.keys() & related.keys():
        raise ValueError(f"{folder}: task {min(both)!r} is in {PRIMARY} and in {RELATED}")
    tasks = primary | related
    listed = _read_videos(find_file(folder, VALIDATION if split == "validation" else VIDEOS))
    annotations = _read_annotations(folder, {_annotation_name(*row) for row in listed if row[0] in tasks})
    wanted = {"primary": primary, "test": primary, "related": related}.get(split, tasks)
    if split in ("train", "test"):
        found = [row for row in listed if _annotation_name(*row) in annotations]
        found = [row for row in found if features is None or row[1] in features]
        held_out = set(_read_videos(find_file(folder, VALIDATION)))
        rows = _draw(found, held_out, tasks, primary, n_train, seed)[split]
        absent = set(listed) - set(found) - held_out
    else:
        rows = [row for row in listed if row[0] in wanted]
        absent = {row for row in listed if row[0] not in tasks}
    videos = [Video(video, task, *tasks[task], _segments(task, video, annotations, tasks)) for task, video in rows]
    left_out = [row[1] for row in listed if row in absent and (row[0] in wanted or row[0] not in tasks)]
    return Dataset(title("CrossTask", folder), split, videos, TASKS, left_out)


def _draw(
    found: Sequence[tuple[str, str]],
    held_out: Container[tuple[str, str]],
    tasks: Container[str],
    primary: Container[str],
    n_train: int,
    seed: int,
) -> dict[str, list[tuple[str, str]]]:
    """The (task, video) rows for training, in the order in which they were drawn, and for testing, task by task."""
    rng = np.random.RandomState(seed)
    of_task = defaultdict(list)
    for row in found:  # also held out rows: a task has its turn where its first video with features stands
        of_task[row[0]] += [] if row in held_out else [row]
    split: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    for task, rows in of_task.items():
        if task in primary and len(rows) > n_train:
            drawn = rng.choice(len(rows), n_train, replace=False).tolist()
            split["train"] += [rows[i] for i in drawn]
            split["test"] += [row for i, row in enumerate(rows) if i not in drawn]
        elif task in tasks:
            split["train"] += rows
    return split


def _read_tasks(file: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Title and steps of each task: blocks of id, title, address, number of steps, steps, and an empty line."""
    lines = [line.strip() for line in read_text(file).replace("\r\n", "\n").split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    tasks = {}
    for first in range(0, len(lines), 6):
        block, where = lines[first : first + 6], f"{file}, line {first + 1}"
        if len(block) < 5 or not all(block[:2]):
            raise ValueError(f"{where}: a block of five lines and an empty one should begin here, not {block}")
        task, title, _, count, names = block[:5]
        steps = tuple(names.split(","))
        if not count.isdecimal() or "".join(block[5:]):
            raise ValueError(f"{where}: task {task!r} is not five lines and an empty one (is a line missing?)")
        if count != str(len(steps)) or not all(step.strip() for step in steps):
            raise ValueError(f"{where}: task {task!r} has {count} steps, but their names are {names!r}")
        if task in tasks:
            raise ValueError(f"{where}: task {task!r} is listed twice")
        tasks[task] = title, steps
    return tasks


def _read_videos(file: Path) -> list[tuple[str, str]]:
    """(task, video) of each row."""
    rows = {}
    for where, row in parse_csv(read_text(file), str(file), ("task", "video", "address"), header=False):
        task, video = text_field(row, "task", where), text_field(row, "video", where)
        if (task, video) in rows:
            raise ValueError(f"{where}: video {video!r} of task {task!r} is listed twice, first in {rows[task, video]}")
        rows[task, video] = where
    return list(rows)


def _annotation_name(task: str, video: str) -> str:
    return f"{task}_{video}.csv"


def _read_annotations(folder: Path, wanted: Container[str]) -> dict[str, tuple[str, str]]:
    """Where it stands and the text of each annotation file whose name is wanted, by name."""
    paths = [folder / ANNOTATIONS, folder / f"{ANNOTATIONS}.tar.gz", folder / f"{ANNOTATIONS}.tar"]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        raise FileNotFoundError(f"{folder} has neither a folder {ANNOTATIONS} nor {ANNOTATIONS}.tar.gz")
    # an id can hold a path: names are looked up among those that are there, and none is opened for its name
    return {name: (where, text) for name, where, text in read_texts(path, lambda name: name in wanted)}


def _segments(
    task: str, video: str, annotations: dict[str, tuple[str, str]], tasks: dict[str, tuple[str, tuple[str, ...]]]
) -> tuple[tuple[int, float, float], ...]:
    file, text = annotations.get(_annotation_name(task, video), ("", ""))
    step_of = {str(number): step for step, number in enumerate(range(1, len(tasks[task][1]) + 1))}
    segments = []
    for where, row in parse_csv(text, file, ("step", "start", "end"), header=False):
        number, times = row["step"], [row["start"], row["end"]]
        if number.strip() not in step_of:
            raise ValueError(f"{where}: step {number!r} is not one of the steps 1 to {len(step_of)} of task {task!r}")
        try:
            pair = [float(time) for time in times]
        except ValueError:
            raise ValueError(f"{where}: {times} are not seconds") from None
        segments.append((step_of[number.strip()], *segment(pair, where)))
    return tuple(segments)
