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
from collections.abc import Iterable, Iterator, Sequence
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
from vclip.data.corpus import STORE, Corpus
from vclip.data.spec import FeatureSpec

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS meta (value TEXT)",
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
    if STORE not in names and names & {"index.json", "unmerged"}:
        raise FileExistsError(f"{folder} was made by an older vclip: delete it and build or extract again")
    if (folder.exists() and not folder.is_dir()) or (names - {"store.lock"} and not names & {STORE, "corpus.json"}):
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
    """The rows of `store.sqlite`. `entries` are those last read, by video; `meta` holds spec, split, licence, the
    watched folder, and whether the tables are published."""

    def __init__(self, folder: Path, spec: FeatureSpec | None = None):
        self.folder = Path(folder)
        if spec is None and not (self.folder / STORE).is_file():
            raise FileNotFoundError(f"{self.folder} has no {STORE}: extract or MomentIndex.build make one")
        try:
            self.db = sqlite3.connect(self.folder / STORE, timeout=60)
            if spec is not None:
                self._begin(spec)
            self.read()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            raise ValueError(
                f"{self.folder / STORE} is damaged ({error}): delete it, and the next run begins from corpus.json"
            ) from None
        self.spec = FeatureSpec.read(self.meta["spec"], self.folder / STORE)
        if spec not in (None, self.spec):
            raise ValueError(
                f"{self.folder} holds another encoder's features ({self.spec.difference(spec)}): choose another folder"
            )

    def close(self) -> None:
        self.db.close()

    def read(self) -> None:
        self.meta = json.loads(self.db.execute("SELECT value FROM meta").fetchone()[0])
        found = self.db.execute(f"SELECT {FIELDS} FROM videos ORDER BY rowid")
        self.entries = {entry.video: entry for entry in map(Entry._make, found)}

    def file(self, entry: Entry) -> Path:
        """Where the file of a video is, or was."""
        return Path(os.path.normpath(self.folder / os.fsdecode(entry.path)))

    def captions(self, video: str) -> str | None:
        """The captions of a video as JSON."""
        return (self.db.execute("SELECT captions FROM videos WHERE video = ?", (video,)).fetchone() or [None])[0]

    def remember(self, **meta) -> None:
        with self.db:
            self._remember(**meta)

    def add(self, rows: Rows, features: list[np.ndarray | None]) -> list[Entry]:
        """Write the features (T, F) of videos as one shard and commit their rows; None where there are none."""
        shard, placed = self._write([f for f in features if f is not None]), []
        row = count()
        for (entry, captions), made in zip(rows, features, strict=True):
            placed.append((entry if made is None else entry._replace(shard=shard, row=next(row)), captions))
        self.commit(placed)
        return [entry for entry, _ in placed if entry.shard is not None]

    def commit(self, rows: Rows, forget: Iterable[str] = (), publish: bool = True) -> None:
        """Replace rows, and `forget` those of other videos, all or nothing; `publish`: readers see a difference."""
        forget = list(forget)
        touched = [self.entries.get(video) for video in (*forget, *(entry.video for entry, _ in rows))]
        publish = publish and any(e is not None and e.shard is not None for e in (*touched, *(e for e, _ in rows)))
        with self.db:
            self.db.executemany("DELETE FROM videos WHERE video = ?", [(video,) for video in forget])
            self.db.executemany(f"INSERT OR REPLACE INTO videos VALUES ({VALUES})", [(*e, text) for e, text in rows])
            if publish:
                self._remember(published=False)
        for video in forget:
            del self.entries[video]
        self.entries |= {entry.video: entry for entry, _ in rows}

    def take_over(self, other: "FeatureStore") -> None:
        """What another store knows of the files of its videos, whose features are here too."""
        known = [entry for entry in other.entries.values() if entry.shard is not None]
        rows = []
        for entry in known:
            path = os.fsencode(os.path.abspath(other.file(entry))) if entry.path else b""
            mine = self.entries[entry.video]
            rows.append((entry._replace(path=path, shard=mine.shard, row=mine.row), self.captions(entry.video)))
        self.commit(rows, publish=False)

    def damaged(self) -> set[int]:
        """Shards that are gone or do not hold what was written."""
        found = set()
        for shard, *content in self.db.execute("SELECT * FROM shards").fetchall():
            before = Content(*content)
            try:
                now = still(self._shard(shard), before)
            except OSError:
                now = None
            if now is None:
                found.add(shard)
            elif now != before:
                with self.db:
                    self.db.execute("UPDATE shards SET mtime = ? WHERE shard = ?", (now.mtime, shard))
        return found

    def pack(self, entries: Sequence[Entry]) -> None:
        """Move the features of some videos together into one shard."""
        before = {entry.shard for entry in entries}
        starts = {s: storage.read_tensor(self._shard(s), "starts") for s in before}
        rows = {s: storage.read_rows(self._shard(s)) for s in before}
        shard = self._write([rows[e.shard][slice(*starts[e.shard][e.row :][:2])] for e in entries])
        placed = [(shard, row, entry.video) for row, entry in enumerate(entries)]
        with self.db:
            self.db.executemany("UPDATE videos SET shard = ?, row = ? WHERE video = ?", placed)
            self._remember(published=False)
        self.entries |= {e.video: e._replace(shard=shard, row=row) for row, e in enumerate(entries)}
        used = {entry.shard for entry in self.entries.values()} | self._published()
        for old in before - used:
            self._shard(old).unlink()
            with self.db:
                self.db.execute("DELETE FROM shards WHERE shard = ?", (old,))

    def finish(self) -> None:
        """Pack shards that are less than half full, and publish the tables if they differ."""
        self.read()
        shards, pending = defaultdict(list), []
        for entry in sorted(self.entries.values(), key=_place):
            if entry.shard is not None:
                shards[entry.shard].append(entry)
        small = [entries for entries in shards.values() if not self.full(entries, 2)]
        for entry in (entry for entries in small for entry in entries if len(small) > 1):
            pending.append(entry)
            if self.full(pending):
                self.pack(pending)
                pending = []
        if pending:
            self.pack(pending)
        if not self.meta["published"] or not (self.folder / "corpus.json").is_file():
            self._publish()
        self.sweep()

    def full(self, entries: Sequence[Entry], times: int = 1) -> bool:
        """Whether videos, taken so many times, fill a shard."""
        size = 2 * self.spec.dim * sum(entry.seconds for entry in entries)
        return times * size >= storage.SHARD_BYTES or times * len(entries) >= storage.SHARD_VIDEOS

    def sweep(self) -> None:
        """Remove features files that no row and no published table names, and what a stopped write left."""
        used = {entry.shard for entry in self.entries.values()} | self._published()
        names = {storage.shard_name(shard) for shard in used if shard is not None}
        with self.db:
            unused = [(shard,) for (shard,) in self.db.execute("SELECT shard FROM shards") if shard not in used]
            self.db.executemany("DELETE FROM shards WHERE shard = ?", unused)
        for file in (*self.folder.glob("features-*.safetensors"), *self.folder.glob(".*.tmp")):
            if file.name not in names:
                file.unlink()

    def _begin(self, spec: FeatureSpec) -> None:
        """Make the tables, from those of a corpus that was made otherwise, such as merged, if there is one."""
        self.db.execute("PRAGMA synchronous = FULL")
        self.db.execute("BEGIN IMMEDIATE")
        with self.db:
            for statement in SCHEMA:
                self.db.execute(statement)
            if self.db.execute("SELECT count(*) FROM meta").fetchone()[0]:
                return
            corpus = Corpus.open(self.folder) if (self.folder / "corpus.json").is_file() else None
            own = {"spec": spec, "split": None, "licence": None} if corpus is None else vars(corpus)
            meta = {name: own[name] for name in ("split", "licence")} | {"spec": asdict(own["spec"])}
            meta |= {"folder": None, "published": corpus is not None}
            self.db.execute("INSERT INTO meta VALUES (?)", (json.dumps(meta),))
            if corpus is None:
                return
            rows = pq.read_table(self.folder / "videos.parquet").to_pylist()
            for i, row in enumerate(rows):
                said = corpus.captions(i)
                place = row["shard"], row["row"]
                entry = Entry(row["video_id"], row["media"], b"", *Content(), row["seconds"], None, "ok", "", *place)
                self.db.execute(f"INSERT INTO videos VALUES ({VALUES})", (*entry, as_json(said) if len(said) else None))
            for shard in {row["shard"] for row in rows}:
                self.db.execute("INSERT INTO shards VALUES (?, ?, ?, ?)", (shard, *content_of(self._shard(shard))))

    def _remember(self, **meta) -> None:
        self.meta = json.loads(self.db.execute("SELECT value FROM meta").fetchone()[0]) | meta
        self.db.execute("UPDATE meta SET value = ?", (json.dumps(self.meta),))

    def _write(self, features: list[np.ndarray]) -> int | None:
        """The number of a new shard. Its row comes before it, so that no other process takes the number."""
        if not features:
            return None
        with self.db:
            shard = self.db.execute("INSERT INTO shards VALUES (NULL, -1, -1, '')").lastrowid
        assert shard is not None
        storage.write_shard(self._shard(shard), features)
        with self.db:
            content = content_of(self._shard(shard))
            self.db.execute("UPDATE shards SET size = ?, mtime = ?, sha256 = ? WHERE shard = ?", (*content, shard))
        return shard

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

    def _published(self) -> set[int]:
        """The shards that the tables on the disk name."""
        if not (self.folder / "corpus.json").is_file():
            return set()
        return set(pq.read_table(self.folder / "videos.parquet", columns=["shard"])["shard"].to_pylist())

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
