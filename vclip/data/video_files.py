"""The video files of a folder, the caption file beside each, and what has changed since their features were stored."""

import hashlib
import os
import re
import unicodedata
import warnings
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import cache, partial
from itertools import islice
from pathlib import Path

from vclip.data.captions import CAPTION_SUFFIXES, deduplicate, read_and_skip
from vclip.data.feature_store import Content, Entry, FeatureStore, as_json, content_of, still
from vclip.data.storage import shard_name
from vclip.data.text import printable
from vclip.data.transcripts import CONTAINERS, NoCaptions
from vclip.data.video import frames_of

VIDEO_SUFFIXES = (
    *(".3gp", ".asf", ".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)
# what lies beside videos, is a list of other files or a text that FFmpeg plays; any other file is opened to see
OTHER_SUFFIXES = (
    *("", ".gz", ".html", ".idx", ".ipynb", ".lock", ".log", ".lrc", ".m3u", ".m3u8", ".md", ".mpd", ".nfo", ".pdf"),
    *(".py", ".srv3", ".sub", ".tar", ".ttml", ".txt", ".xml", ".yaml", ".yml", ".ytt", ".zip", *CAPTION_SUFFIXES),
    *(".avif", ".bmp", ".heic", ".jpeg", ".jpg", ".png", ".svg", ".tif", ".tiff", ".webp", ".ans", ".art", ".asc"),
    *(".aac", ".flac", ".m4a", ".mp3", ".opus", ".wav", ".wma", ".faiss", ".h5", ".hdf5", ".npy", ".npz", ".vt"),
    *(".parquet", ".pkl", ".pt", ".pth", ".safetensors", ".sqlite", ".ass", ".diz", ".ice", ".ssa"),
)
# of a file beside a video: its name after the stem and the video's suffix
_WORDS = "english|german|french|spanish|italian|portuguese|dutch|russian|polish|japanese|chinese|korean|arabic|hindi"
_CODES = "eng|ger|deu|fre|fra|spa|ita|por|dut|nld|rus|ukr|pol|cze|ces|hun|rum|ron|gre|ell|tur|swe|nor|dan|fin|jpn|chi"
_CODES += "|zho|cmn|yue|kor|ara|heb|per|fas|hin|ben|tam|tel|urd|mar|guj|mal|vie|tha|ind|msa|fil|tgl|swa|afr|cat|haw"
CAPTIONS = re.compile(
    r"(?:\.(?:wav|mp3|m4a|flac|opus))?"
    rf"(?:\.((?!ts\.)(?:[a-z]{{2}}|{_CODES})(?:[-_]\w+)*|{_WORDS}))?"
    r"((?:\.(?:sdh|cc|hi|forced|default|auto))*)"
    rf"({'|'.join(map(re.escape, CAPTION_SUFFIXES))})",
    re.IGNORECASE,
)
# "en-de": English from German; other tags end in a region ("en-us"), a script or "orig"
TRANSLATED = re.compile(r".*[-_](?!us|gb|au|nz|br|mx|cn|tw|hk)[a-z]{2,3}(?!\w)")
composed = partial(unicodedata.normalize, "NFC")  # macOS may part letters and accents

Changes = dict[str, tuple[str, str]]  # by video what happened to it, and why it could not be read


def find_videos(source, stems: bool = True) -> tuple[dict[str, Path], Path]:
    """Videos by id, in path order, and their common folder; without `stems`, or where they clash, an id is the path."""
    places = [source] if isinstance(source, str | os.PathLike) else source
    places, paths = [Path(os.path.abspath(Path(place).expanduser())) for place in places], set()
    if not places:
        raise FileNotFoundError("no video: the list of files is empty")
    for place in places:
        # a listed video that is gone becomes a row of the report; a folder that is gone would seem to be empty
        if not os.path.lexists(place) and (len(places) == 1 or place.suffix.lower() not in VIDEO_SUFFIXES):
            raise FileNotFoundError(f"{str(place)!r}: no such folder or file")
        found = video_files(place) if os.path.isdir(place) else [place]
        if not found:
            raise FileNotFoundError(f"no video in {place}")
        paths.update(found)
    folder = Path(os.path.commonpath([f if os.path.isdir(f) else f.parent for f in places]))
    paths = sorted(paths, key=lambda f: f.parts)  # paths compare these too, but slower
    media = [printable(_inside(f, folder)) for f in paths]
    counts = Counter(f.stem for f in paths)
    names = [printable(f.stem) if counts[f.stem] == 1 and stems else m for f, m in zip(paths, media, strict=True)]
    names = names if len(set(names)) == len(paths) else media
    if twice := [name for name, n in Counter(names).items() if n > 1]:
        raise ValueError(f"two files get the id {twice[0]!r}: rename one of them in {folder}")
    return dict(zip(names, paths, strict=True)), folder


def video_files(folder: Path) -> list[Path]:
    """The videos in a folder, to its depth, without hidden ones; no folder twice, so loops end."""
    files, seen, starts = [], set(), [folder]

    def failed(error: OSError) -> None:
        if Path(error.filename or "") == folder:
            raise error
        if not isinstance(error, FileNotFoundError):
            warnings.warn(f"left out: {error.filename!r} cannot be listed ({error.strerror})", stacklevel=2)

    for start in starts:  # linked folders come last: each is found by its own path if it has one here
        for root, folders, names in os.walk(start, onerror=failed):
            place = os.path.realpath(root)
            if place in seen:
                folders.clear()
                continue
            seen.add(place)
            folders[:] = sorted(f for f in folders if f[0] != ".")
            starts += [link for f in folders if os.path.islink(link := Path(root, f))]
            of_interest = (n for n in names if os.path.splitext(n)[1].lower().rstrip(".") not in OTHER_SUFFIXES)
            files += [Path(root, name) for name in of_interest if name[0] != "."]
    # a pipe or a socket would be waited for without end; a link whose file is away is said to be
    files = sorted((f for f in files if os.path.isfile(f) or not os.path.exists(f)), key=lambda f: f.parts)
    videos = [f for f in files if f.suffix.lower() in VIDEO_SUFFIXES or _moves(f)]
    if left_out := sorted(set(files).difference(videos)):
        some = ", ".join(repr(printable(f.name)) for f in left_out[:3])
        warnings.warn(f"{len(left_out)} files in {folder} hold no moving picture, such as {some}", stacklevel=2)
    return videos


def _inside(file: Path, folder: Path) -> str:
    """The path of a file in a folder that is known to hold it."""
    return file.as_posix()[len(folder.as_posix()) :].lstrip("/")


def _moves(file: Path) -> bool:
    """Whether FFmpeg finds two frames in a file, as in no still image, cover art or text."""
    with suppress(Exception):
        return len(list(islice(frames_of(file), 2))) == 2
    return False


def find_captions(video: Path, names: Sequence[str] | None = None) -> Path | None:
    """The caption file beside a video (of `names`, see `listing`): of its stem, else of its stem and a language.

    English comes first, what was written before what was recognised ("en-orig"); translations ("en-de") come last.
    """
    names, stem = listing(video.parent) if names is None else names, composed(video.stem)
    # "/" is the character after ".": these names begin with the stem and a dot
    first, end = (bisect_left(names, stem + after, key=composed) for after in "./")
    rests = [composed(name)[len(stem) :].removeprefix(video.suffix) for name in names[first:end]]
    found = [(m, name) for rest, name in zip(rests, names[first:end], strict=True) if (m := CAPTIONS.fullmatch(rest))]

    def order(item: tuple[re.Match, str]) -> tuple:
        tag, flags, suffix = item[0].groups("")
        place = "forced" in flags.lower(), bool(TRANSLATED.match(tag)), tag != "", tag[:2].lower() != "en"
        recognised = tag.lower().endswith("orig") or "auto" in flags.lower()
        return *place, recognised, len(tag), CAPTION_SUFFIXES.index(suffix.lower()), item[1]

    return next((file for _, name in sorted(found, key=order) if os.path.isfile(file := video.with_name(name))), None)


def listing(folder: Path) -> list[str]:
    """The names in a folder, sorted as `composed`; none of one that cannot be listed."""
    with suppress(OSError):
        return sorted(os.listdir(folder), key=composed)
    return []


def is_in_shard(video: str, shard: tuple[int, int]) -> bool:
    """Whether a video is of shard (k, n), k from 1 to n: by a hash of its id, so the other videos do not matter."""
    match shard:
        case (int(k), int(n)) if 1 <= k <= n:
            return int.from_bytes(hashlib.sha256(composed(video).encode()).digest()[:8]) % n == k - 1
    raise ValueError(f"shard must be (k, n) with 1 <= k <= n, e.g. (1, 2) or (2, 2); got {shard!r}")


class Files:
    """The `videos` that are found in `source`, as the store in `out` names them, and the captions beside each."""

    def __init__(self, source, out: Path, stems: bool = True):
        self.videos, self.folder = find_videos(source, stems)
        index, root = out.resolve(), self.folder.resolve()
        # relative if the store lies among the videos, so that both can be moved
        inside = index.is_relative_to(root) and root != root.parent
        self.root = os.path.relpath(root, index) if inside else os.path.abspath(self.folder)
        self._listing = cache(listing)

    def place(self, video: str) -> tuple[str, bytes]:
        """`media` and `path` of an `Entry`."""
        inside = _inside(self.videos[video], self.folder)
        return printable(inside), os.fsencode(os.path.join(self.root, inside))

    def captions(self, video: str) -> Path | None:
        """The file to read captions from: one beside the video, else the video itself where it can hold text."""
        file = self.videos[video]
        beside = find_captions(file, self._listing(file.parent))
        return beside or (file if file.suffix.lower() in CONTAINERS else None)


def compare(store: FeatureStore, files: Files, some: Sequence[str], forget: bool = False) -> tuple[list[str], Changes]:
    """Compare `some` videos with the store, do what needs no encoder, and with `forget` drop those that are gone.

    Returns the videos to be encoded, and by video what changed: "added", "changed" (other content), "moved" (features
    kept), "captions" (read again), "dropped", "repaired" (its features were lost), "skipped" (it failed and has not
    changed since) or "unreadable" (its features stay as they were).
    """
    changes = _renamed(store, files, set(some))
    held = {video for video, entry in store.entries.items() if entry.shard is not None}
    changes |= _without_lost(store)
    same: dict[str, tuple[Entry, Entry]] = {}  # as it was, as it is now
    todo: list[str] = []
    for video in some:
        entry, now, old, place = store.entries.get(video), None, None, files.place(video)
        if entry is not None and entry.path not in (b"", place[1]) and not is_gone(file := store.file(entry)):
            old = file if file != files.videos[video] else None
        try:
            # beside another file of its id that is still there, size and time are not enough
            now = entry and still(files.videos[video], entry if old is None else entry._replace(mtime=-1))
        except OSError as error:
            if entry is not None and entry.shard is not None:
                changes[video] = "unreadable", f"cannot be read ({error.strerror}): its features stay as they were"
                continue
        if entry is not None and now is not None:
            same[video] = entry, Entry(video, *place, *now, *entry[6:])
            if entry.status == "failed":
                changes[video] = "skipped", ""
            continue
        if old is not None:
            raise ValueError(f"{files.videos[video]} and {old} have one id, {video!r}: rename one, or extract both")
        todo.append(video)
        changes.setdefault(video, ("changed" if video in held else "added", ""))
    for video, entry, content in _moved(store, files, todo):
        same[video] = entry, Entry(video, *files.place(video), *content, *entry[6:])
        changes[video] = "moved", ""
    todo = [video for video in todo if video not in same]
    moved = {before.video for video, (before, _) in same.items() if before.video != video}
    # of those not in the folder, what is still where it was belongs to another folder
    absent = store.entries.keys() - files.videos.keys() - moved if forget else set()
    gone = {v for v in absent if not (e := store.entries[v]).path or is_gone(store.file(e))}
    if forget and held and held <= gone:
        raise FileNotFoundError(
            f"{files.folder} holds none of the {len(held)} videos of {store.folder}: is the drive mounted? "
            f"If they were deleted on purpose, delete {store.folder}"
        )
    changes |= dict.fromkeys(gone & held, ("dropped", ""))
    rows = []
    for video, (before, now) in same.items():
        read = None
        if now.shard is not None:
            now, read = with_captions(now, files.captions(video))
        if now == before:
            continue
        had = store.captions(before.video)
        said = had if now.caption_stamp in (before.caption_stamp, "unreadable") else read
        if said != had or now.caption_error != before.caption_error:
            changes.setdefault(video, ("captions", ""))
        rows.append((now, said))
    store.commit(rows, forget=gone | moved)
    return todo, changes


def _renamed(store: FeatureStore, files: Files, some: set[str]) -> Changes:
    """Give entries the ids that their files have now, as stems clash that did not, or no longer do."""
    if not (old := [e for e in store.entries.values() if e.video not in files.videos]):
        return {}
    ids = {path: v for v, file in files.videos.items() for path in (files.place(v)[1], os.fsencode(file))}
    now = {e: v for e in old if (v := ids.get(e.path) or ids.get(os.fsencode(store.file(e))))}
    kept = {e: v for e, v in now.items() if v in some and v not in store.entries}
    rows = [(e._replace(video=v), store.captions(e.video)) for e, v in kept.items()]
    store.commit(rows, forget=[e.video for e in now])
    return dict.fromkeys(kept.values(), ("moved", ""))


def is_gone(file: Path) -> bool:
    """Whether there is no such file, as far as one may look: what lies in a folder that is shut is not gone."""
    try:
        return not file.lstat()
    except OSError as error:
        return isinstance(error, FileNotFoundError | NotADirectoryError)


def _without_lost(store: FeatureStore) -> Changes:
    """Forget where features were whose file is gone, so that their videos are encoded again."""
    there = set(os.listdir(store.folder))
    lost = [e for e in store.entries.values() if e.shard is not None and shard_name(e.shard) not in there]
    off = {"shard": None, "row": None, "size": -1, "status": "failed", "error": "its features are lost"}
    store.commit([(entry._replace(**off), store.captions(entry.video)) for entry in lost])
    return {entry.video: ("repaired", "") for entry in lost}


def _moved(store: FeatureStore, files: Files, todo: Sequence[str]) -> list[tuple[str, Entry, Content]]:
    """Of the videos to be encoded those with the content of another that is no longer where it was, and its entry."""
    replaced, free = set(todo), {}
    for entry in store.entries.values():
        away = entry.video not in files.videos and is_gone(store.file(entry))
        if entry.sha256 and entry.shard is not None and (entry.video in replaced or away):
            free[entry.size, entry.sha256] = entry
    sizes, moved = {size for size, _ in free}, []
    for video in todo:
        with suppress(OSError):
            if os.stat(files.videos[video]).st_size in sizes:
                content = content_of(files.videos[video])
                if entry := free.pop((content.size, content.sha256), None):
                    moved.append((video, entry, content))
    return moved


def with_captions(entry: Entry, file: Path | None) -> tuple[Entry, str | None]:
    """The entry of a video and its captions as JSON: None if `file` is as it was, or "unreadable"."""
    stamp, error, said = "", "", None
    try:
        if file is not None:
            found = file.stat()
            stamp = f"{file.name} {found.st_size} {found.st_mtime_ns}"
        if stamp == entry.caption_stamp:
            return entry, None
        found, error = read_and_skip(file, length=entry.seconds) if file else (None, "")
        said = None if found is None else as_json(deduplicate(found))
    except NoCaptions:
        pass
    except Exception as failed:
        stamp, error = "unreadable", str(failed) if isinstance(failed, OSError | ValueError) else f"{file}: {failed!r}"
    return entry._replace(caption_stamp=printable(stamp), caption_error=printable(error)), said
