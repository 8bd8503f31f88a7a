"""The files of an indexed folder as they are now; they may change or go at any moment."""

import os
import warnings
from pathlib import Path

import numpy as np

from vclip.captions import deduplicate, read_captions
from vclip.extraction import find_captions, video_files


def shown(path: str) -> str:
    """A path that is not UTF-8 made one that can be printed and stored."""
    return path.encode("utf-8", "backslashreplace").decode("utf-8")


def present_in(folder: Path) -> dict[str, Path]:
    """The videos of a folder by their path in it. Raises FileNotFoundError if the folder itself is gone."""
    if not folder.is_dir():
        raise FileNotFoundError(f"the folder of videos {folder} is not there: mount it or put it back")
    return {file.relative_to(folder).as_posix(): file for file in video_files(folder)}


def stat_of(file: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change in ns, (-1, -1) of a file that is gone."""
    try:
        found = os.stat(file)
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def is_there(folder: Path, path: str, stat: tuple[int, int]) -> bool:
    """Whether a video is where it was; a warning if not, or if it is not the same."""
    found = stat_of(folder / path)
    if found == (-1, -1):
        warnings.warn(f"{shown(path)!r} is gone, its moments are left out: call update()", stacklevel=3)
    elif found != stat:
        warnings.warn(f"{shown(path)!r} has changed since it was indexed: call update()", stacklevel=3)
    return found != (-1, -1)


def inside(folder: Path, path: str) -> Path:
    """The file at `path` in `folder`. Raises ValueError if it leads out, FileNotFoundError if it is gone."""
    file = Path(os.path.abspath(folder / path))
    if not file.is_relative_to(os.path.abspath(folder)):
        raise ValueError(f"{shown(path)!r} leads out of {folder}: this index is not to be trusted, build another")
    if not file.is_file():
        raise FileNotFoundError(f"{shown(path)!r} is no longer in {folder}: call update()")
    return file


def captions_during(video: Path, start: float, end: float) -> str:
    """What the captions beside a video say from second `start` to `end`; nothing if there are none to be read."""
    try:
        if (beside := find_captions(video)) is None:
            return ""
        captions = deduplicate(read_captions(beside))
    except (OSError, ValueError):
        return ""
    during = (captions.start < end) & (captions.end > start)
    return " ".join(captions.text[i] for i in np.flatnonzero(during))


def place_of(folder: Path, index: Path) -> str:
    """Where the videos are, seen from the index: relative if it lies inside, so that both can be moved."""
    folder, index = folder.resolve(), index.resolve()
    return os.path.relpath(folder, index) if index.is_relative_to(folder) else str(folder)
