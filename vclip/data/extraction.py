"""`extract`: a folder of videos becomes a corpus, in one process or several, and goes on where it was stopped."""

import hashlib
import html
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import closing
from datetime import timedelta
from itertools import islice
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object, parse_flag_from_env
from tqdm.auto import tqdm

from vclip.data import parts
from vclip.data.captions import CAPTION_SUFFIXES, deduplicate, read_captions
from vclip.data.prefetch import ahead
from vclip.data.spec import FeatureSpec
from vclip.data.storage import check_features
from vclip.data.text import printable
from vclip.data.video import read_seconds

VIDEO_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
BYTES_AT_ONCE = 8 * 2**20  # of frames, at least a second: 56 s at 3 frames of 128 x 128 a second, 1 s for S3D


class Row(NamedTuple):
    """`status` is "ok"; "damaged": what could be decoded was kept; "captions unreadable": features only; "failed"."""

    video: str
    seconds: int
    status: str
    error: str


class Report(list[Row]):
    """One row a video. Shown, it counts them and lists those that are not ok; a notebook shows every row."""

    def __repr__(self) -> str:
        counts = ", ".join(f"{n} {status}" for status, n in Counter(row.status for row in self).most_common())
        bad = [row for row in self if row.status != "ok"]
        lines = [f"  {ascii(row.video)[1:-1]} ({row.seconds} s) {row.status}: {ascii(row.error)[1:-1]}" for row in bad]
        return "\n".join([f"{len(self)} videos: {counts or 'none'}", *lines])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in Row._fields)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(str(v))}</td>" for v in row) + "</tr>" for row in self)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def extract(source, out, encoder, share: tuple[int, int] = (1, 1)) -> Report:
    """Encode every video of a folder (or list of files) and write the corpus `out`; one row a video comes back.

    A video's id is its file's stem, or its path in the folder where stems clash. Its captions, made plain by
    `deduplicate`, are the file of the same stem (.vtt, .srt, .json, .csv; also `stem.en.vtt`) beside it, or none.
    A file that cannot be read costs its row; one that is damaged keeps the seconds that could be decoded.

    Called again it goes on: what is done is skipped; what is new, failed, or was damaged and has changed is tried.
    Under `torchrun` each process takes its part of the videos. For several machines, `share` (k, n) is the
    k-th of n shares of the folder: each extracts its own into an `out` of its own, and `vclip.merge` makes them one.
    To extract the whole folder into the merged corpus then adds what no share has.

    Raises FileNotFoundError if there is no video, FileExistsError if `out` holds something else, and ValueError if
    it holds features of another encoder, or for a share that is none.
    """
    state, out = processes(), Path(out)
    videos, folder = find_videos(source)
    videos = {video: path for video, path in videos.items() if is_in_share(video, share)}
    if state.is_main_process:
        parts.prepare(out, encoder.spec)
    state.wait_for_everyone()
    done = {row["video"] for part in parts.read(out) for row in part.rows}
    for row in parts.read_report(out):
        if row["status"] == "ok" or (row["video"] in videos and row["sizes"] == _sizes(videos[row["video"]])):
            done.add(row["video"])
    state.wait_for_everyone()  # nobody may write before all have seen the same
    todo = [video for video in videos if video not in done][state.process_index :: state.num_processes]
    failed, pending = [], []
    bar = tqdm(todo, desc="extract", unit="video", disable=not state.is_main_process)
    for video in bar:
        row, features, captions = extract_one(video, videos[video], encoder)
        if features is None:
            failed.append(row._asdict() | {"sizes": None})
            bar.set_postfix(failed=len(failed))
            continue
        media = printable(videos[video].relative_to(folder).as_posix())
        entry = row._asdict() | {"sizes": _sizes(videos[video]), "media": media, "captions": captions}
        pending.append(parts.write(out, [features], [entry]))
        if parts.fill_a_shard(pending):
            parts.pack(out, pending)
            pending = []
    failed = gather_object(failed)
    if state.is_main_process:
        parts.merge(out, encoder.spec, failed, list(videos))
    state.wait_for_everyone()
    rows = {row["video"]: Row(*(row[name] for name in Row._fields)) for row in parts.read_report(out)}
    return Report(rows[video] for video in videos)


def is_in_share(video: str, share: tuple[int, int]) -> bool:
    """Whether a video is of share (k, n), k from 1 to n. By a hash of its id: the other videos do not matter.

    Raises ValueError for a share that is not two whole numbers with 1 <= k <= n.
    """
    k, n = share if isinstance(share, Sequence) and len(share) == 2 else (None, None)
    if not (isinstance(k, Integral) and isinstance(n, Integral) and 1 <= k <= n):
        raise ValueError(f"share {share!r} is none: it is (k, n), the k-th of n, so of two there are (1, 2) and (2, 2)")
    return int.from_bytes(hashlib.sha256(video.encode()).digest()[:8]) % n == k - 1


def processes() -> PartialState:
    """The processes of `torchrun`, or this one; a process that is done early waits for the others for days."""
    launched = "LOCAL_RANK" in os.environ and not torch.accelerator.is_available()
    return PartialState(cpu=launched or parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=timedelta(days=7))


def find_videos(source) -> tuple[dict[str, Path], Path]:
    """Videos by id, in the order of their paths, and the folder that their paths are relative to.

    `source` is a folder, searched to its depth for files of VIDEO_SUFFIXES, or a file, or files of any name.
    """
    if isinstance(source, str | os.PathLike):
        folder = Path(source)
        if not os.path.lexists(folder):
            raise FileNotFoundError(f"{str(folder)!r}: no such folder or file")
        if not folder.is_dir():
            return find_videos([folder])
        paths = video_files(folder)
        if not paths:
            raise FileNotFoundError(f"no video in {folder} (looked for {' '.join(VIDEO_SUFFIXES)})")
    else:
        paths = sorted({Path(f).absolute() for f in source})
        if not paths:
            raise FileNotFoundError("no video: the list of files is empty")
        folder = Path(os.path.commonpath([f.parent for f in paths]))
    stems = Counter(f.stem for f in paths)
    names = [f.stem if stems[f.stem] == 1 else f.relative_to(folder).as_posix() for f in paths]
    if len(set(names)) < len(names):
        names = [f.relative_to(folder).as_posix() for f in paths]
    return dict(zip(map(printable, names), paths, strict=True)), folder


def video_files(folder: Path, unlisted: list[OSError] | None = None) -> list[Path]:
    """The files of VIDEO_SUFFIXES in a folder, to its depth, without hidden files and folders.

    A linked folder counts as one, but no folder twice, so that a loop of links ends. What may not be looked at, or
    leads nowhere, is among the files: to open it says why. A subfolder may go meanwhile; one that may not be listed
    adds its error to `unlisted`. Raises OSError if there is no such list, or if `folder` itself cannot be listed.
    """

    def failed(error: OSError) -> None:
        if Path(error.filename or "") == folder or (unlisted is None and not isinstance(error, FileNotFoundError)):
            raise error
        if unlisted is not None and not isinstance(error, FileNotFoundError):
            unlisted.append(error)

    files, starts, seen = [], [folder], set()
    for start in starts:
        for root, folders, names in os.walk(start, onerror=failed):
            try:
                here = os.stat(root)
            except OSError as error:
                failed(error)
                continue
            if (here.st_dev, here.st_ino) in seen:
                folders.clear()
                continue
            seen.add((here.st_dev, here.st_ino))
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            starts += [path for name in folders if (path := Path(root, name)).is_symlink()]
            files += [Path(root, name) for name in names if not name.startswith(".")]
    return sorted(f for f in files if f.suffix.lower() in VIDEO_SUFFIXES and _may_be_a_file(f))


def _may_be_a_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except FileNotFoundError:
        return os.path.islink(path)
    except OSError:
        return True


def find_captions(video: Path) -> Path | None:
    """The caption file beside a video: of its stem, else of its stem and a language, English first."""
    for suffix in CAPTION_SUFFIXES:
        if (exact := video.with_name(video.stem + suffix)).is_file():
            return exact  # without listing the folder, which may be long
    suffixes = "|".join(map(re.escape, CAPTION_SUFFIXES))
    language = re.compile(re.escape(video.stem) + rf"\.([A-Za-z]{{2,3}}(-\w+)*)({suffixes})", re.DOTALL)
    others = [f for f in video.parent.iterdir() if language.fullmatch(f.name)] if video.parent.is_dir() else []
    others.sort(key=lambda f: (not f.name.startswith(video.stem + ".en"), f.name))
    return next((f for f in others if f.is_file()), None)


def _sizes(video: Path) -> list[int | None] | None:
    """Bytes of a video and of its captions: another size tells that a damaged file was replaced."""
    captions = find_captions(video)
    return [f.stat().st_size if f is not None else None for f in (video, captions)] if video.is_file() else None


def extract_one(video: str, path: Path, encoder) -> tuple[Row, np.ndarray | None, dict | None]:
    """Row, features (T, F) float16 and captions as JSON has them, of one video; None where there are none."""
    problems: list[str] = []
    with closing(_blocks(path, encoder.spec, problems)) as blocks:
        encoded = [encoder(block) for block in blocks]
    if not encoded:
        return Row(video, 0, "failed", printable(problems[0])), None, None
    status = "damaged" if problems else "ok"
    try:
        features = check_features(video, np.concatenate(encoded), encoder.spec.dim)
    except ValueError as error:
        return Row(video, 0, "failed", str(error)), None, None
    captions = None
    try:
        if (beside := find_captions(path)) is not None:
            plain = deduplicate(read_captions(beside))
            "".join(plain.text).encode()  # half a surrogate pair, which JSON can hold, fits into no table
            captions = {"start": plain.start.tolist(), "end": plain.end.tolist(), "text": plain.text}
    except (ValueError, OSError) as error:
        status = status if problems else "captions unreadable"
        problems.append(str(error))
    return Row(video, len(features), status, printable("; ".join(problems))), features, captions


def _blocks(path: Path, spec: FeatureSpec, problems: list[str]) -> Generator[np.ndarray, None, None]:
    """The seconds (n, fps, size, size, 3), together if they fit BYTES_AT_ONCE, as many more decoded meanwhile; what
    ends the video early is added to `problems`."""
    second = (spec.fps, spec.size, spec.size, 3)
    most = max(1, BYTES_AT_ONCE // math.prod(second))
    with closing(ahead(read_seconds(path, spec.fps, spec.size), most)) as seconds:
        n = most
        while n == most:
            block, n = np.empty((most, *second), np.uint8), 0  # what is never written takes no memory
            try:
                for frames in islice(seconds, most):
                    block[n] = frames
                    n += 1
            except (ValueError, OSError) as error:
                problems.append(str(error))
            if n:
                yield block[:n]
