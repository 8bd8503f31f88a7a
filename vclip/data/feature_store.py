"""What must survive a kill while a folder of videos is encoded: one SQLite file in the corpus folder.

`store.sqlite` knows every video file (size, time, hash), its caption file, what became of it, and where its features
lie. Features are written first, to a temporary name, and count once their rows are committed. The tables that readers
see (`Corpus`) are published from it at the end, corpus.json last. `store.lock` is held by the process that writes.

Shapes: T seconds of a video, F feature size.
"""

import hashlib
import json
import os
import sqlite3
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from vclip.data import storage
from vclip.data.captions import Captions
from vclip.data.corpus import STORE
from vclip.data.spec import FeatureSpec

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value)",
    # AUTOINCREMENT: a number is never used twice, since a reader may still map the old file
    "CREATE TABLE IF NOT EXISTS shards (shard INTEGER PRIMARY KEY AUTOINCREMENT, size, mtime, sha256)",
    "CREATE TABLE IF NOT EXISTS videos (video TEXT PRIMARY KEY, media, path, size, mtime, sha256, seconds, duration, "
    "status, error, shard, row, caption_size, caption_mtime, caption_sha256, caption_error, captions)",
)


class Content(NamedTuple):
    """A file when it was read: bytes, time of its last change in ns, SHA-256; -1 where it could not be read."""

    size: int = -1
    mtime: int = -1
    sha256: str = ""


def content_of(file: Path) -> Content:
    """Hash a file; its size and time are taken before. Raises OSError."""
    found = os.stat(file)
    with open(file, "rb") as opened:
        return Content(found.st_size, found.st_mtime_ns, hashlib.file_digest(opened, "sha256").hexdigest())


def still(file: Path, before: Content) -> Content | None:
    """The one answer to "has this file changed?": None if so, else the file as it is now. Raises OSError.

    By its size, then its time, and only where the time alone differs by its hash.
    """
    found = os.stat(file)
    if (found.st_size, found.st_mtime_ns) == before[:2]:
        return before
    now = content_of(file) if found.st_size == before.size else Content()
    return now if now.sha256 and now.sha256 == before.sha256 else None


class Entry(NamedTuple):
    """A video in the store.

    `path` leads to its file (see `FeatureStore.file`), `media` is that path in its folder as text. `duration` is when
    it ends, in seconds: its last second may be a part of one. `status` is "ok", "damaged" or "failed"; `shard` and
    `row` say where its features are, None if there are none.
    """

    video: str
    media: str | None
    path: bytes
    size: int
    mtime: int
    sha256: str
    seconds: int = 0
    duration: float | None = None
    status: str = "ok"
    error: str = ""
    shard: int | None = None
    row: int | None = None
    caption_size: int = -1
    caption_mtime: int = -1
    caption_sha256: str = ""
    caption_error: str = ""

    @property
    def content(self) -> Content:
        return Content(*self[3:6])

    @property
    def caption_content(self) -> Content:
        return Content(*self[12:15])


FIELDS = ", ".join(Entry._fields)
VALUES = ", ".join("?" * (len(Entry._fields) + 1))
Rows = Sequence[tuple[Entry, str | None]]  # each with its captions: JSON of start, end and text, or None


@contextmanager
def writing(folder: Path, spec: FeatureSpec) -> Iterator["FeatureStore"]:
    """The store of a corpus folder, made if need be, for the one process that may write it.

    Raises:
        FileExistsError: if the folder holds something else.
        ValueError: if it holds features of another encoder, or the store is damaged.
        RuntimeError: while another process writes.
    """
    names = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    if STORE not in names and any((folder / old).is_file() for old in ("index.copy.json", "unmerged/spec.json")):
        raise FileExistsError(f"{folder} was made by an older vclip: delete it and build or extract again")
    if STORE not in names and "corpus.json" in names:
        raise FileExistsError(f"{folder} has no {STORE}: vclip.merge([{str(folder)!r}], new) makes one that can grow")
    if (folder.exists() and not folder.is_dir()) or (STORE not in names and names - {"store.lock"}):
        raise FileExistsError(f"{folder} holds something else: choose another folder or remove it first")
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "store.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise RuntimeError(f"{folder} is being written by another process: run again when it has finished") from None
    try:
        with closing(FeatureStore(folder, spec)) as store:
            store.sweep()
            yield store
    finally:
        lock.release()


class FeatureStore:
    """The rows of `store.sqlite`: `entries` by video, as last read, and `meta`: spec, split, licence, the indexed
    `folder` as seen from here, and whether the tables are `published`. With a `spec` it is made if need be."""

    def __init__(self, folder: Path, spec: FeatureSpec | None = None):
        self.folder = folder
        if spec is None and not (folder / STORE).is_file():
            raise FileNotFoundError(f"{folder} has no {STORE}: extract and MomentIndex.build make one")
        try:
            self.db = sqlite3.connect(folder / STORE, timeout=60)
            if spec is not None:
                self._begin({"spec": asdict(spec), "split": None, "licence": None, "folder": None, "published": False})
            self.read()
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"{folder / STORE} cannot be read ({error}): copy it again, or delete it and go on in a new folder, "
                f"made by vclip.merge([{str(folder)!r}], new)"
            ) from None
        self.spec = FeatureSpec.read(self.meta["spec"], folder / STORE)
        if spec not in (None, self.spec):
            difference = self.spec.difference(spec)
            raise ValueError(f"{folder} holds another encoder's features ({difference}): choose another folder")

    def _begin(self, meta: dict) -> None:
        self.db.execute("PRAGMA synchronous = FULL")
        self.db.execute("BEGIN IMMEDIATE")
        with self.db:
            for statement in SCHEMA:
                self.db.execute(statement)
            items = [(key, json.dumps(value)) for key, value in meta.items()]
            self.db.executemany("INSERT OR IGNORE INTO meta VALUES (?, ?)", items)

    def close(self) -> None:
        self.db.close()

    def read(self) -> None:
        self.meta = {key: json.loads(value) for key, value in self.db.execute("SELECT * FROM meta")}
        found = self.db.execute(f"SELECT {FIELDS} FROM videos ORDER BY rowid")
        self.entries = {entry.video: entry for entry in map(Entry._make, found)}

    def remember(self, **meta) -> None:
        self.meta |= meta
        with self.db:
            items = [(json.dumps(value), key) for key, value in meta.items()]
            self.db.executemany("UPDATE meta SET value = ? WHERE key = ?", items)

    def file(self, entry: Entry) -> Path:
        """Where the file of a video is, or was."""
        return Path(os.path.normpath(self.folder.resolve() / os.fsdecode(entry.path)))

    def captions(self, video: str) -> str | None:
        """The captions of a video as JSON."""
        return (self.db.execute("SELECT captions FROM videos WHERE video = ?", (video,)).fetchone() or [None])[0]

    def add(self, rows: Rows, features: Sequence[np.ndarray | None]) -> None:
        """Write the features (T, F) of videos as one shard and commit their rows; None where there are none."""
        shard, row, placed = self._write([made for made in features if made is not None]), count(), []
        for (entry, captions), made in zip(rows, features, strict=True):
            placed.append((entry if made is None else entry._replace(shard=shard, row=next(row)), captions))
        self.commit(placed)

    def commit(self, rows: Rows, forget: Collection[str] = (), publish: bool = True) -> None:
        """Replace rows, and `forget` those of other videos, all or nothing; `publish`: readers see a difference."""
        if not rows and not forget:
            return
        touched = [*(self.entries.get(v) for v in (*forget, *(e.video for e, _ in rows))), *(e for e, _ in rows)]
        with self.db:
            self.db.executemany("DELETE FROM videos WHERE video = ?", [(video,) for video in forget])
            self.db.executemany(f"INSERT OR REPLACE INTO videos VALUES ({VALUES})", [(*e, text) for e, text in rows])
            if publish and any(entry is not None and entry.shard is not None for entry in touched):
                self.remember(published=False)  # and commits
        for video in forget:
            del self.entries[video]
        self.entries |= {entry.video: entry for entry, _ in rows}

    def damaged(self) -> set[int]:
        """Shards that are gone or do not hold what was written."""
        found = set()
        for shard, *before in self.db.execute("SELECT * FROM shards").fetchall():
            try:
                now = still(self._shard(shard), Content(*before))
            except OSError:
                now = None
            if now is None:
                found.add(shard)
            elif now != tuple(before):
                self._sign(shard, now)
        return found

    def finish(self) -> None:
        """Pack shards that are less than half full together, and publish the tables if they differ."""
        self.read()
        shards, pending = defaultdict(list), []
        for entry in sorted(self.entries.values(), key=_place):
            if entry.shard is not None:
                shards[entry.shard].append(entry)
        small = [entries for entries in shards.values() if not self.full(entries * 2)]
        for entry in (entry for entries in small for entry in entries if len(small) > 1):
            pending.append(entry)
            if self.full(pending):
                self._pack(pending)
                pending = []
        if pending:
            self._pack(pending)
        if not self.meta["published"] or not (self.folder / "corpus.json").is_file():
            self._publish()
        self.sweep()

    def full(self, entries: Sequence[Entry]) -> bool:
        """Whether videos fill a shard."""
        size = 2 * self.spec.dim * sum(entry.seconds for entry in entries)
        return size >= storage.SHARD_BYTES or len(entries) >= storage.SHARD_VIDEOS

    def sweep(self) -> None:
        """Remove features files that no row and no published table names, and what a stopped write left."""
        used = {entry.shard for entry in self.entries.values()}
        if (self.folder / "corpus.json").is_file():
            used |= {*pq.read_table(self.folder / "videos.parquet", columns=["shard"])["shard"].to_pylist()}
        names = {storage.shard_name(shard) for shard in used if shard is not None}
        with self.db:
            unused = [(shard,) for (shard,) in self.db.execute("SELECT shard FROM shards") if shard not in used]
            self.db.executemany("DELETE FROM shards WHERE shard = ?", unused)
        for file in (*self.folder.glob("features-*.safetensors"), *self.folder.glob(".*.tmp")):
            if file.name not in names:
                file.unlink()

    def _write(self, features: list[np.ndarray]) -> int | None:
        """The number of a new shard. Its row comes before its file, so that no other process takes the number."""
        if not features:
            return None
        with self.db:
            shard = self.db.execute("INSERT INTO shards VALUES (NULL, -1, -1, '')").lastrowid
        assert shard is not None
        storage.write_shard(self._shard(shard), features)
        self._sign(shard, content_of(self._shard(shard)))
        return shard

    def _sign(self, shard: int, content: Content) -> None:
        with self.db:
            self.db.execute("UPDATE shards SET size = ?, mtime = ?, sha256 = ? WHERE shard = ?", (*content, shard))

    def _pack(self, entries: Sequence[Entry]) -> None:
        """Move the features of some videos together into one shard."""
        files = {
            e.shard: [storage.read_tensor(self._shard(e.shard), n) for n in ("features", "starts")] for e in entries
        }
        made = [files[e.shard][0][slice(*files[e.shard][1][e.row :][:2])] for e in entries]
        self.add([(entry, self.captions(entry.video)) for entry in entries], made)
        self.sweep()

    def _publish(self) -> None:
        """Write the tables that readers see. Without corpus.json there is no corpus, so none is half new."""
        (self.folder / "corpus.json").unlink(missing_ok=True)
        entries = sorted((e for e in self.entries.values() if e.shard is not None), key=_place)
        rows = [(e.video, e.seconds, e.shard, e.row, e.media) for e in entries]
        said = ((e.video, self.captions(e.video)) for e in entries)
        captions = ((video, Captions(**json.loads(text))) for video, text in said if text is not None)
        meta = {name: self.meta[name] for name in ("spec", "split", "licence")} | {"tokenizer": None}
        storage.write_tables(self.folder, rows, captions, meta)
        self.remember(published=True)

    def _shard(self, shard: int | None) -> Path:
        assert shard is not None
        return self.folder / storage.shard_name(shard)


def as_json(captions: Captions) -> str:
    """Raises ValueError for a text that holds half a surrogate pair, which JSON can but no table."""
    "".join(captions.text).encode()
    return json.dumps({"start": captions.start.tolist(), "end": captions.end.tolist(), "text": captions.text})


def _place(entry: Entry) -> tuple[bool, list[str]]:
    """By the path of its file, as a folder is listed; those without one come last."""
    return entry.media is None, (entry.media or "").split("/")
