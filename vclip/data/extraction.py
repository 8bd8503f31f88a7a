"""`extract`: a folder of videos becomes a corpus, and goes on where it was stopped; `merge`: one corpus of several."""

import os
from collections import Counter
from collections.abc import Callable, Generator, Iterable
from contextlib import closing, suppress
from functools import partial
from itertools import compress, islice, pairwise
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pandas as pd
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from vclip.data.corpus import STORE, Corpus
from vclip.data.feature_store import Content, Entry, FeatureStore, as_json, content_of, writing
from vclip.data.prefetch import prefetch
from vclip.data.spec import PROJECTION
from vclip.data.storage import check_features, copy_into
from vclip.data.text import printable, short
from vclip.data.video import open_video, read_seconds, resize_and_crop
from vclip.data.video_files import Files, compare, is_in_shard, with_captions

BYTES_AT_ONCE, SECONDS_AT_ONCE = 8 * 2**20, 256  # of frames: 56 s at 3 of 128 x 128 a second, 1 s for S3D


class Row(NamedTuple):
    """One video of `extract`: `status` is "ok", "damaged" (what could be decoded was kept), "captions unreadable",
    "captions incomplete" (bad rows were skipped), "failed" (no features) or "unreadable" (it can no longer be read; the
    features of an earlier run are kept)."""

    video: str
    seconds: int
    status: str
    error: str


class Report(list):
    """Rows, one a video. Printed, it counts them and lists those that are not ok; a notebook shows every row."""

    def __repr__(self) -> str:
        kinds = Counter(row.status if row.status == "failed" else getattr(row, "change", row.status) for row in self)
        counts = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
        bad = [row for row in self if row.status != "ok"]
        lines = [f"  {ascii(row.video)[1:-1]} ({row.seconds} s) {row.status}: {ascii(row.error)[1:-1]}" for row in bad]
        return "\n".join([f"{len(self)} videos: {counts or 'none'}", *lines])

    def _repr_html_(self) -> str:
        return pd.DataFrame(self, columns=(self[0] if self else Row)._fields).to_html(index=False)


def extract(source, out, encoder, shard: tuple[int, int] = (1, 1), map: Callable = map) -> Report:
    """Encode every video of a folder into the corpus `out`; called again, what is new or has changed.

    A video's id is its file's stem, or its path in the folder where stems clash. Its captions, made plain by
    `deduplicate`, are the file of the same stem (any kind that `read_captions` reads; also `stem.en.vtt`,
    `stem.mp4.srt`) beside it, else the text stream inside it, or none.
    A damaged file keeps the seconds that could be decoded. A file that moved is not encoded again; captions that
    changed are read again; videos that are gone stay in the corpus.

    Args:
        source: a folder, a file, or a list of them.
        out: the corpus folder.
        encoder: a frozen encoder (`clip.encoder` is a model's own), or its name for `load_encoder`.
        shard: (k, n): only the k-th of n shards of the folder, for `vclip.merge`.
        map: runs the work, `map(function, items)`, and may give results in any order: `map` of a
            `ProcessPoolExecutor`, or that of `data_samples/extract_on_ray.py`.

    Returns:
        One row (video, seconds, status, error) a video.

    Raises:
        FileExistsError, ValueError: if `out` holds something else, or features of another encoder.
        RuntimeError: while another process writes `out`.

    Example:
        >>> import tempfile, vclip
        >>> extract(vclip.minihowto() / "videos" / "test0000.mp4", tempfile.mkdtemp(), "efficientnet-lite0")
        1 videos: 1 ok
    """
    if isinstance(encoder, str):
        import vclip

        encoder = vclip.load_encoder(encoder)
    out = Path(out).expanduser()
    files = Files(source, out)
    mine = [video for video in files.videos if is_in_shard(video, shard)]
    with writing(out, encoder.spec) as store:
        if store.meta["folder"] is not None:
            raise FileExistsError(f"{out} is an index that MomentIndex.build made: choose another folder")
        names, changes = compare(store, files, mine)
        encode(store, files, names, encoder, "extract", len(mine), map)
        store.finish()
        return Report(row_of(store.entries[video], changes) for video in mine)


def encode(store: FeatureStore, files: Files, videos: list, encoder, title: str, n: int, run: Callable = map) -> None:
    """Encode videos, what is left of n, into the store, each committed when it is done."""
    # a model that is trained on the features needs their projection to search other videos
    if encoder.spec.projection is not None and not (store.folder / PROJECTION).is_file():
        encoder.save(store.folder / PROJECTION)
    items = ((Entry(v, *files.place(v), *Content()), files.videos[v], files.captions(v)) for v in videos)
    rows = run(partial(encode_one, encoder=encoder), items)
    try:
        for row in tqdm(rows, desc=title, unit="video", total=n, initial=n - len(videos), leave=False):
            store.save(*row)
    finally:
        if hasattr(rows, "close"):  # an engine's may hold processes
            rows.close()
        store.flush()


def encode_one(item: tuple[Entry, Path, Path | None], encoder) -> tuple[Entry, str | None, np.ndarray | None]:
    """All the work on one video, given the id and place of its entry, its file, and the file to read captions from.

    Returns its entry, its captions as JSON, and its features (T, F) float16, None if it failed.
    """
    (entry, file, captions), features, content = item, None, Content()
    try:
        content = content_of(file)
        features, error = encode_file(file, encoder)
    except OSError as failed:
        error = f"{file}: cannot be read ({failed.strerror})"
    if features is None:
        content = content if os.path.isfile(file) else Content()  # its drive went: to be tried again
        return entry._replace(**content._asdict(), status="failed", error=printable(error)), None, None
    seconds, status = len(features), "damaged" if error else "ok"
    entry = Entry(*entry[:3], *content, seconds, _duration(file, seconds), status, printable(error))
    return *with_captions(entry, captions), features


def encode_file(path: Path, encoder, start: int = 0, end: int | None = None) -> tuple[np.ndarray | None, str]:
    """Features (T, F) float16 of a video file's seconds, None if there are none, and why they are not all there."""
    spec, encoded, problems, before = encoder.spec, [], [], np.empty(0)
    most = min(max(1, BYTES_AT_ONCE // (spec.fps * spec.size * spec.size * 3)), SECONDS_AT_ONCE)

    def decoded() -> Generator[np.ndarray, None, None]:
        try:
            yield from islice(read_seconds(path, spec.fps, spec.size, start), end and end - start)
        except Exception as error:  # ends it early: whatever FFmpeg and PyAV meet in a file costs that file alone
            problems.append(str(error) if isinstance(error, ValueError | OSError) else f"{path}: {error!r}")

    # as many seconds more are decoded while some are encoded
    with closing(prefetch(decoded(), most)) as seconds:
        while block := list(islice(seconds, most)):
            # a picture that stands still for seconds is encoded once: `new` tells which differ from the one before
            new = [not np.array_equal(*pair) for pair in pairwise([before, *block])]
            rows = [encoded[-1][-1:]] if encoded else []
            if any(new):
                rows.append(encoder(np.stack(list(compress(block, new)))))
            encoded.append(np.concatenate(rows)[np.cumsum(new) - (not encoded)])
            before = block[-1]
    if not encoded:
        return None, printable(problems[0] if problems else f"it ends before second {start}")
    try:
        return check_features(printable(path.name), np.concatenate(encoded), spec.dim), printable("; ".join(problems))
    except ValueError as error:
        return None, str(error)


def encode_picture(picture: Path | Image.Image | np.ndarray, encoder) -> np.ndarray:
    """Features (1, F) float16 of an image file, a PIL image or (H, W, 3) uint8, as a second of equal frames."""
    if not isinstance(picture, Path | Image.Image | np.ndarray):
        raise TypeError(f"a picture is a Path, a PIL image or an array (H, W, 3) of uint8, not {short(picture)}")
    if not isinstance(picture, Image.Image):
        picture = Image.open(picture) if isinstance(picture, Path) else Image.fromarray(picture)
    frame = av.VideoFrame.from_image(ImageOps.exif_transpose(picture))
    still = resize_and_crop(frame, encoder.spec.size)
    features = encoder(np.broadcast_to(still, (1, encoder.spec.fps, *still.shape)))
    return check_features("the picture", features, encoder.spec.dim)


def _duration(file: Path, seconds: int) -> float:
    """When a video ends, in seconds from its start: in the last of its `seconds`, of which a part may be padding."""
    duration = 0.0
    with suppress(Exception), open_video(file) as container:
        duration = (container.duration or 0) / av.time_base
    return duration if seconds - 1 < duration < seconds else float(seconds)


def row_of(entry: Entry, changes: dict[str, tuple[str, str]]) -> Row:
    change, error = changes.get(entry.video, ("", ""))
    if change == "unreadable":
        return Row(entry.video, entry.seconds, change, error)
    status = entry.status
    if status == "ok" and entry.caption_error:
        status = "captions unreadable" if entry.caption_stamp == "unreadable" else "captions incomplete"
    return Row(entry.video, entry.seconds, status, "; ".join(filter(None, [entry.error, entry.caption_error])))


def merge(corpora: Iterable, out) -> Corpus:
    """Make `out`, a corpus of all videos of several, which are only read; stopped and called again, it goes on.

    Videos come in the order of their files' paths. `extract` on the whole folder then encodes only videos that no part
    held. Token ids are left out (`Corpus.tokenize` makes them again).

    Args:
        corpora: folders of corpora of the same spec, split and licence.

    Raises:
        FileExistsError: if `out` holds something.
        ValueError: for corpora that differ, or a video that two of them hold.

    Example:
        >>> import tempfile, vclip
        >>> len(merge([vclip.minihowto() / "val"], tempfile.mkdtemp()))
        64
    """
    out, opened = Path(out).expanduser(), [Corpus.open(folder) for folder in corpora]
    if (out / "corpus.json").is_file():
        raise FileExistsError(f"{out} already holds a corpus; pass a new output folder")
    if not opened or (spec := opened[0].spec) is None:
        raise ValueError("no corpora to merge: name at least one folder that extract or Corpus.create has made")
    first, holder = opened[0], {}
    for corpus in opened:
        for name in ("spec", "split", "licence"):
            if (ours := getattr(first, name)) != (theirs := getattr(corpus, name)):
                raise ValueError(f"the {name} of {first.path} is {ours!r}, that of {corpus.path} {theirs!r}")
        for entry in _entries(corpus):
            if entry.video in holder:
                raise ValueError(f"video {entry.video!r} is in {holder[entry.video][1].path} and in {corpus.path}")
            holder[entry.video] = entry, corpus
    with writing(out, spec) as store:
        store.remember(split=first.split, licence=first.licence)
        for entry, corpus in (holder[video] for video in holder if video not in store.entries):
            i = corpus.index(entry.video)
            said = corpus.captions(i)
            store.save(entry, as_json(said) if len(said) else None, corpus.features(i))
        store.flush()
        for file in (corpus.path / PROJECTION for corpus in opened):
            if file.is_file():
                copy_into(out, file)
        store.finish()
    return Corpus.open(out)


def _entries(corpus: Corpus) -> list[Entry]:
    if not (corpus.path / STORE).is_file():
        rows = zip(corpus.video_ids, corpus.media, corpus.seconds.tolist(), strict=True)
        return [Entry(video, media, b"", *Content(), seconds) for video, media, seconds in rows]
    store = FeatureStore(corpus.path)
    if not store.is_published():
        raise FileNotFoundError(f"{corpus.path} is not finished: call extract on its videos again to go on")
    entries = [entry for entry in store.entries.values() if entry.shard is not None]
    return [e._replace(path=os.fsencode(store.file(e).resolve()), shard=None, row=None) for e in entries]
