"""HowTo100M (Miech et al. 2019): lists of narrated how-to videos, and their captions."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vclip.data.captions import Captions
from vclip.datasets._files import find_file, parse_csv, read_csv, read_json, read_text, read_texts
from vclip.datasets._records import Dataset, field, segment

IDS = {"train": "how2_s3d_train.lst", "val": "how2_s3d_val.lst", "holdout": "htm_holdout_vid.txt"}
LISTS = {"subset_train": "howto100m_subset_train.csv", "full_val": "howto100m_full_val.csv"}
CAPTIONS = ("raw_caption.json", "captions.tar.gz", "captions")
COLUMNS = ("start", "end", "text")


@dataclass(frozen=True)
class Video:
    """A video of `seconds` that shows the task of that number; None where the list is of ids alone."""

    video_id: str
    task: int | None = None
    seconds: float | None = None


def load(path: str | Path, split: str = "train") -> Dataset[Video]:
    """The videos of one list, in its order; `path` is that file or the folder that holds it.

    "train", "val" (MMPT's how2_s3d_*.lst) and "holdout" (htm_holdout_vid.txt) are ids, one a line. "subset_train" and
    "full_val" (howto100m_*.csv) are file names `<id>.<extension>`, task numbers and seconds, separated by spaces.
    Raises ValueError for an unknown split, FileNotFoundError, or ValueError that names file and row for another number
    of fields, an id that is a path, a task or a length that is no such number.
    """
    names = IDS | LISTS
    if split not in names:
        raise ValueError(f"unknown split {split!r}: one of {', '.join(map(repr, names))}")
    file = find_file(path, names[split])
    videos = []
    for number, line in enumerate(read_text(file).split("\n"), 1):
        if line.strip():
            read = _listed if split in LISTS else _id
            videos.append(read(line.split(), f"{file}, row {number}"))
    return Dataset("HowTo100M", split, videos)


def _id(fields: list[str], where: str) -> Video:
    if len(fields) != 1:
        raise ValueError(f"{where}: {' '.join(fields)!r} is not one video id")
    return Video(_checked_id(fields[0], where))


def _listed(fields: list[str], where: str) -> Video:
    if len(fields) != 3:
        raise ValueError(f"{where}: {' '.join(fields)!r} is not a file name, a task number and seconds")
    name, task, length = fields
    video_id, dot, extension = name.rpartition(".")
    if not (dot and extension):
        raise ValueError(f"{where}: the file name {name!r} is not <video id>.<extension>")
    seconds = _number(length)
    if not (task.isascii() and task.isdecimal()) or not isinstance(seconds, float) or not 0 < seconds < math.inf:
        raise ValueError(f"{where}: task {task!r} and {length!r} s: not a number from 0 and a length above 0")
    return Video(_checked_id(video_id, where), int(task), seconds)


def captions(path: str | Path) -> Iterator[tuple[str, Captions]]:
    """Each video's id and captions: rows in the order of the file, those without a text left out, nothing cleaned.

    `path` is raw_caption.json (id -> lists start, end, text), a .csv of many videos (columns video_id, start, end,
    text), a folder or a .tar.gz of `<id>.csv` (start, end, text), or the folder that holds raw_caption.json,
    captions.tar.gz or captions/. Of a tar file nothing is unpacked to disk; what does not end in .csv is passed over.
    Raises FileNotFoundError, or ValueError that names file and row (video or member) for a missing column or key,
    times that are no numbers, negative or in the wrong order, a damaged file, an id that is a path or occurs twice.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder of captions")
    if path.is_dir():
        path = _main_file(path)
    if path.is_dir() or ".tar" in path.suffixes:
        for name, where, text in read_texts(path, lambda name: name.endswith(".csv")):
            yield _checked_id(name.removesuffix(".csv"), where), _timed(map(_row, parse_csv(text, where, COLUMNS)))
    elif ".csv" in path.suffixes:
        yield from _csv_captions(path)
    else:
        yield from _json_captions(path)


def _main_file(folder: Path) -> Path:
    """The captions in a folder, the folder itself if it holds them singly."""
    for name in CAPTIONS:
        for candidate in (folder / name, folder / f"{name}.gz"):
            if candidate.exists():
                return candidate
    if not any(folder.glob("*.csv")) and not any(folder.glob("*.csv.gz")):
        raise FileNotFoundError(f"{folder} holds none of {', '.join(CAPTIONS)} and no <video id>.csv")
    return folder


def _json_captions(file: Path) -> Iterator[tuple[str, Captions]]:
    data = read_json(file)
    if not isinstance(data, dict):
        raise ValueError(f"{file} is a {type(data).__name__}, not the captions of each video id: is it {CAPTIONS[0]}?")
    for video_id, columns in data.items():
        where = f"{file}, video {_checked_id(video_id, str(file))!r}"
        lists = [field(columns, name, list, where) for name in COLUMNS]
        if len({len(column) for column in lists}) > 1:
            raise ValueError(f"{where}: {', '.join(f'{len(c)} {n}' for n, c in zip(COLUMNS, lists, strict=True))}")
        rows = enumerate(zip(*lists, strict=True), 1)
        yield video_id, _timed((f"{where}, row {number}", *row) for number, row in rows)


def _csv_captions(file: Path) -> Iterator[tuple[str, Captions]]:
    videos = defaultdict(list)
    for where, row in read_csv(file, (*COLUMNS, "video_id")):
        videos[_checked_id(row["video_id"], where)].append(_row((where, row)))
    for video_id, rows in videos.items():
        yield video_id, _timed(rows)


def _row(row: tuple[str, dict[str, str]]) -> tuple[str, Any, Any, str]:
    """(where, start, end, text) of a row of a csv; times are numbers where they can be."""
    where, columns = row
    return where, _number(columns["start"]), _number(columns["end"]), columns["text"]


def _timed(rows: Iterable[tuple[str, Any, Any, Any]]) -> Captions:
    """The captions of rows (where, start, end, text); those without a text are left out, as by `read_captions`."""
    kept = []
    for where, first, last, text in rows:
        if text in (None, "") or isinstance(text, float) and math.isnan(text):
            continue
        if not isinstance(text, str):
            raise ValueError(f"{where}: {text!r} is not a text")
        kept.append((*segment([first, last], where), text))
    start, end, texts = zip(*kept, strict=True) if kept else ((), (), ())
    return Captions(np.array(start, dtype=np.float64), np.array(end, dtype=np.float64), list(texts))


def _number(text: str) -> float | str:
    """The number that a field holds, else the field itself, for the error message."""
    try:
        return float(text)
    except ValueError:
        return text


def _checked_id(video_id: str, where: str) -> str:
    if not video_id or video_id in (".", "..") or "/" in video_id or "\\" in video_id or "\0" in video_id:
        raise ValueError(f"{where}: {video_id!r} is not a video id: ids are no paths")
    return video_id
