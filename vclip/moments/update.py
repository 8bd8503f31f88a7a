"""Which files of a folder an index must encode, and encoding them: new and changed ones, no other.

T seconds and W windows of one video, F feature size, D hidden size.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from vclip.extraction import extract_one
from vclip.moments.files import present_in, shown, stat_of
from vclip.moments.store import Entry, Store, full

SAVE_EVERY = 30.0  # seconds of work that a kill may cost


class Change(NamedTuple):
    """One video of an update. `change` is "added", "changed", "moved" (renamed, the same bytes) or "dropped";
    `status` that of `vclip.extraction.Row`: "failed" means that the index does not hold it, and `error` why."""

    video: str
    change: str
    seconds: int
    status: str
    error: str


class UpdateReport(list[Change]):
    """One row for each video that is not as it was. Shown, it counts them and lists those that are not ok."""

    def __repr__(self) -> str:
        counts = Counter("failed" if row.status == "failed" else row.change for row in self)
        bad = [row for row in self if row.status != "ok"]
        lines = [f"  {ascii(row.video)[1:-1]} ({row.change}) {row.status}: {ascii(row.error)[1:-1]}" for row in bad]
        return "\n".join([", ".join(f"{n} {name}" for name, n in counts.items()) or "nothing changed", *lines])

    def _repr_html_(self) -> str:
        import pandas as pd

        return pd.DataFrame(self, columns=Change._fields).to_html(index=False, escape=True)


def update(
    store: Store, folder: Path, encoder: Callable[[], Any], embed: Callable[[list[np.ndarray]], list[np.ndarray]]
) -> tuple[list[Entry], UpdateReport]:
    """The entries of the folder's videos as they are now, and what changed; nothing is published yet.

    `encoder()` is asked for when the first file must be encoded; `embed` makes z_v (W, D) of features (T, F), for
    each of a list.
    A file is known by its size and time, and if they differ by its content. Work is saved every `SAVE_EVERY` seconds.
    """
    published = {entry.path: entry for entry in _readable(store, store.entries)}
    known = published | {entry.path: entry for entry in _readable(store, store.unpublished())}
    present = present_in(folder)
    gone = {entry.sha256: entry for entry in known.values() if entry.path not in present}
    kept: dict[str, Entry] = {}
    report, todo = UpdateReport(), []
    for path, file in present.items():
        entry = known.get(path)
        if entry is not None and (entry.size, entry.mtime) == stat_of(file):
            kept[path] = entry
            if published.get(path) != entry:
                report.append(_row(entry, "changed" if path in published else "added"))
        else:
            todo.append(path)
    pending, saved = [], time.monotonic()
    try:
        for path in tqdm(todo, desc="index", unit="video", disable=not todo):
            file, change = present[path], "changed" if path in published else "added"
            entry, features, same = _encode(path, file, encoder, known.get(path), gone)
            if features is not None:
                pending.append((entry, features))
            elif entry.status != "failed":
                kept[path] = entry
                change = "moved" if same else ""
            if change:
                report.append(_row(entry, change))
            if full(pending) or time.monotonic() - saved > SAVE_EVERY:
                kept |= _save(store, pending, embed)
                pending, saved = [], time.monotonic()
    finally:
        kept |= _save(store, pending, embed)
    moved = {entry.sha256 for path, entry in kept.items() if path not in known}
    for path, entry in published.items():
        if path not in present and entry.sha256 not in moved:
            report.append(Change(shown(path), "dropped", entry.seconds, "ok", ""))
    return [kept[path] for path in sorted(kept)], report


def _encode(
    path: str, file: Path, encoder: Callable[[], Any], known: Entry | None, gone: dict[str, Entry]
) -> tuple[Entry, np.ndarray | None, bool]:
    """Entry, features if the file was encoded, and whether its bytes are those of another that is gone."""
    size, mtime = stat_of(file)
    try:
        with open(file, "rb") as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        return Entry(path, size, mtime, "", 0, 0, "failed", str(error)), None, False
    moved = gone.get(sha256)
    same = known if known is not None and known.sha256 == sha256 else moved
    if same is not None:
        return same._replace(path=path, size=size, mtime=mtime), None, same is moved
    row, features, _ = extract_one(shown(path), file, encoder())
    return Entry(path, size, mtime, sha256, row.seconds, 0, row.status, row.error), features, False


def _row(entry: Entry, change: str) -> Change:
    return Change(shown(entry.path), change, entry.seconds, entry.status, entry.error)


def _save(
    store: Store, pending: list[tuple[Entry, np.ndarray]], embed: Callable[[list[np.ndarray]], list[np.ndarray]]
) -> dict[str, Entry]:
    if not pending:
        return {}
    embedded = zip(pending, embed([features for _, features in pending]), strict=True)
    rows = [(entry._replace(windows=len(z_v)), features, z_v) for (entry, features), z_v in embedded]
    return {entry.path: entry for entry in store.add(rows)}


def _readable(store: Store, entries: list[Entry]) -> list[Entry]:
    """Those whose rows can be read: a shard that was lost or damaged is made again."""
    whole = {}
    for entry in entries:
        if entry.shard not in whole:
            try:
                whole[entry.shard] = len(store.features(entry)) == entry.seconds
            except (OSError, ValueError):
                whole[entry.shard] = False
    return [entry for entry in entries if whole[entry.shard]]
