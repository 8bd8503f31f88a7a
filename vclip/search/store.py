"""What a `MomentIndex` keeps on disk, whole at every moment: a new state counts once `index.json` names it.

An index is a folder::

    index.json                  what made it, its videos, size, time and hash of its files, what background sentences
                                score
    index.copy.json             the same again
    features-00000.safetensors  of some videos `features` (sum of T, F) float16 and `z_v` (sum of W, D) float32, with
                                `starts` and `z_starts` (videos + 1,) int64
    features-00000.json         the same of it alone, until `index.json` has it: what a stopped update goes on from
    windows-00000.faiss         the FAISS index, of large indexes only
    lock                        held by the process that updates

Shapes: T seconds and W windows of one video, F feature size, D hidden size.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from safetensors.numpy import save_file

from vclip.data import storage
from vclip.search.folder import Content, content_of, still
from vclip.search.state import Entry, State, are_whole, begin, read_state, write_state, writing


class Store:
    """The files of an index. `state` is what index.json said when it was last read."""

    def __init__(self, path):
        self.path = Path(path)
        self._tensor = lru_cache(3072)(self._read_tensor)
        self.read()

    @staticmethod
    def prepare(path, made_by: dict, folder: str) -> "Store":
        """Make the folder of a new, empty index of the videos in `folder`, or open the index that is there.

        Raises FileExistsError if the folder holds something else, ValueError if the index was made by something else,
        PermissionError if nothing can be written there.
        """
        begin(Path(path), State(made_by, folder))
        store = Store(path)
        store.check(made_by)
        return store

    def read(self) -> None:
        """Raises FileNotFoundError if there is no index, ValueError if index.json and its copy are damaged."""
        self._tensor.cache_clear()  # a file that was opened before may be lost or damaged since
        self.state = read_state(self.path)
        self._files = dict(self.state.files)

    @property
    def entries(self) -> list[Entry]:
        return self.state.videos

    def check(self, made_by: dict) -> None:
        """Raises ValueError that names the fields in which the index was made otherwise."""
        mine = self.state.made_by
        differing = [
            f"{name}: {mine.get(name)!r} against {value!r}"
            for name, value in made_by.items()
            if mine.get(name) != value
        ]
        if differing:
            raise ValueError(
                f"the index {self.path} was made otherwise ({'; '.join(differing)}): use the model and the encoder "
                "that it was made with, or build another index under another path"
            )

    @contextmanager
    def lock(self) -> Iterator[None]:
        """For a whole update. Raises RuntimeError if another process or object holds it, PermissionError if nothing can
        be written there."""
        lock = FileLock(self.path / "lock")
        try:
            with writing(self.path):
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
        """(W, D) float32, mapped. Raises ValueError if they are not finite: then the file is damaged."""
        rows = self._rows(entry, "z_v", "z_starts")
        if not np.isfinite(rows).all():
            raise ValueError(_damaged(self._file(entry.shard)))
        return rows

    def add(self, rows: list[tuple[Entry, np.ndarray, np.ndarray]]) -> list[Entry]:
        """Write (entry, features, z_v) of some videos as one shard; the entries come back with their place."""
        # a number is never used twice: others may still read the old shard of that number
        taken = (int(file.stem.split("-")[1]) for file in self.path.glob("features-*.safetensors"))
        shard = max([*taken, self.state.last_shard]) + 1
        placed = [entry._replace(shard=shard, row=row) for row, (entry, _, _) in enumerate(rows)]
        _, features, z_v = zip(*rows, strict=True)
        tensors: dict = {
            "features": np.concatenate(features).astype(np.float16),
            "z_v": np.concatenate(z_v).astype(np.float32),
            "starts": np.cumsum([0, *map(len, features)], dtype=np.int64),
            "z_starts": np.cumsum([0, *map(len, z_v)], dtype=np.int64),
        }
        storage.replace(self._file(shard), lambda temporary: save_file(tensors, temporary))
        table = {"videos": placed, "content": self.sign(self._file(shard))}
        storage.write_json(self._file(shard).with_suffix(".json"), table)
        return placed

    def sign(self, file: Path) -> Content:
        """Remember what a new file of the index holds, for `is_whole`."""
        self._files[file.name] = content_of(file)
        return self._files[file.name]

    def is_whole(self, name: str) -> bool:
        """Whether a file of the index is as it was written: by its size and time, and if they differ by its hash."""
        before = self._files.get(name)
        now = before and still(self.path / name, before)
        if now:
            self._files[name] = now
        return now is not None

    def unpublished(self) -> list[Entry]:
        """Videos that an update which was stopped has finished; those of a table that cannot be read are lost."""
        found = {}
        for table in sorted(self.path.glob("features-*.json")):
            with suppress(OSError, ValueError, TypeError, KeyError):
                said = json.loads(table.read_text(encoding="utf-8"))
                found |= {entry.path: entry for entry in [Entry(*row) for row in said["videos"]]}
                self._files.setdefault(table.with_suffix(".safetensors").name, Content(*said["content"]))
        return list(found.values())

    def readable(self, entries: list[Entry]) -> list[Entry]:
        """Those whose shards are whole and have their rows."""
        lengths: dict[int, list[tuple[int, int]]] = {}
        shards = {entry.shard for entry in entries}
        for shard in (shard for shard in shards if self.is_whole(storage.shard_name(shard))):
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

    def publish(
        self,
        folder: str,
        entries: list[Entry],
        failed: Sequence[Entry] = (),
        faiss: str | None = None,
        background: dict | None = None,
    ) -> None:
        """The new state of the index, see `State`; files that it does not name go. What is the same is not written."""
        shards = sorted({entry.shard for entry in entries})
        used = [storage.shard_name(shard) for shard in shards] + ([faiss] if faiss else [])
        files, last = {name: self._files[name] for name in used}, max([*shards, self.state.last_shard])
        new = State(self.state.made_by, folder, last, files, entries, list(failed), faiss, background)
        if new != self.state or not are_whole(self.path):
            write_state(self.path, new)
        self.state = new
        for file in (*self.path.glob("features-*"), *self.path.glob("windows-*"), *self.path.glob(".*.tmp")):
            if file.name not in used:
                file.unlink()

    def faiss_name(self) -> str:
        """A file name for the FAISS index that no state before this one has used."""
        old = self.state.faiss
        return f"windows-{int(old.split('-')[1].split('.')[0]) + 1 if old else 0:05d}.faiss"

    def _rows(self, entry: Entry, name: str, starts: str) -> np.ndarray:
        first, last = self._tensor(entry.shard, starts)[entry.row : entry.row + 2]
        return self._tensor(entry.shard, name)[first:last]

    def _read_tensor(self, shard: int, name: str) -> np.ndarray:
        file = self._file(shard)
        try:
            return storage.read_tensor(file, name)
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{file} is gone: open the index again if it was updated elsewhere, else call update()"
            ) from None
        except ValueError:
            raise ValueError(_damaged(file)) from None

    def _file(self, shard: int) -> Path:
        return self.path / storage.shard_name(shard)

    def _half_full(self, entries: list[Entry]) -> bool:
        size = sum(entry.seconds for entry in entries) * self._tensor(entries[0].shard, "features").shape[1] * 2
        return 2 * size >= storage.SHARD_BYTES or 2 * len(entries) >= storage.SHARD_VIDEOS


def _damaged(file: Path) -> str:
    return f"{file} is damaged: remove it and call update(), which makes it again"


def full(rows: list) -> bool:
    """Whether these videos, (entry, features (T, F), ...) each, fill a shard."""
    return len(rows) >= storage.SHARD_VIDEOS or 2 * sum(row[1].size for row in rows) >= storage.SHARD_BYTES
