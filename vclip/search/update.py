"""Which files of a folder an index must encode, and encoding them: new and changed ones, no other.

T seconds and W windows of one video, F feature size, D hidden size.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tqdm.auto import tqdm

from vclip.data.extraction import extract_one
from vclip.data.text import printable
from vclip.search.folder import alike, clashing, content_of, duration_of, present_in, stat_of
from vclip.search.state import Entry
from vclip.search.store import Store, full

SAVE_EVERY = 30.0  # seconds of work that a kill may cost


class Change(NamedTuple):
    """One video of an update that is not as it was, or not as it should be.

    `change` is

    * "added", "changed" (other content, same path), "moved" (another path, the same content) or "dropped" (gone),
    * "repaired": encoded again, since the index had lost its features or found them damaged,
    * "kept": the file is there but cannot be read, so the index holds what it held,
    * "skipped": it could not be encoded before and has not changed since; it is tried again when it does,
    * "unlisted": no video but a folder that cannot be listed, all of whose videos are kept.

    `status` is that of `extraction.Row`, "named alike" if the name looks like another video's, or "unreadable" of
    what is kept; "failed" means that the index does not hold it. `error` says why a status is not "ok".
    """

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
) -> tuple[list[Entry], list[Entry], UpdateReport]:
    """The entries of the folder's videos as they are now, those of what cannot be encoded, and what changed.

    Nothing is published yet. `encoder()` is asked for when the first file must be encoded; `embed` makes z_v (W, D) of
    features (T, F), for each of a list. A file is known by its size and time, and if they differ by its content. Work
    is saved every `SAVE_EVERY` seconds. Raises FileNotFoundError if the folder is gone, or all videos of the index are.
    """
    held = {entry.path: entry for entry in store.entries}
    known = {entry.path: entry for entry in store.readable([*store.entries, *store.unpublished()])}
    present, unlisted = present_in(folder, held)
    report = UpdateReport(Change(printable(path), "unlisted", 0, "failed", why) for path, why in unlisted.items())
    for path in sorted(clashing(present)):
        del present[path]
        why = "another file's name is printed just like this one's: rename it"
        report.append(Change(printable(path), "added", 0, "failed", why))

    def as_it_was(entry: Entry) -> bool:
        at = present.get(entry.path)
        return at is not None and (entry.size, entry.mtime) == stat_of(at) or _within(entry.path, unlisted)

    kept = {entry.path: entry for entry in known.values() if as_it_was(entry)}
    if not kept:
        _refuse_emptiness(store, folder, present)
    skipped = {e.path: e for e in store.state.failed if e.path not in kept and as_it_was(e)}
    done, moved, unreadable = _look(present, kept | skipped, known, store, encoder, embed)
    similar = alike(present)
    for entry in done:
        if entry.path in unreadable:
            report.append(Change(printable(entry.path), "kept", entry.seconds, "unreadable", unreadable[entry.path]))
        elif entry.path in skipped:
            report.append(_row(entry, "skipped", similar))
        elif change := _change(entry, held.get(entry.path), entry.path in moved):
            report.append(_row(entry, change, similar))
    still = present.keys() | kept.keys() | set(moved.values())
    gone = (entry for path, entry in held.items() if path not in still)
    report += [Change(printable(entry.path), "dropped", entry.seconds, "ok", "") for entry in gone]
    entries = sorted(entry for entry in done if entry.status != "failed")
    # without a hash a file could not be read, which may change without a trace in its size and time: try again
    return entries, sorted(entry for entry in done if entry.status == "failed" and entry.sha256), report


def _within(path: str, folders: Iterable[str]) -> bool:
    return any(path.startswith(f"{folder}/") for folder in folders)


def _refuse_emptiness(store: Store, folder: Path, present: dict[str, Path]) -> None:
    """Raises FileNotFoundError if no video of an index is there, under whatever name: rather a drive is not."""
    sizes, hashes = ({entry[i] for entry in store.entries} for i in (1, 3))
    if not store.entries or any(entry.path in present for entry in store.entries):
        return
    like = (path for path, file in present.items() if stat_of(file)[0] in sizes)
    if not any(_identify(path, present[path]).sha256 in hashes for path in like):
        what = f"holds none of the {len(store.entries)} videos of the index" if present else "is empty"
        raise FileNotFoundError(
            f"the folder {folder} {what}: mount it, or remove the index {store.path} if that is as it should be"
        )


def _look(
    present: dict[str, Path],
    same: dict[str, Entry],
    known: dict[str, Entry],
    store: Store,
    encoder: Callable,
    embed: Callable,
) -> tuple[list[Entry], dict[str, str], dict[str, str]]:
    """Entries of all files, failed ones among them; where a moved file was; why one cannot be read that is known.

    Those that are not the `same` are looked into.
    """
    todo = [path for path in present if path not in same]
    again = tqdm([path for path in todo if path in known], desc="compare", unit="video", delay=10, leave=False)
    identified = {path: _identify(path, present[path]) for path in again}
    unreadable = {path: entry.error for path, entry in identified.items() if entry.status == "failed"}
    settled = same.keys() | unreadable.keys()
    free = defaultdict(list)  # what was at a path at which there is something else now, or nothing
    for path, entry in known.items():
        if path not in settled and (path not in identified or identified[path].sha256 != entry.sha256):
            free[entry.sha256].append(entry)
    done, pending, moved, saved = [*same.values(), *(known[path] for path in unreadable)], [], {}, time.monotonic()
    todo = [path for path in todo if path not in unreadable]
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
    return done, moved, unreadable


def _identify(path: str, file: Path) -> Entry:
    """What a file is, before it is encoded; failed if it cannot be read."""
    try:
        return Entry(path, *content_of(file), 0, 0, "ok", "")
    except OSError as error:
        return Entry(path, *stat_of(file), "", 0, 0, "failed", f"cannot be read ({error.strerror})")


def _encode(entry: Entry, file: Path, encoder) -> tuple[Entry, np.ndarray | None]:
    """The entry and features (T, F) float16, None if it failed."""
    row, features, _ = extract_one(printable(entry.path), file, encoder)
    if features is None and stat_of(file) != (entry.size, entry.mtime):  # its drive went, or it is being written
        entry = entry._replace(sha256="")
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
