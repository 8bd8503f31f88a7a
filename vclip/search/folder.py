"""The files of an indexed folder as they are now; they may change or go at any moment."""

import hashlib
import os
import unicodedata
import warnings
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import av
import numpy as np

from vclip.data.captions import Captions, deduplicate, read_captions
from vclip.data.extraction import find_captions, video_files
from vclip.data.text import printable
from vclip.data.video import open_video

NAMED = 3  # of the videos that a warning is about


class Content(NamedTuple):
    """What a file held when it was looked at: size in bytes, time of its last change in ns, hash in hex digits."""

    size: int
    mtime: int
    sha256: str


def present_in(folder: Path, held: Iterable[str] = ()) -> tuple[dict[str, Path], dict[str, str]]:
    """The videos of a folder by their path in it, and the folders in it that may not be listed, with the reason.

    Among those are links that lead nowhere, if a `held` path leads through them. Raises FileNotFoundError if the folder
    itself is gone, OSError if it may not be listed.
    """
    refuse_missing(folder)
    unlisted: list[OSError] = []
    videos = {file.relative_to(folder).as_posix(): file for file in video_files(folder, unlisted)}
    reasons = {Path(e.filename).relative_to(folder).as_posix(): f"cannot be listed ({e.strerror})" for e in unlisted}
    links = {_dead_link(folder, path) for path in held if path not in videos}
    reasons |= dict.fromkeys(sorted(filter(None, links)), "is a link that leads nowhere: is its drive away?")
    return videos, reasons


def refuse_missing(folder: Path) -> None:
    """Raises FileNotFoundError if the folder is gone."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"the folder of videos {folder} is not there: mount it or put it back; if it has moved, give its new place "
            "and the index's to MomentIndex.build(model, processor, folder, path=...)"
        )


def _dead_link(folder: Path, path: str) -> str | None:
    """The link to a folder that `path` leads through and that leads nowhere, as while a drive is away; None without."""
    above = [parent.as_posix() for parent in PurePosixPath(path).parents][-2::-1]
    return next((p for p in above if os.path.islink(folder / p) and not os.path.exists(folder / p)), None)


def alike(paths: Iterable[str]) -> dict[str, str]:
    """Paths that a reader may take for another one, with it: other capitals, other code points for one letter."""
    groups = defaultdict(list)
    for path in paths:
        plain = unicodedata.normalize("NFC", unicodedata.normalize("NFC", printable(path)).casefold())
        groups[plain].append(path)
    return {path: group[i - 1] for group in groups.values() if len(group) > 1 for i, path in enumerate(group)}


def clashing(paths: Iterable[str]) -> set[str]:
    """Paths that would be printed exactly as another one is: the printed name would not tell which file is meant."""
    first: dict[str, str] = {}
    for path in sorted(paths, key=lambda path: (path != printable(path), path)):
        first.setdefault(printable(path), path)
    return set(paths) - set(first.values())


def stat_of(file: Path) -> tuple[int, int]:
    """Size in bytes and time of the last change in ns, (-1, -1) of a file that is gone or cannot be looked at."""
    try:
        found = os.stat(file)
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def sha256_of(file: Path) -> str:
    """Hash of the content, in hex digits. Raises OSError for a file that cannot be read."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def content_of(file: Path) -> Content:
    """Raises OSError for a file that cannot be read."""
    return Content(*stat_of(file), sha256_of(file))


def still(file: Path, before: Content) -> Content | None:
    """What a file is now, None if it does not hold what it did. It is read only if its size or time differ."""
    if stat_of(file) == before[:2]:
        return before
    try:
        now = content_of(file)
    except OSError:
        return None
    return now if now.sha256 == before.sha256 else None


def duration_of(file: Path, seconds: int) -> float:
    """When a video ends, in seconds from its start: in the last of its `seconds`, of which a part may be padding."""
    try:
        with open_video(file) as container:
            duration = (container.duration or 0) / av.time_base
    except (OSError, ValueError):
        return float(seconds)
    return duration if seconds - 1 < duration < seconds else float(seconds)


def state_of(folder: Path, path: str, stat: tuple[int, int]) -> str:
    """What became of a video that had this `stat`: "same", "changed" or "gone". Raises what `inside` raises."""
    found = stat_of(inside(folder, path))
    return "gone" if found == (-1, -1) else "same" if found == stat else "changed"


def warn_of(paths: Sequence[str], what: str) -> None:
    """One warning for all videos of which `what` is to be said, the first of them by name, for the caller's caller."""
    if paths:
        named = ", ".join(repr(printable(path)) for path in paths[:NAMED])
        more = f" and {len(paths) - NAMED} more" if len(paths) > NAMED else ""
        warnings.warn(f"{what}: {named}{more}; call update()", stacklevel=3)


def inside(folder: Path, path: str) -> Path:
    """The place of `path` in `folder`, whether there is a file or not. Raises ValueError if it leads out."""
    file = Path(os.path.abspath(folder / path))
    if not file.is_relative_to(os.path.abspath(folder)):
        raise ValueError(f"{printable(path)!r} leads out of {folder}: this index is not to be trusted, build another")
    return file


def captions_during(video: Path, start: float, end: float) -> str:
    """What the captions beside a video say from second `start` to `end`; nothing if there are none to be read.

    A file is read once; if it is damaged, a warning says so, once.
    """
    try:
        if (beside := find_captions(video)) is None:
            return ""
    except OSError:
        return ""
    captions = _captions(beside, stat_of(beside))
    if captions is None:
        return ""
    during = (captions.start < end) & (captions.end > start)
    return printable(" ".join(captions.text[i] for i in np.flatnonzero(during)))


@lru_cache(64)
def _captions(file: Path, stat: tuple[int, int]) -> Captions | None:
    """Those of a file while its `stat` is this one; None, with a warning, of one that cannot be read."""
    try:
        return deduplicate(read_captions(file))
    except (OSError, ValueError) as error:
        warnings.warn(f"hits show no captions of a file: {printable(str(error))}", stacklevel=4)
        return None


def place_of(folder: Path, index: Path) -> str:
    """Where the videos are, seen from the index: relative if it lies inside, so that both can be moved."""
    folder, index = folder.resolve(), index.resolve()
    return os.path.relpath(folder, index) if index.is_relative_to(folder) else str(folder)
