"""What a `MomentIndex` keeps on disk, whole at every moment: a new state counts once `index.json` names it.

An index is a folder::

    index.json                  what made it, its videos, what the background sentences score
    features-00000.safetensors  of some videos `features` (sum of T, F) float16 and `z_v` (sum of W, D) float32, with
                                `starts` and `z_starts` (videos + 1,) int64
    features-00000.json         their entries, until `index.json` has them: what a stopped update goes on from
    windows-00000.faiss         the FAISS index, of large indexes only
    lock                        held by the process that updates

Shapes: T seconds and W windows of one video, F feature size, D hidden size.
"""

import errno
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from safetensors.numpy import save_file

from vclip import storage

INDEX = "index.json"


class Entry(NamedTuple):
    """One indexed video: `path` in the folder, size in bytes, mtime in ns, and the place of its rows.

    `duration` is when it ends, in seconds: the last of its `seconds` may be a part of one.
    """

    path: str
    size: int
    mtime: int
    sha256: str
    seconds: int
    windows: int
    status: str
    error: str
    shard: int = -1
    row: int = -1
    duration: float | None = None


class Store:
    """The files of an index. `entries` and the rest of `state` are those of index.json when it was last read."""

    def __init__(self, path):
        self.path = Path(path)
        self._tensor = lru_cache(3072)(self._read_tensor)
        self.read()

    @staticmethod
    def prepare(path, made_by: dict) -> "Store":
        """Make the folder of a new, empty index, or open the one that is there.

        Raises FileExistsError if the folder holds something else, ValueError if the index was made by something else,
        PermissionError if nothing can be written there.
        """
        path = Path(path)
        with _writing(path):
            if not (path / INDEX).is_file():
                if path.exists() and (not path.is_dir() or any(f.suffix != ".tmp" for f in path.iterdir())):
                    raise FileExistsError(f"{path} holds something else: choose another folder for the index")
                path.mkdir(parents=True, exist_ok=True)
                storage.write_json(path / INDEX, {"made_by": made_by, "videos": []})
        store = Store(path)
        store.check(made_by)
        return store

    def read(self) -> None:
        """Raises FileNotFoundError if there is no index, ValueError if it is damaged."""
        self._tensor.cache_clear()  # a file that was opened before may be lost or damaged since
        try:
            self.state = json.loads((self.path / INDEX).read_text(encoding="utf-8"))
            self.made_by = dict(self.state["made_by"])
            self.entries = [Entry(*row) for row in self.state["videos"]]
        except FileNotFoundError:
            raise FileNotFoundError(f"{self.path} holds no index: make one with MomentIndex.build") from None
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{self.path / INDEX} is damaged ({error}): remove {self.path} and build again") from None

    def check(self, made_by: dict) -> None:
        """Raises ValueError that names the fields in which the index was made otherwise."""
        differing = [
            f"{name}: {self.made_by.get(name)!r} against {value!r}"
            for name, value in made_by.items()
            if self.made_by.get(name) != value
        ]
        if differing:
            raise ValueError(
                f"the index {self.path} was made otherwise ({'; '.join(differing)}): use the model, encoder and folder "
                "that it was made with, or build another index under another path"
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """For a whole update. Raises RuntimeError if another process or object holds it, PermissionError if nothing can
        be written there."""
        lock = FileLock(self.path / "lock")
        try:
            with _writing(self.path):
                lock.acquire(timeout=0)
        except Timeout:
            raise RuntimeError(f"{self.path} is being updated by somebody else: wait until that is done") from None
        try:
            yield
        finally:
            lock.release()

    def features(self, entry: Entry) -> np.ndarray:
        """(T, F) float16, mapped."""
        return self._rows(entry, "features", "starts")

    def z_v(self, entry: Entry) -> np.ndarray:
        """(W, D) float32, mapped."""
        return self._rows(entry, "z_v", "z_starts")

    def add(self, rows: list[tuple[Entry, np.ndarray, np.ndarray]]) -> list[Entry]:
        """Write (entry, features, z_v) of some videos as one shard; the entries come back with their place."""
        # a number is never used twice: others may still read the old shard of that number
        taken = (int(file.stem.split("-")[1]) for file in self.path.glob("features-*.safetensors"))
        shard = max([*taken, self.state.get("last_shard", -1)]) + 1
        placed = [entry._replace(shard=shard, row=row) for row, (entry, _, _) in enumerate(rows)]
        _, features, z_v = zip(*rows, strict=True)
        tensors: dict = {
            "features": np.concatenate(features).astype(np.float16),
            "z_v": np.concatenate(z_v).astype(np.float32),
            "starts": np.cumsum([0, *map(len, features)], dtype=np.int64),
            "z_starts": np.cumsum([0, *map(len, z_v)], dtype=np.int64),
        }
        storage.replace(self.path / storage.shard_name(shard), lambda temporary: save_file(tensors, temporary))
        storage.write_json(self._table(shard), {"videos": placed})
        return placed

    def unpublished(self) -> list[Entry]:
        """Videos that an update which was stopped has finished; those of a table that cannot be read are lost."""
        found = {}
        for table in sorted(self.path.glob("features-*.json")):
            with suppress(OSError, ValueError, TypeError, KeyError):
                rows = json.loads(table.read_text(encoding="utf-8"))["videos"]
                found |= {entry.path: entry for entry in [Entry(*row) for row in rows]}
        return list(found.values())

    def readable(self, entries: list[Entry]) -> list[Entry]:
        """Those whose rows are on disk: a shard may be lost or damaged."""
        lengths: dict[int, list[tuple[int, int]]] = {}
        for shard in {entry.shard for entry in entries}:
            with suppress(OSError, ValueError):
                starts, z_starts = self._tensor(shard, "starts"), self._tensor(shard, "z_starts")
                lengths[shard] = list(zip(np.diff(starts).tolist(), np.diff(z_starts).tolist(), strict=True))
        return [e for e in entries if (e.seconds, e.windows) in lengths.get(e.shard, [])[e.row : e.row + 1]]

    def pack(self, entries: Iterable[Entry]) -> list[Entry]:
        """Rewrite the videos of shards that are less than half full into full ones, without what no entry uses.

        The entries come back in the order of their paths.
        """
        shards = defaultdict(list)
        for entry in entries:
            shards[entry.shard].append(entry)
        small = {shard for shard, rows in shards.items() if not self._half_full(rows)}
        lone = len(small) == 1 and all(len(shards[s]) == len(self._tensor(s, "starts")) - 1 for s in small)
        kept = [entry for shard, rows in shards.items() if lone or shard not in small for entry in rows]
        pending: list = []
        for entry in (entry for shard in sorted(small) for entry in shards[shard] if not lone):
            pending.append((entry, self.features(entry), self.z_v(entry)))
            if full(pending):
                kept += self.add(pending)
                pending = []
        kept += self.add(pending) if pending else []
        return sorted(kept, key=lambda entry: entry.path)

    def publish(self, entries: list[Entry], **state) -> None:
        """The new state of the index; files that it does not name go."""
        last = max([entry.shard for entry in entries] + [self.state.get("last_shard", -1)])
        self.state = {"made_by": self.made_by, "last_shard": last, "videos": entries, **state}
        storage.write_json(self.path / INDEX, self.state)
        self.entries = entries
        used = {storage.shard_name(entry.shard) for entry in entries} | {state.get("faiss")}
        for file in (*self.path.glob("features-*"), *self.path.glob("windows-*"), *self.path.glob(".*.tmp")):
            if file.name not in used:
                file.unlink()

    def faiss_name(self) -> str:
        """A file name for the FAISS index that no state before this one has used."""
        old = self.state.get("faiss")
        return f"windows-{int(old.split('-')[1].split('.')[0]) + 1 if old else 0:05d}.faiss"

    def _rows(self, entry: Entry, name: str, starts: str) -> np.ndarray:
        first, last = self._tensor(entry.shard, starts)[entry.row : entry.row + 2]
        return self._tensor(entry.shard, name)[first:last]

    def _read_tensor(self, shard: int, name: str) -> np.ndarray:
        file = self.path / storage.shard_name(shard)
        try:
            return storage.read_tensor(file, name)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{file} is gone: open the index again if it was updated elsewhere, else call update()"
            ) from None
        except ValueError:
            raise ValueError(f"{file} is damaged: call update(), which makes it again") from None

    def _table(self, shard: int) -> Path:
        return (self.path / storage.shard_name(shard)).with_suffix(".json")

    def _half_full(self, entries: list[Entry]) -> bool:
        size = sum(entry.seconds for entry in entries) * self._tensor(entries[0].shard, "features").shape[1] * 2
        return 2 * size >= storage.SHARD_BYTES or 2 * len(entries) >= storage.SHARD_VIDEOS


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise PermissionError(
            f"the index cannot be written to {path} ({error.strerror}): put it elsewhere, "
            "MomentIndex.build(..., path='a folder of yours')"
        ) from None


def full(rows: list) -> bool:
    """Whether these videos, (entry, features (T, F), ...) each, fill a shard."""
    return len(rows) >= storage.SHARD_VIDEOS or 2 * sum(row[1].size for row in rows) >= storage.SHARD_BYTES
