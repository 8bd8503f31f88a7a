"""The files of a corpus: written to a temporary name, then renamed, so that what is there is whole."""

import ctypes
import json
import mmap
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
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


def read_tensor(file: Path, name: str) -> np.ndarray:
    """One array of a features file, mapped."""
    try:
        # torch's reader maps the file; numpy's would copy it
        with safe_open(file, "pt") as tensors:
            return tensors.get_tensor(name).numpy()
    except FileNotFoundError:
        what = "open the folder again if it was updated meanwhile, else copy it whole"
        raise FileNotFoundError(f"{file} is missing: {what}") from None
    except SafetensorError as error:
        why = what_is_wrong(file, error)
        raise ValueError(f"{file} is damaged ({why}): copy it again, or delete it and extract or update") from None


def read_npy(file: Path) -> np.ndarray:
    """The array of a .npy file, mapped."""
    try:
        found = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        why = what_is_wrong(file, error)
        raise ValueError(f"{file} is not a plain array ({why}); files that hold objects are never executed") from None
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
VIDEOS = pa.schema(
    {"video_id": pa.string(), "seconds": pa.int64(), "shard": pa.int64(), "row": pa.int64(), "media": pa.string()}
)
VIDEOS_AT_ONCE = 4096  # the captions of a large corpus do not fit memory as Python's objects


def write_tables(path: Path, videos: Sequence[tuple], captions: Iterable[tuple[str, Captions]], meta: dict) -> None:
    """The tables, then corpus.json. `captions` are consumed first, as producing them may append to `videos`."""

    def write_captions(temporary: Path) -> None:
        rows = iter(captions)
        with pq.ParquetWriter(temporary, CAPTIONS) as writer:
            while some := list(islice(rows, VIDEOS_AT_ONCE)):
                writer.write_table(captions_table(some))

    replace(path / "captions.parquet", write_captions)
    replace(path / "videos.parquet", lambda temporary: pq.write_table(table(videos, VIDEOS), temporary))
    write_json(path / "corpus.json", meta)


def table(rows: Sequence[tuple], schema: pa.Schema) -> pa.Table:
    columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in schema]
    return pa.table(columns, schema=schema)


def captions_table(captions: Iterable[tuple[str, Captions]]) -> pa.Table:
    rows = [(video, *row) for video, said in captions for row in zip(said.start, said.end, said.text, strict=True)]
    return table(rows, CAPTIONS)


def check_features(video_id: str, features: np.ndarray, dim: int) -> np.ndarray:
    """The features as float16; ValueError that names the id for another shape, NaN or values beyond float16."""
    if not isinstance(video_id, str) or not video_id:
        raise ValueError(f"a video id is a non-empty string, not {video_id!r}")
    features = np.asarray(features)
    if features.dtype.kind not in "fiu" or features.ndim != 2 or not len(features) or features.shape[1] != dim:
        found = f"{features.dtype} {features.shape}"
        raise ValueError(f"video {video_id!r}: features are {found}, expected numbers (seconds > 0, {dim})")
    with np.errstate(over="ignore"):
        half = features.astype(np.float16)
    if len(bad := np.flatnonzero(~np.isfinite(half).all(axis=1))):
        what = "values beyond float16 (65504)" if np.isfinite(features).all() else "NaN or infinity"
        raise ValueError(f"video {video_id!r}: features hold {what}, first in second {bad[0]}; extract it again")
    return half


def write_shards(folder: Path, videos: Iterable, dim: int, rows: list[tuple]) -> Iterator[tuple[str, Captions]]:
    """Write the features of `videos` (video_id, features, captions), append to `rows`, and hand on the captions."""
    seen, shard, waiting = set(), 0, []
    for video_id, features, captions in videos:
        features = check_features(video_id, features, dim)
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
