"""HowTo100M (Miech et al. 2019): lists of narrated how-to videos, and their captions."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field

from vclip.data.captions import Captions
from vclip.datasets._files import Seconds, find_file, parse_csv, read_csv, read_json, read_texts
from vclip.datasets._records import Dataset

IDS = {"train": "how2_s3d_train.lst", "val": "how2_s3d_val.lst", "holdout": "htm_holdout_vid.txt"}
LISTS = {"subset_train": "howto100m_subset_train.csv", "full_val": "howto100m_full_val.csv"}
CAPTIONS = ("raw_caption.json", "captions.tar.gz", "captions")


@dataclass(frozen=True)
class Video:
    """A video of `seconds` that shows the task of that number; None where the list is of ids alone."""

    video_id: str
    task: int | None = None
    seconds: float | None = None


def _no_path(video_id: str) -> str:
    if not video_id or video_id in (".", "..") or any(character in video_id for character in "/\\\0"):
        raise ValueError(f"{video_id!r} is not a video id: ids are no paths")
    return video_id


def _stem(file: str) -> str:
    video_id, dot, extension = file.rpartition(".")
    if not (dot and extension):
        raise ValueError("the file name is not <video id>.<extension>")
    return video_id


VideoId = Annotated[str, AfterValidator(_no_path)]
Caption = str | float | None  # NaN or null where there is none


@dataclass
class _Id:
    video_id: VideoId


@dataclass
class _Listed:
    file: Annotated[str, AfterValidator(_stem), AfterValidator(_no_path)]
    task: Annotated[int, Field(ge=0)]
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass
class _Row:
    start: Seconds
    end: Seconds
    text: Caption


@dataclass
class _VideoRow:
    start: Seconds
    end: Seconds
    text: Caption
    video_id: VideoId


@dataclass
class _Columns:
    start: list[Seconds]
    end: list[Seconds]
    text: list[Caption]


def load(path: str | Path, split: str = "train") -> Dataset[Video]:
    """The videos of one list, in its order.

    Args:
        path: the list, gzip or plain, or the folder that holds it.
        split: "train", "val" (MMPT's how2_s3d_*.lst) and "holdout" (htm_holdout_vid.txt) are ids, one a line;
            "subset_train" and "full_val" (howto100m_*.csv) are file names `<id>.<extension>`, task numbers and
            seconds, separated by spaces.

    Returns:
        A `Dataset` of `Video`s.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: unknown split, another number of fields, an id that is a path, a task or a length that is no such
            number; it names file, row and value.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "howto100m_full_val.csv").write_text("G0f_nSBiHh4.mp4 278 192.1\\n")
        ...     load(folder, "full_val")[0]
        Video(video_id='G0f_nSBiHh4', task=278, seconds=192.1)
    """
    names = IDS | LISTS
    if split not in names:
        raise ValueError(f"unknown split {split!r}: one of {', '.join(map(repr, names))}")
    file = find_file(path, names[split])
    if split in IDS:
        videos = [Video(row.video_id) for _, row in read_csv(file, _Id, " ", header=False)]
    else:
        rows = read_csv(file, _Listed, " ", header=False)
        videos = [Video(row.file, row.task, row.seconds) for _, row in rows]
    return Dataset("HowTo100M", split, videos)


def captions(path: str | Path) -> Iterator[tuple[str, Captions]]:
    """Each video's id and captions: rows in the order of the file, those without a text left out, nothing cleaned.

    Args:
        path: raw_caption.json (id -> lists start, end, text), a .csv of many videos (columns video_id, start, end,
            text), a folder or a .tar.gz of `<id>.csv` (start, end, text), or the folder that holds raw_caption.json,
            captions.tar.gz or captions/. Of a tar file nothing is unpacked to disk.

    Yields:
        (video id, `Captions`).

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a missing column or key, times that are no numbers, negative or in the wrong order, a damaged
            file, an id that is a path or occurs twice; it names file and place.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file or folder of captions")
    if path.is_dir():
        path = _main_file(path)
    if path.is_dir() or ".tar" in path.suffixes:
        for name, where, text in read_texts(path, lambda name: name.endswith(".csv")):
            yield _no_path(name.removesuffix(".csv")), _captions(parse_csv(text, where, _Row))
    elif ".csv" in path.suffixes:
        videos = defaultdict(list)
        for where, row in read_csv(path, _VideoRow):
            videos[row.video_id].append((where, row))
        for video_id, rows in videos.items():
            yield video_id, _captions(rows)
    else:
        for video_id, columns in read_json(path, dict[VideoId, _Columns]).items():
            where = f"{path}: {video_id}"
            if not len(columns.start) == len(columns.end) == len(columns.text):
                raise ValueError(f"{where}: start, end and text are not of one length")
            rows = enumerate(zip(columns.start, columns.end, columns.text, strict=True))
            yield video_id, _captions((f"{where}, row {number}", _Row(*row)) for number, row in rows)


def _main_file(folder: Path) -> Path:
    """The captions in a folder, the folder itself if it holds them singly."""
    for name in CAPTIONS:
        for candidate in (folder / name, folder / f"{name}.gz"):
            if candidate.exists():
                return candidate
    if not any(folder.glob("*.csv")) and not any(folder.glob("*.csv.gz")):
        raise FileNotFoundError(f"{folder} holds none of {', '.join(CAPTIONS)} and no <video id>.csv")
    return folder


def _captions(rows: Iterable[tuple[str, _Row | _VideoRow]]) -> Captions:
    """The captions of rows, each after where it stands; those without a text are left out, as by `read_captions`."""
    kept = []
    for where, row in rows:
        if row.end < row.start:
            raise ValueError(f"{where}: the segment {row.start} to {row.end} ends before it starts")
        if row.text and isinstance(row.text, str):
            kept.append((row.start, row.end, row.text))
    start, end, text = zip(*kept, strict=True) if kept else ((), (), ())
    return Captions(np.array(start, dtype=np.float64), np.array(end, dtype=np.float64), list(text))
