"""`store.sqlite` in a corpus folder: what must survive a kill while a folder of videos is encoded.

It has a row a video: file, captions, status, and where the features are. They wait in the row until they fill a shard,
whose file is written before the rows name it. `finish` publishes the tables that readers see, corpus.json last.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from vclip.data import storage
from vclip.data.captions import Captions
from vclip.data.corpus import STORE
from vclip.data.spec import PROJECTION, FeatureSpec


class Content(NamedTuple):
    """A file when it was read: bytes, time of its last change in ns, SHA-256; -1 where it could not be read."""

    size: int = -1
    mtime: int = -1
    sha256: str = ""


def content_of(file: Path) -> Content:
    """Hash a file; its size and time are taken before."""
    found = os.stat(file)
    with open(file, "rb") as opened:
        return Content(found.st_size, found.st_mtime_ns, hashlib.file_digest(opened, "sha256").hexdigest())


class Entry(NamedTuple):
    video: str
    media: str | None  # its path in its folder, as text
    path: bytes  # leads to its file, see `FeatureStore.file`
    size: int
    mtime: int
    sha256: str
    seconds: int = 0
    duration: float | None = None  # when it ends: its last second may be a part of one
    status: str = "ok"  # or "damaged", or "failed"
    error: str = ""
    shard: int | None = None  # where its features are
    row: int | None = None
    caption_stamp: str = ""  # its caption file when it was read
    caption_error: str = ""


# AUTOINCREMENT: the number of a shard is never used twice, since a reader may still map the old file
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value);
CREATE TABLE IF NOT EXISTS shards (shard INTEGER PRIMARY KEY AUTOINCREMENT);
CREATE TABLE IF NOT EXISTS videos (video TEXT PRIMARY KEY, {", ".join(Entry._fields[1:])}, captions, features);
CREATE INDEX IF NOT EXISTS waiting ON videos (video) WHERE features IS NOT NULL;
"""


def still(file: Path, entry: Entry) -> Content | None:
    """The file of an entry as it is now; None if its size differs, or its time and its hash do."""
    found = os.stat(file)
    if entry.shard is not None and entry.size < 0:  # of a corpus that was made without a store
        return Content(found.st_size, found.st_mtime_ns)
    # a copy that keeps the time may mend what was damaged
    if entry.status == "ok" and (found.st_size, found.st_mtime_ns) == (entry.size, entry.mtime):
        return Content(entry.size, entry.mtime, entry.sha256)
    now = content_of(file) if found.st_size == entry.size else Content()
    return now if now.sha256 and now.sha256 == entry.sha256 else None


@contextmanager
def writing(folder: Path, spec: FeatureSpec) -> Iterator["FeatureStore"]:
    """The store of a corpus folder, made if need be, for the one process that may write it."""
    names = set(os.listdir(folder)) if folder.is_dir() else set()
    if STORE not in names and "corpus.json" in names:
        raise FileExistsError(f"{folder} has no {STORE}: vclip.merge([{str(folder)!r}], new) makes one that can grow")
    if folder.is_file() or (STORE not in names and names - {"store.lock"}):
        raise FileExistsError(f"{folder} holds something else: choose another folder or remove it first")
    with storage.locked(folder, "store.lock"), closing(FeatureStore(folder, spec)) as store:
        store.flush()  # what waits since a run was killed
        yield store


class FeatureStore:
    """The rows of `store.sqlite`: `entries` by video, as last read, and `meta`: spec, split, licence, the indexed
    `folder` as seen from here, whether all is `published`, or "captions". With a `spec` it is made if need be."""

    def __init__(self, folder: Path, spec: FeatureSpec | None = None):
        self.folder = folder
        if spec is None and not (folder / STORE).is_file():
            raise FileNotFoundError(f"{folder} has no {STORE}: extract and MomentIndex.build make one")
        try:
            self.db = sqlite3.connect(folder / STORE)
            if spec is not None:
                self.db.executescript(SCHEMA)
            self.meta = {key: json.loads(value) for key, value in self.db.execute("SELECT * FROM meta")}
            found = self.db.execute(f"SELECT {', '.join(Entry._fields)} FROM videos ORDER BY rowid")
            self.entries = {entry.video: entry for entry in map(Entry._make, found)}
            if spec is not None and not self.meta:
                self.remember(spec=asdict(spec), split=None, licence=None, folder=None, published=None)
        except sqlite3.DatabaseError as error:
            remedy = f"copy it again; or delete it: an index is built anew without {folder}, a corpus goes on in a new "
            remedy += f"folder made by vclip.merge([{str(folder)!r}], new)"
            raise ValueError(f"{folder / STORE} cannot be read ({error}): {remedy}") from None
        self.spec = FeatureSpec.read(self.meta["spec"], folder / STORE)
        if spec is not None and (difference := self.spec.difference(spec)):
            raise ValueError(f"{folder} holds another encoder's features ({difference}): choose another folder")

    def close(self) -> None:
        self.db.close()

    def remember(self, **meta) -> None:
        self.meta |= meta
        with self.db:
            self.db.executemany("REPLACE INTO meta VALUES (?, ?)", [(k, json.dumps(v)) for k, v in meta.items()])

    def file(self, entry: Entry) -> Path:
        """Where the file of a video is, or was."""
        return Path(os.path.normpath(self.folder.resolve() / os.fsdecode(entry.path)))

    def captions(self, video: str) -> str | None:
        """The captions of a video: JSON of start, end and text."""
        return (self.db.execute("SELECT captions FROM videos WHERE video = ?", (video,)).fetchone() or [None])[0]

    def save(self, entry: Entry, captions: str | None, features: np.ndarray | None = None) -> None:
        """Commit a video that was encoded, with its features (T, F); None if it failed."""
        self.commit([(entry, captions)], features=features)
        sizes = self.db.execute("SELECT length(features) FROM videos WHERE features IS NOT NULL")
        if storage.is_full([size for (size,) in sizes]):
            self.flush()

    def commit(self, rows: Collection[tuple], forget: Collection[str] = (), features: np.ndarray | None = None) -> None:
        """Replace `rows` (entry, captions) and `forget` those of other videos, all or nothing."""
        waiting = None if features is None else features.astype(np.float16).tobytes()
        old = [shown(self.entries.get(e.video), self.captions(e.video)) for e, _ in rows]
        new = [shown(e, said) for e, said in rows]
        gone = any(shown(self.entries[video], None)[1] for video in forget)
        if self.meta["published"] and (gone or new != old):
            same = not gone and [said for said, _ in new] == [said for said, _ in old]
            self.remember(published=same and self.meta["published"] in (True, "captions") and "captions")
        with self.db:
            self.db.executemany("DELETE FROM videos WHERE video = ?", [(video,) for video in forget])
            insert = f"INSERT OR REPLACE INTO videos VALUES ({'?, ' * len(Entry._fields)}?, ?)"
            self.db.executemany(insert, [(*entry, captions, waiting) for entry, captions in rows])
        for video in forget:
            del self.entries[video]
        self.entries |= {entry.video: entry for entry, _ in rows}

    def flush(self) -> None:
        """Write the features that wait as one shard."""
        found = self.db.execute("SELECT video, seconds, features FROM videos WHERE features IS NOT NULL")
        waiting = {video: np.frombuffer(rows, np.float16).reshape(seconds, -1) for video, seconds, rows in found}
        if not waiting:
            return
        self.remember(published=self.meta["published"] in (True, "captions") and "captions")
        with self.db:
            shard = self.db.execute("INSERT INTO shards DEFAULT VALUES").lastrowid or 0
        storage.write_shard(self.folder / storage.shard_name(shard), list(waiting.values()))
        placed = [self.entries[video]._replace(shard=shard, row=row) for row, video in enumerate(waiting)]
        with self.db:
            rows = [(entry.shard, entry.row, entry.video) for entry in placed]
            self.db.executemany("UPDATE videos SET shard = ?, row = ?, features = NULL WHERE video = ?", rows)
        self.entries |= {entry.video: entry for entry in placed}

    def finish(self) -> None:
        """Publish the tables if they differ, and remove features files that no row names, and what a kill left."""
        there = [entry for entry in self.entries.values() if entry.shard is not None]
        if not self.is_published():
            (self.folder / "corpus.json").unlink(missing_ok=True)  # no corpus, rather than one that is half new
            # by the paths of their files, as a folder is listed; those without one come last
            there.sort(key=lambda entry: (entry.media is None, (entry.media or "").split("/")))
            rows = [(e.video, e.seconds, e.shard, e.row, e.media) for e in there]
            meta = {name: self.meta[name] for name in ("spec", "split", "licence")} | {"tokenizer": None}
            kept = self.meta["published"] == "captions" and (self.folder / "captions.parquet").is_file()
            storage.write_tables(self.folder, rows, None if kept else self._captions([e.video for e in there]), meta)
            self.remember(published=True)
        made = {storage.shard_name(shard) for (shard,) in self.db.execute("SELECT shard FROM shards")}
        stale = made - {storage.shard_name(entry.shard) for entry in there if entry.shard is not None}
        made |= {"corpus.json", "captions.parquet", "videos.parquet", PROJECTION}
        for file in self.folder.iterdir():  # .NAME.PROCESS.tmp and safetensors' .tmp...... were being written
            unfinished = file.match(".tmp??????") or (file.suffix == ".tmp" and file.name[1:].rsplit(".", 2)[0] in made)
            if file.name in stale or unfinished:
                file.unlink()

    def is_published(self) -> bool:
        """Whether readers see what the store knows."""
        return (self.folder / "corpus.json").is_file() and self.meta["published"] is True

    def _captions(self, videos: list[str]) -> Iterator[pa.Table]:
        for first in range(0, len(videos), storage.VIDEOS_AT_ONCE):
            some = videos[first : first + storage.VIDEOS_AT_ONCE]
            find = f"SELECT video, captions FROM videos WHERE video IN ({', '.join('?' * len(some))})"
            found = dict(self.db.execute(find, some))
            if said := {video: found[video] for video in some if found[video] is not None}:
                yield storage.captions_of_json([*said], [*said.values()])


def shown(entry: Entry | None, captions: str | None) -> tuple[Any, Any]:  # what readers see of a video, or will
    there = entry is not None and (entry.status != "failed" or entry.shard is not None)
    rest = (entry.media, entry.seconds, entry.shard, entry.row) if entry and there else None
    return rest and captions and (rest[0], captions), rest  # the table of captions is in the order of `media`


def as_json(captions: Captions) -> str:
    """Raises ValueError for a text with half a surrogate pair: JSON can hold it, a table cannot."""
    "".join(captions.text).encode()
    return json.dumps({"start": captions.start.tolist(), "end": captions.end.tolist(), "text": captions.text})
