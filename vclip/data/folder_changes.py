"""What has changed in a folder of videos since its features were stored, and all of it that needs no encoder."""

import os
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from pathlib import Path

from vclip.data.captions import deduplicate, read_captions
from vclip.data.feature_store import Content, Entry, FeatureStore, as_json, content_of, still
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
    """Hold `some` videos of a folder against the store.

    What needs no encoder is done at once: files that moved keep their features, captions that changed are read.
    With `forget` videos that are gone from the folder leave the store.

    Returns:
        The videos to be encoded, and by video what changed: "added", "changed" (other content), "moved" (another
        path, the same content), "captions", "dropped", "repaired" (its features were damaged), "skipped" (it failed
        and has not changed since) or "unreadable" (its features stay as they were).

    Raises:
        FileNotFoundError: if all videos of the store would be forgotten: rather a drive is not mounted.
        ValueError: for a video whose id belongs to another file that is still there.
    """
    held = {video for video, entry in store.entries.items() if entry.shard is not None}
    changes = _without_damaged(store)
    same, todo, moved = {}, [], {}
    for video in some:
        entry, now = store.entries.get(video), None
        try:
            now = None if entry is None else _still(files.videos[video], entry)
        except OSError as error:
            if entry is not None and entry.shard is not None:
                changes[video] = "unreadable", f"cannot be read ({error.strerror}): its features stay as they were"
                continue
        if entry is None or now is None:
            path = files.place(video)[1]
            if entry is not None and entry.path not in (b"", path) and os.path.lexists(store.file(entry)):
                raise ValueError(
                    f"{files.videos[video]} and {store.file(entry)} have one id, {video!r}: rename one, or extract the "
                    "folders together"
                )
            todo.append(video)
            changes.setdefault(video, ("changed" if video in held else "added", ""))
        else:
            same[video] = Entry(video, *files.place(video), *now, *entry[6:])
            if entry.status == "failed":
                changes[video] = "skipped", ""
    free = _free(store, files, todo)
    sizes = {size for size, _ in free}
    for video in list(todo):
        content = _content_if(files.videos[video], sizes)
        if content is not None and free.get((content.size, content.sha256)):
            entry = free[content.size, content.sha256].pop()
            moved[video], changes[video] = entry.video, ("moved", "")
            same[video] = Entry(video, *files.place(video), *content, *entry[6:])
            todo.remove(video)
    gone = store.entries.keys() - files.videos.keys() - set(moved.values()) if forget else set()
    # what is still where it was belongs to another folder
    gone = {v for v in gone if not (e := store.entries[v]).path or not os.path.lexists(store.file(e))}
    if forget and held and held <= gone:
        raise FileNotFoundError(
            f"{files.folder} holds none of the {len(held)} videos of {store.folder}: is the drive mounted? "
            f"If they were deleted on purpose, delete {store.folder}"
        )
    changes |= dict.fromkeys(gone & held, ("dropped", ""))
    _settle(store, files, same, moved, gone, changes)
    return todo, changes


def _without_damaged(store: FeatureStore) -> Changes:
    """Take the features that are lost or damaged off the books, so that their videos are encoded again."""
    lost, off = store.damaged(), {"shard": None, "row": None, "size": -1, "status": "failed"}
    again = [entry for entry in store.entries.values() if entry.shard in lost]
    store.commit([(e._replace(**off, error="its features are damaged"), store.captions(e.video)) for e in again])
    return {entry.video: ("repaired", "") for entry in again}


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


def _content_if(file: Path, sizes: Collection[int]) -> Content | None:
    """What a file holds, if it has one of these sizes and can be read."""
    try:
        return content_of(file) if os.stat(file).st_size in sizes else None
    except OSError:
        return None


def _settle(
    store: FeatureStore,
    files: Files,
    same: dict[str, Entry],
    moved: dict[str, str],
    gone: Collection[str],
    changes: Changes,
) -> None:
    """Commit what became of files that need no encoding, and the captions beside them."""
    shown, touched = [], []
    for video, entry in same.items():
        now, said, read = entry, None, False
        if entry.shard is not None:
            now, said, read = captions_beside(files.captions(video), entry)
        if read:
            changes.setdefault(video, ("captions", ""))
        if read or now != store.entries.get(video):
            said = said if read else store.captions(moved.get(video, video))
            (shown if read or video in moved else touched).append((now, said))
    store.commit(shown, forget={*gone, *moved.values()})
    store.commit(touched, publish=False)


def captions_beside(file: Path | None, entry: Entry) -> tuple[Entry, str | None, bool]:
    """The entry of a video with the captions in `file`; these as JSON, and whether they are not those it had."""
    content, said, error = Content(), None, ""
    if file is None:
        had = entry.caption_sha256 != "" or entry.caption_error != ""
        return Entry(*entry[:12], *content), None, had
    try:
        if (content := still(file, entry.caption_content)) is not None:
            return Entry(*entry[:12], *content, entry.caption_error), None, False
        content = content_of(file)
        said = as_json(deduplicate(read_captions(file)))
    except (OSError, ValueError) as failed:
        content, error = content or Content(), printable(str(failed))
    same = error != "" and error == entry.caption_error
    return Entry(*entry[:12], *content, error), said, not same
