"""The files of a corpus: written to a temporary name, then renamed, so that what is there is whole."""

import ctypes
import json
import mmap
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from filelock import FileLock, Timeout
from pyarrow.json import ParseOptions, ReadOptions, read_json
from safetensors import safe_open
from safetensors.numpy import save_file

from vclip.data.captions import Captions
from vclip.data.text import what_is_wrong

LIBC = ctypes.CDLL(None) if os.name == "posix" else None
SHARD_BYTES = 64 * 2**20
SHARD_VIDEOS = 256


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """`write(temporary)`, then rename over `path`: after a failure or a power cut the old file or the new is whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # safetensors leaves files that only their owner may read
        with suppress(OSError), open(temporary, "rb+") as written:  # some file systems cannot be asked to
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path, name: str) -> Iterator[None]:
    """Hold the lock `name` in a folder, made if need be; RuntimeError while another process does."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / name, timeout=0):
            yield
    except Timeout:
        raise RuntimeError(f"{folder} is being written by another process: run again when it has finished") from None


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder of a temporary name to be filled, which then becomes `path`, or vanishes if something fails."""
    path = Path(path).expanduser().resolve()
    if path.exists() and (not path.is_dir() or any(path.iterdir()) or path == Path.cwd()):
        raise FileExistsError(f"{path} is not empty, or the current folder: name a new one")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent, ignore_cleanup_errors=True) as holder:
        making = Path(holder) / path.name
        making.mkdir()
        yield making
        if path.exists():
            path.rmdir()
        making.rename(path)


def copy_into(folder: Path, file: Path) -> None:
    """Copy a file into `folder`, unless one of its name is there."""
    if not (folder / file.name).exists():
        replace(folder / file.name, lambda temporary: shutil.copyfile(file, temporary))


def write_json(path: Path, value: dict) -> None:
    replace(path, lambda temporary: temporary.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8"))


def is_full(sizes: Collection[int]) -> bool:
    """Whether the features of some videos, of so many bytes each, fill a shard."""
    return sum(sizes) >= SHARD_BYTES or len(sizes) >= SHARD_VIDEOS


def shard_name(shard: int) -> str:
    return f"features-{shard:05d}.safetensors"


def write_shard(path: Path, features: list[np.ndarray]) -> None:
    """One features file of a list of (T, F) arrays, float16 on disk."""
    starts = np.concatenate([[0], np.cumsum([len(f) for f in features])]).astype(np.int64)
    tensors: dict = {"features": np.concatenate(features).astype(np.float16), "starts": starts}
    replace(path, lambda temporary: save_file(tensors, temporary))


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """Say in words what is wrong with a file of a corpus: FileNotFoundError, ValueError."""
    try:
        yield
    except ImportError:
        raise
    except Exception as error:  # what is damaged can fail in any way
        if not file.exists():
            what = "open the folder again if it was updated meanwhile, else copy it whole"
            raise FileNotFoundError(f"{file} is missing: {what}") from None
        why = "a folder" if file.is_dir() else what_is_wrong(file, error).partition("\n")[0]
        raise ValueError(f"{file} is damaged ({why}): copy it again, or delete it and extract or update") from None


def read_tensor(file: Path, name: str) -> np.ndarray:
    """One array of a features file, mapped."""
    # torch's reader maps the file; numpy's would copy it
    with reading(file), safe_open(file, "pt") as tensors:
        return tensors.get_tensor(name).numpy()


def divides(starts: np.ndarray, rows: int) -> bool:
    """Whether `starts` (parts + 1,) cuts so many rows into parts."""
    whole = starts.ndim == 1 and starts.dtype.kind in "iu" and [*starts[:1], *starts[-1:]] == [0, rows]
    return whole and bool((starts[1:] >= starts[:-1]).all())


def _read_starts(file: Path, dim: int) -> np.ndarray:
    with reading(file), safe_open(file, "pt") as tensors:
        features, starts = tensors.get_slice("features"), tensors.get_tensor("starts").numpy()
        kind, (rows, *width) = features.get_dtype(), features.get_shape()
        if (kind, width) != ("F16", [dim]) or not divides(starts, rows):
            raise ValueError(f"features {kind} {[rows, *width]} do not fit its starts, or [rows, {dim}] of F16")
        return starts


def read_videos(folder: Path, dim: int) -> tuple[pa.Table, dict[int, Path]]:
    """The table of videos, whose `row` becomes a video's first row in its file, and the files of the shards."""
    with reading(file := folder / "videos.parquet"):
        videos = open_table(file).read(VIDEOS.names).select(VIDEOS.names).cast(VIDEOS)
        if any(videos[name].null_count for name in VIDEOS.names[:-1]):
            raise ValueError("a video lacks its id or a number")
        videos.validate(full=True)
    seconds, shard, number = (videos[name].to_numpy() for name in ("seconds", "shard", "row"))
    shards, of = np.unique(shard, return_inverse=True)
    files = {some: folder / shard_name(some) for some in shards.tolist()}
    starts = [_read_starts(path, dim) for path in files.values()]
    sizes = np.array([len(some) for some in starts], np.int64)
    place = (np.cumsum(sizes) - sizes)[of] + np.clip(number, 0, sizes[of] - 2)
    first, after = (np.concatenate([*starts, [0]])[place + k] for k in (0, 1))
    right = (number >= 0) & (number <= sizes[of] - 2) & (after - first == seconds)
    if not right.all() or len(np.unique(place)) < len(place):
        where = f"{videos['video_id'][int(right.argmin())]} is" if not right.all() else "two videos are"
        raise ValueError(f"{file} does not fit the features files: {where} not where it says; copy the folder whole")
    return videos.set_column(VIDEOS.names.index("row"), "row", pa.array(first)), files


def read_npy(file: Path) -> np.ndarray:
    """The array of a .npy file, mapped."""
    with reading(file):
        found = np.load(file, mmap_mode="r", allow_pickle=False)
    # numpy's map keeps the file open, of which a process may often have no more than 1,024; torch's does not
    size = found.offset + found.nbytes
    content = torch.from_file(str(file), shared=False, size=size, dtype=torch.uint8).numpy()
    rows = np.ndarray(found.shape, found.dtype, content, found.offset, found.strides)
    rows.flags.writeable = False
    return rows


def read_ahead(rows: np.ndarray) -> None:
    """Have the kernel begin to read rows of a mapped file: else each clip waits for the disk."""
    if LIBC is not None:
        address = rows.ctypes.data
        begin = address // mmap.PAGESIZE * mmap.PAGESIZE
        LIBC.madvise(ctypes.c_void_p(begin), ctypes.c_size_t(address - begin + rows.nbytes), mmap.MADV_WILLNEED)


CAPTIONS = pa.schema({"video_id": pa.string(), "start": pa.float64(), "end": pa.float64(), "text": pa.string()})
TOKENS = pa.field("input_ids", pa.list_(pa.int32()))
VIDEOS = pa.schema(
    {"video_id": pa.string(), "seconds": pa.int64(), "shard": pa.int64(), "row": pa.int64(), "media": pa.string()}
)
VIDEOS_AT_ONCE = 1024  # the captions of a large corpus do not fit memory as Python's objects


def write_tables(path: Path, videos: Sequence[tuple], captions: Iterable[pa.Table] | None, meta: dict) -> None:
    """The tables, but for captions that stay (None), then corpus.json. To produce `captions` may append to `videos`."""
    if captions is not None:
        write_table(path / "captions.parquet", CAPTIONS, captions)
    write_table(path / "videos.parquet", VIDEOS, [table(videos, VIDEOS)])
    write_json(path / "corpus.json", meta)


def write_table(path: Path, schema: pa.Schema, parts: Iterable[pa.Table]) -> None:
    def write(temporary: Path) -> None:
        with pq.ParquetWriter(temporary, schema, write_page_checksum=True) as writer:
            for part in parts:
                writer.write_table(part)

    replace(path, write)


def open_table(file: Any) -> pq.ParquetFile:
    """A table on disk, whose columns are read when asked for; with `pre_buffer` what was read would be held."""
    options: Any = {"memory_map": True, "pre_buffer": False, "page_checksum_verification": True}
    return pq.ParquetFile(file, read_dictionary=["video_id"], **options)


def table(rows: Sequence[tuple], schema: pa.Schema) -> pa.Table:
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in schema]
    return pa.table(columns, schema=schema)


def captions_table(captions: Iterable[tuple[str, Captions]]) -> pa.Table:
    rows = [(video, *row) for video, said in captions for row in zip(said.start, said.end, said.text, strict=True)]
    return table(rows, CAPTIONS)


def captions_of_json(videos: Sequence[str], said: Sequence[str]) -> pa.Table:
    """The table of each video's captions, as `feature_store.as_json` writes them, without an object for each."""
    lines = "\n".join(said).encode()
    lists = pa.schema([pa.field(column.name, pa.list_(column.type)) for column in list(CAPTIONS)[1:]])
    whole, parse = ReadOptions(block_size=len(lines) + 1), ParseOptions(explicit_schema=lists)
    found = read_json(pa.BufferReader(lines), whole, parse).select(lists.names)
    columns = [column.combine_chunks() for column in found]
    owner = pa.array(videos).take(np.repeat(np.arange(len(videos)), columns[0].value_lengths()))
    return pa.table([owner, *(column.flatten() for column in columns)], schema=CAPTIONS)


def check_features(video_id: str, features: np.ndarray, dim: int) -> np.ndarray:
    """The features as float16; ValueError that names the id for another shape, NaN or values beyond float16."""
    if not isinstance(video_id, str) or not video_id:
        raise ValueError(f"a video id is a non-empty string, not {video_id!r}")
    features = np.asarray(features)
    if features.dtype.kind not in "fiu" or features.ndim != 2 or not len(features) or features.shape[1] != dim:
        found = f"{features.dtype} {features.shape}"
        raise ValueError(f"video {video_id!r}: features are {found}, expected numbers (seconds > 0, {dim})")
    with np.errstate(over="ignore"):
        half = features.astype(np.float16, copy=False)
    # infinity and NaN are, as integers, the largest of their sign: found twenty times as fast
    if half.view(np.int16).max() >= 0x7C00 or half.view(np.uint16).max() >= 0xFC00:
        bad = np.flatnonzero(~np.isfinite(half).all(axis=1))
        what = "values beyond float16 (65504)" if np.isfinite(features).all() else "NaN or infinity"
        raise ValueError(f"video {video_id!r}: features hold {what}, first in second {bad[0]}; extract it again")
    return half


def write_shards(folder: Path, videos: Iterable, dim: int, rows: list[tuple]) -> Iterator[tuple[str, Captions]]:
    """Write the features of `videos` (video_id, features, captions), append to `rows`, and hand on the captions."""
    seen, shard, waiting = set(), 0, []
    for video_id, features, captions in videos:
        features = np.array(check_features(video_id, features, dim))  # its owner may go on writing there
        if video_id in seen:
            raise ValueError(f"video id {video_id!r} occurs twice: ids must be unique")
        seen.add(video_id)
        if is_full([rows.nbytes for rows in waiting]):
            write_shard(folder / shard_name(shard), waiting)
            shard, waiting = shard + 1, []
        rows.append((video_id, len(features), shard, len(waiting), None))
        waiting.append(features)
        if captions is not None:
            yield video_id, captions
    if waiting:
        write_shard(folder / shard_name(shard), waiting)
