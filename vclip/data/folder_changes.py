"""What has changed in a folder of videos since its features were stored, and all of it that needs no encoder."""

import os
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path

from vclip.data.captions import deduplicate, read_captions
from vclip.data.feature_store import Content, Entry, FeatureStore, as_json, content_of, still
from vclip.data.storage import shard_name
from vclip.data.text import printable
from vclip.data.video_files import find_captions, listing

Changes = dict[str, tuple[str, str]]  # by video what happened to it, and why it could not be read


class Files:
    """The video files of a folder as a store names them, and the captions beside each."""

    def __init__(self, store: FeatureStore, videos: Mapping[str, Path], folder: Path):
        self.videos, self.folder = videos, folder
        index, root = store.folder.resolve(), folder.resolve()
        # relative if the store lies among the videos, so that both can be moved
        self.root = os.path.relpath(root, index) if index.is_relative_to(root) else os.path.abspath(folder)
        self._listing = cache(listing)

    def place(self, video: str) -> tuple[str, bytes]:
        """`media` and `path` of an `Entry`."""
        inside = self.videos[video].relative_to(self.folder)
        return printable(inside.as_posix()), os.fsencode(os.path.join(self.root, inside))

    def captions(self, video: str) -> Path | None:
        return find_captions(self.videos[video], self._listing(self.videos[video].parent))


def compare(store: FeatureStore, files: Files, some: Sequence[str], forget: bool = False) -> tuple[list[str], Changes]:
    """Hold `some` videos of a folder against the store; what needs no encoder is done at once.

    Files that moved keep their features, captions that changed are read, and with `forget` videos that are gone from
    the folder leave the store. FileNotFoundError if all would: rather a drive is not mounted. ValueError for a video
    whose id belongs to another file that is still there.

    Returns:
        The videos to be encoded, and by video what changed: "added", "changed" (other content), "moved" (another
        path, the same content), "captions", "dropped", "repaired" (its features were lost), "skipped" (it failed and
        has not changed since) or "unreadable" (its features stay as they were).
    """
    held = {video for video, entry in store.entries.items() if entry.shard is not None}
    changes = _without_lost(store)
    same: dict[str, tuple[Entry, Entry]] = {}  # as it was, as it is now
    todo: list[str] = []
    for video in some:
        entry = store.entries.get(video)
        try:
            now = None if entry is None else _still(files.videos[video], entry)
        except OSError as error:
            now = None
            if entry is not None and entry.shard is not None:
                changes[video] = "unreadable", f"cannot be read ({error.strerror}): its features stay as they were"
                continue
        if entry is not None and now is not None:
            same[video] = entry, Entry(video, *files.place(video), *now, *entry[6:])
            if entry.status == "failed":
                changes[video] = "skipped", ""
            continue
        path = files.place(video)[1]
        if entry is not None and entry.path not in (b"", path) and os.path.lexists(store.file(entry)):
            raise ValueError(
                f"{files.videos[video]} and {store.file(entry)} have one id, {video!r}: rename one, or extract the "
                "folders together"
            )
        todo.append(video)
        changes.setdefault(video, ("changed" if video in held else "added", ""))
    free = _free(store, files, todo)
    for video in list(todo):
        content = _content_if(files.videos[video], {size for size, _ in free})
        if candidates := free.get((content.size, content.sha256)):
            entry = candidates.pop()
            same[video] = entry, Entry(video, *files.place(video), *content, *entry[6:])
            changes[video] = "moved", ""
            todo.remove(video)
    moved = {before.video for video, (before, _) in same.items() if before.video != video}
    # of those not in the folder, what is still where it was belongs to another folder
    absent = store.entries.keys() - files.videos.keys() - moved if forget else set()
    gone = {v for v in absent if not (e := store.entries[v]).path or not os.path.lexists(store.file(e))}
    if forget and held and held <= gone:
        raise FileNotFoundError(
            f"{files.folder} holds none of the {len(held)} videos of {store.folder}: is the drive mounted? "
            f"If they were deleted on purpose, delete {store.folder}"
        )
    changes |= dict.fromkeys(gone & held, ("dropped", ""))
    rows = []
    for video, (before, now) in same.items():
        said = had = store.captions(before.video)
        if now.shard is not None:
            now, said = with_captions(now, files.captions(video), had)
        if said != had or now.caption_error != before.caption_error:
            changes.setdefault(video, ("captions", ""))
        if now != before or said != had:
            rows.append((now, said))
    store.commit(rows, forget=gone | moved)
    return todo, changes


def _without_lost(store: FeatureStore) -> Changes:
    """Forget where features were whose file is gone, so that their videos are encoded again."""
    there = set(os.listdir(store.folder))
    lost = [e for e in store.entries.values() if e.shard is not None and shard_name(e.shard) not in there]
    off = {"shard": None, "row": None, "size": -1, "status": "failed", "error": "its features are lost"}
    store.commit([(entry._replace(**off), store.captions(entry.video)) for entry in lost])
    return {entry.video: ("repaired", "") for entry in lost}


def _still(file: Path, entry: Entry) -> Content | None:
    if entry.shard is not None and entry.size < 0:  # of a corpus that was made without a store
        found = os.stat(file)
        return Content(found.st_size, found.st_mtime_ns)
    return still(file, entry.content)


def _free(store: FeatureStore, files: Files, todo: Collection[str]) -> dict[tuple[int, str], list[Entry]]:
    """Videos whose features another file may take over, by size and hash: in their place is another file, or none."""
    free, other = defaultdict(list), set(todo)
    away = [e for e in store.entries.values() if e.sha256 and (e.video in other or e.video not in files.videos)]
    here = {files.place(video)[1] for video in files.videos} if away else set()
    for entry in away:
        if entry.shard is not None and (entry.video in other or entry.path in here or not store.file(entry).exists()):
            free[entry.size, entry.sha256].append(entry)
    return free


def _content_if(file: Path, sizes: Collection[int]) -> Content:
    """What a file holds, if it has one of these sizes and can be read."""
    try:
        return content_of(file) if os.stat(file).st_size in sizes else Content()
    except OSError:
        return Content()


def with_captions(entry: Entry, file: Path | None, said: str | None) -> tuple[Entry, str | None]:
    """The entry of a video and its captions as JSON, read if `file` is not as it was; if that fails it keeps `said`."""
    stamp, error = "", ""
    try:
        if file is not None:
            found = file.stat()
            stamp = f"{file.name} {found.st_size} {found.st_mtime_ns}"
        if stamp == entry.caption_stamp:
            return entry, said
        said = None if file is None else as_json(deduplicate(read_captions(file)))
    except (OSError, ValueError) as failed:
        stamp, error = "unreadable", printable(str(failed))
    return entry._replace(caption_stamp=printable(stamp), caption_error=error), said
