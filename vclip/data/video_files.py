"""Finding video files, and the caption file beside each."""

import hashlib
import os
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vclip.data.captions import CAPTION_SUFFIXES
from vclip.data.text import printable

VIDEO_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
# of a file beside a video: its name after the stem
CAPTIONS = re.compile(rf"(?:\.([a-z]{{2,3}}(?:-\w+)*))?({'|'.join(map(re.escape, CAPTION_SUFFIXES))})", re.IGNORECASE)


def find_videos(source, stems: bool = True) -> tuple[dict[str, Path], Path]:
    """Find videos: by id, in the order of their paths, and the folder that their paths are relative to.

    `source` is a folder, searched to its depth for files of VIDEO_SUFFIXES, a file, or a list of files of any name.
    With `stems` the id is the file's stem, or its path in the folder where stems clash; else always the path.
    FileNotFoundError if there is none, ValueError for two paths that are the same once they are made printable.
    """
    if isinstance(source, str | os.PathLike):
        folder = Path(source).expanduser()
        if not os.path.lexists(folder):
            raise FileNotFoundError(f"{str(folder)!r}: no such folder or file")
        if not folder.is_dir():
            return find_videos([folder], stems)
        paths = video_files(folder)
        if not paths:
            raise FileNotFoundError(f"no video in {folder} (looked for {' '.join(VIDEO_SUFFIXES)})")
    else:
        paths = sorted({Path(f).expanduser().absolute() for f in source})
        if not paths:
            raise FileNotFoundError("no video: the list of files is empty")
        folder = Path(os.path.commonpath([f.parent for f in paths]))
    media = [printable(f.relative_to(folder).as_posix()) for f in paths]
    counts = Counter(f.stem for f in paths)
    names = [printable(f.stem) if counts[f.stem] == 1 and stems else m for f, m in zip(paths, media, strict=True)]
    names = names if len(set(names)) == len(paths) else media
    if twice := [name for name, n in Counter(names).items() if n > 1]:
        raise ValueError(f"two files are both written {twice[0]!r}: rename one of them in {folder}")
    return dict(zip(names, paths, strict=True)), folder


def video_files(folder: Path) -> list[Path]:
    """List the files of VIDEO_SUFFIXES in a folder, to its depth, without hidden files and folders.

    A linked folder counts as one, but no folder twice, so that a loop of links ends. A subfolder may go meanwhile;
    OSError if the folder, or one in it, cannot be listed.
    """

    def failed(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError) or Path(error.filename or "") == folder:
            raise error

    files, seen = [], set()
    for root, folders, names in os.walk(folder, onerror=failed, followlinks=True):
        place = os.path.realpath(root)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        # links last: a folder is found by its own path if it has one here
        folders[:] = sorted((f for f in folders if f[0] != "."), key=lambda f: (os.path.islink(Path(root, f)), f))
        files += [Path(root, name) for name in names if not name.startswith(".")]
    return sorted(f for f in files if f.suffix.lower() in VIDEO_SUFFIXES)


def find_captions(video: Path, names: Sequence[str] | None = None) -> Path | None:
    """Find the caption file beside a video: of its stem, else of its stem and a language, English first.

    `names` is what its folder holds, sorted, where it has been listed already.
    """
    if names is None:
        names = listing(video.parent)
    # "/" is the character after ".": these names begin with the stem and a dot
    beside = names[bisect_left(names, f"{video.stem}.") : bisect_left(names, f"{video.stem}/")]
    found = [(match, name) for name in beside if (match := CAPTIONS.fullmatch(name[len(video.stem) :]))]

    def order(item: tuple[re.Match, str]) -> tuple:
        language, suffix = (part and part.lower() for part in item[0].groups())
        if language is None:
            return 0, CAPTION_SUFFIXES.index(suffix), item[1]
        # plain "en" before "en-de", which may be a machine's translation
        return 1, language != "en", not language.startswith("en-"), item[1]

    return next((file for _, name in sorted(found, key=order) if os.path.isfile(file := video.with_name(name))), None)


def listing(folder: Path) -> list[str]:
    """The sorted names in a folder; none of one that cannot be listed."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def is_in_shard(video: str, shard: tuple[int, int]) -> bool:
    """Whether a video is of shard (k, n), k from 1 to n: by a hash of its id, so the other videos do not matter.

    Example:
        >>> [is_in_shard("dQw4w9WgXcQ", (k, 8)) for k in (6, 7)]
        [False, True]
    """
    k, n = shard if isinstance(shard, Sequence) and len(shard) == 2 else (None, None)
    if not (isinstance(k, int) and isinstance(n, int) and 1 <= k <= n):
        raise ValueError(f"shard must be (k, n) with 1 <= k <= n, e.g. (1, 2) or (2, 2); got {shard!r}")
    return int.from_bytes(hashlib.sha256(video.encode()).digest()[:8]) % n == k - 1
