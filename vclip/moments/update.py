"""Which files of a folder an index must encode, and encoding them: new and changed ones, no other.

T seconds and W windows of one video, F feature size, D hidden size.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from vclip.extraction import extract_one
from vclip.moments.files import alike, clashing, duration_of, present_in, sha256_of, stat_of
from vclip.moments.store import Entry, Store, full
from vclip.names import printable

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
    each of a list. A file is known by its size and time, and if they differ by its content. Work is saved every
    `SAVE_EVERY` seconds. Raises FileNotFoundError if the folder is gone.
    """
    held = {entry.path: entry for entry in store.entries}
    known = {entry.path: entry for entry in store.readable([*store.entries, *store.unpublished()])}
    present, unlisted = present_in(folder)
    report = UpdateReport(Change(printable(path), "unlisted", 0, "failed", why) for path, why in unlisted.items())
    for path in sorted(clashing(present)):
        del present[path]
        why = "another file's name is printed just like this one's: rename it"
        report.append(Change(printable(path), "added", 0, "failed", why))
    kept = [
        entry
        for path, entry in known.items()
        if (path in present and (entry.size, entry.mtime) == stat_of(present[path]))
        or any(path.startswith(f"{shut}/") for shut in unlisted)
    ]
    done, moved = _look(present, kept, known, store, encoder, embed)
    similar = alike(present)
    for entry in done:
        if change := _change(entry, held.get(entry.path), entry.path in moved):
            report.append(_row(entry, change, similar))
    still = present.keys() | {entry.path for entry in kept} | set(moved.values())
    gone = (entry for path, entry in held.items() if path not in still)
    report += [Change(printable(entry.path), "dropped", entry.seconds, "ok", "") for entry in gone]
    return sorted(entry for entry in done if entry.status != "failed"), report


def _look(
    present: dict[str, Path],
    kept: list[Entry],
    known: dict[str, Entry],
    store: Store,
    encoder: Callable,
    embed: Callable,
) -> tuple[list[Entry], dict[str, str]]:
    """Entries of all files, failed ones among them, and where a moved file was. Those not `kept` are looked into."""
    same = {entry.path for entry in kept}
    todo = [path for path in present if path not in same]
    again = tqdm([path for path in todo if path in known], desc="compare", unit="video", delay=10, leave=False)
    identified = {path: _identify(path, present[path]) for path in again}
    free = defaultdict(list)  # what was at a path at which there is something else now, or nothing
    for path, entry in known.items():
        if path not in same and (path not in identified or identified[path].sha256 != entry.sha256):
            free[entry.sha256].append(entry)
    done, pending, moved, saved = list(kept), [], {}, time.monotonic()
    try:
        for path in tqdm(todo, desc="index", unit="video", disable=not todo):
            entry = identified.get(path) or _identify(path, present[path])
            at = {"path": path, "size": entry.size, "mtime": entry.mtime}
            if entry.status == "failed":
                done.append(entry)
            elif path in known and known[path].sha256 == entry.sha256:
                done.append(known[path]._replace(**at))
            elif free[entry.sha256]:
                source = free[entry.sha256].pop()
                moved[path] = source.path
                done.append(source._replace(**at))
            else:
                entry, features = _encode(entry, present[path], encoder())
                if features is None:
                    done.append(entry)
                else:
                    pending.append((entry, features))
            if full(pending) or time.monotonic() - saved > SAVE_EVERY:
                done += _save(store, pending, embed)
                pending, saved = [], time.monotonic()
    finally:
        done += _save(store, pending, embed)
    return done, moved


def _identify(path: str, file: Path) -> Entry:
    """What a file is, before it is encoded; failed if it cannot be read."""
    size, mtime = stat_of(file)
    try:
        return Entry(path, size, mtime, sha256_of(file), 0, 0, "ok", "")
    except OSError as error:
        return Entry(path, size, mtime, "", 0, 0, "failed", f"cannot be read ({error.strerror})")


def _encode(entry: Entry, file: Path, encoder) -> tuple[Entry, np.ndarray | None]:
    """The entry and features (T, F) float16, None if it failed."""
    row, features, _ = extract_one(printable(entry.path), file, encoder)
    found = {"seconds": row.seconds, "status": row.status, "error": row.error}
    return entry._replace(**found, duration=duration_of(file, row.seconds)), features


def _save(
    store: Store, pending: list[tuple[Entry, np.ndarray]], embed: Callable[[list[np.ndarray]], list[np.ndarray]]
) -> list[Entry]:
    """The entries with their places; a video of which the model makes NaN or infinity has failed."""
    if not pending:
        return []
    z_v = embed([features for _, features in pending])
    finite = [bool(np.isfinite(rows).all()) for rows in z_v]
    why = "the model makes NaN or infinity of it: its weights are damaged, or its precision is too low"
    failed = [e._replace(status="failed", error=why) for (e, _), ok in zip(pending, finite, strict=True) if not ok]
    rows = [(e._replace(windows=len(z)), x, z) for (e, x), z, ok in zip(pending, z_v, finite, strict=True) if ok]
    return failed + (store.add(rows) if rows else [])


def _change(entry: Entry, before: Entry | None, moved: bool) -> str:
    """The `change` of a `Change`, empty if there is none to report."""
    if moved:
        return "moved"
    if before is None or entry.sha256 != before.sha256:
        return "added" if before is None else "changed"
    return "repaired" if (entry.shard, entry.row) != (before.shard, before.row) or entry.status == "failed" else ""


def _row(entry: Entry, change: str, similar: dict[str, str]) -> Change:
    status, error = entry.status, entry.error
    if status != "failed" and entry.path in similar:
        status = "named alike" if status == "ok" else status
        named = f"its name looks like {ascii(similar[entry.path])}, another file"
        error = "; ".join(filter(None, [error, named]))
    return Change(printable(entry.path), change, entry.seconds, status, error)
