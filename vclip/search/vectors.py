"""The windows of a corpus: their vectors z_v by one model, kept beside its features, and which are best for a text.

An index is a folder named by the model. vectors-00000.safetensors is of N videos in features-00000, W windows each:
`z_v` (sum of W, D) float32, `starts` (N + 1,), `rows` (N,), where their features begin in that file, and `key`, its
SHA-256: what is added to a corpus comes in new files. Each has the time of its features file, which is not read again.

Large indexes also have cells-1.faiss, all windows of some update in trained cells, and cells-1.safetensors: of each
file the row there of each video, -1 for none. What came since is searched exactly, what went is left out, and when
together they are more than 1/16, cells-2 are trained. sentences.safetensors holds what everyday sentences score on
each file. index.json is written last: where the corpus is, a hash of its videos, the windows' mean, what everyday
sentences score, the cells.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
from jaxtyping import Bool, Float32, Int
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from tqdm.auto import tqdm

from vclip.data import storage
from vclip.data.corpus import Corpus
from vclip.models.dual_encoder import DualEncoder
from vclip.models.windows import count_windows, sliding_windows

INDEX, USUAL = "index.json", "sentences.safetensors"
# Up to here, 890 hours of VideoCLIP's windows or 55 of seconds, the search is exact: 0.6 GB and 40 ms at D = 768.
EXACT_UP_TO = 200_000
# Of the windows in cells, what may come and go before others are trained: a search visits as many in its cells.
DRIFT = 1 / 16
TRAINED_ON = 64  # windows a cell, about
ADDED_AT_ONCE = 64  # videos
SENTENCES = (Path(__file__).parent / "static" / "sentences.txt").read_text(encoding="utf-8").splitlines()
WHY_NAN = "its weights are damaged, or its precision is too low"


class Windows:
    """N windows: `video` (N,) is the position of each one's video in the corpus, `start` and `end` (N,) its seconds.

    They come video after video in the given `order` (V,), and so do their vectors in `index` (FAISS), but for those of
    videos in `cells`, whose vectors are there from the row `first` (V,) on; it is -1 for the others.
    """

    def __init__(self, index: Any, order, seconds, size: int, step: int, cells: Any = None, first: Any = None):
        windows = count_windows(seconds[order], size, step)
        self.video = np.repeat(order, windows)
        number = np.arange(len(self.video)) - np.repeat(np.cumsum(windows) - windows, windows)
        self.start = number * step
        self.end = np.minimum(self.start + size, seconds[self.video])
        self._parts = [(index, np.arange(len(self.video)))]  # of each index, the window in each row, -1 if it is gone
        if cells is not None:
            first, of_row = np.repeat(first, windows), np.full(cells.ntotal, -1)
            of_row[(first + number)[first >= 0]] = np.flatnonzero(first >= 0)
            self._parts = [(cells, of_row), (index, np.flatnonzero(first < 0))]

    def ranked(
        self, z_t: Float32[np.ndarray, " D"], allowed: Bool[np.ndarray, " N"] | None = None
    ) -> Iterator[tuple[int, float]]:
        """Windows and their scores, best first; FAISS is asked for more as they are taken."""
        total = sum(len(of_row) for _, of_row in self._parts) if allowed is None else int(allowed.sum())
        n, seen = 0, {-1}
        while n < total:
            n, found = min(max(64, 4 * n), total), []
            for index, of_row in self._parts:
                if len(of_row):
                    mask = None if allowed is None else (of_row >= 0) & allowed[of_row]
                    (scores,), (rows,) = nearest(index, z_t[None], min(n, len(of_row)), mask)
                    found += zip(scores.tolist(), np.where(rows < 0, -1, of_row[rows]).tolist(), strict=True)
            for score, window in sorted(found, reverse=True)[:n]:
                if window not in seen:
                    seen.add(window)
                    yield window, score

    def vector(self, window: int) -> Float32[np.ndarray, " D"]:
        """Its z_v."""
        rows = ((index, row) for index, of_row in self._parts for row in np.flatnonzero(of_row == window).tolist())
        index, row = next(rows)
        return index.reconstruct(row)

    def best_two(self, z_t: Float32[np.ndarray, " D"]) -> tuple[int, float, float]:
        """The best window's video and score, and the best score of any other video (NaN if there is none)."""
        ranked = self.ranked(z_t)
        window, score = next(ranked)
        video = self.video[window]
        return int(video), score, next((s for w, s in ranked if self.video[w] != video), float("nan"))


def index_rows(blocks: Sequence[Float32[np.ndarray, "_ D"]], cells: bool = False) -> Any:
    """FAISS index by inner product over the rows of `blocks`; in `cells`, float16, a search visits 1/16 of them."""
    n, dim = sum(map(len, blocks)), blocks[0].shape[1]
    index: Any = faiss.IndexFlatIP(dim)
    if cells:
        nlist = max(1, min(round(n**0.5), n // 39))
        index = faiss.index_factory(dim, f"IVF{nlist},SQfp16", faiss.METRIC_INNER_PRODUCT)
        index.cp.min_points_per_centroid = 1
        index.nprobe = max(1, nlist // 16)
        rng = np.random.default_rng(0)
        index.train(np.concatenate([block[rng.random(len(block)) * n < TRAINED_ON * nlist] for block in blocks]))
    for first in range(0, len(blocks), ADDED_AT_ONCE):
        index.add(np.concatenate(blocks[first : first + ADDED_AT_ONCE]))
    return index


def nearest(
    index: Any, queries: Float32[np.ndarray, "m D"], n: int, allowed: Bool[np.ndarray, " rows"] | None = None
) -> tuple[Float32[np.ndarray, "m n"], Int[np.ndarray, "m n"]]:
    """Scores and rows, best first, of the n nearest `allowed` rows; -1 where all cells together hold fewer."""
    library: Any = faiss
    selector = None if allowed is None else library.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
    if not hasattr(index, "nprobe"):
        return index.search(queries, n, params=library.SearchParameters(sel=selector))
    everywhere = library.SearchParametersIVF(sel=selector, nprobe=index.nlist)
    if allowed is not None:
        return index.search(queries, n, params=everywhere)
    scores, found = index.search(queries, n)
    if len(short := np.flatnonzero(found[:, -1] < 0)):
        scores[short], found[short] = index.search(queries[short], n, params=everywhere)
    return scores, found


def update(folder: Path, corpus: Corpus, clip: DualEncoder) -> None:
    """Embed the videos of new features files; then, if many windows came or went, train other cells."""
    folder.mkdir(parents=True, exist_ok=True)
    # a finished index can be read where nothing may be written
    with storage.locked(folder, "index.lock") if os.access(folder, os.W_OK) else nullcontext():
        state: dict[str, Any] = read_state(folder) if (folder / INDEX).is_file() else {}
        for file, videos in tqdm(corpus.by_file().items(), desc="embed", unit="file", delay=5, leave=False):
            target = _vectors_of(folder, file)
            if not _is_of(target, file, corpus.first_row[videos]):
                if target.is_file() and state.get("videos"):
                    # an update that is stopped here goes on, and is not opened
                    storage.write_json(folder / INDEX, state := state | {"videos": None})
                _embed(file, target, corpus, videos, clip)
        parts = _parts(folder, corpus, state.get("cells"))
        background, cells = _background(folder, parts, clip), _cells(folder, parts, state.get("cells"))
        inside = folder.resolve().is_relative_to(corpus.path.resolve())  # then both can be moved together
        place = os.path.relpath(corpus.path.resolve(), folder.resolve()) if inside else str(corpus.path.resolve())
        now = {"corpus": place, "videos": _videos(corpus), "background": background, "cells": cells}
        if now != state:
            storage.write_json(folder / INDEX, now)
        wanted = {*(part.file for part in parts), *(folder.glob(f"{cells['name']}.*") if cells else ())}
        for pattern in ("vectors-*", "cells-*", "windows.faiss", ".*.tmp", ".tmp??????"):  # a kill leaves the last two
            for file in set(folder.glob(pattern)) - wanted:
                file.unlink()


def load(folder: Path, corpus: Corpus, clip: DualEncoder) -> tuple[Windows | None, Any]:
    """All windows, None if there is no video; and for z-scores their mean z_v (D,), then mean and sd of the sentences.

    Raises ValueError if files are damaged, or the corpus is not as it was.
    """
    state = read_state(folder)
    if state.get("videos") != _videos(corpus):
        raise ValueError(f"{corpus.path} has changed since it was indexed: call MomentIndex.build again")
    if not len(corpus):
        return None, None
    parts, index, cells = _parts(folder, corpus, state.get("cells")), None, None
    try:
        if state.get("cells"):
            # its vectors stay on disk
            cells: Any = faiss.read_index(str(folder / f"{state['cells']['name']}.faiss"), faiss.IO_FLAG_MMAP)
            cells.make_direct_map()  # finds them by row
        if blocks := [block for part in parts if (new := part.first < 0).any() for block in part.blocks(new)]:
            index = index_rows(blocks)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{folder} is damaged ({error}): delete it and call MomentIndex.build again") from None
    order, first = (np.concatenate(rows) for rows in zip(*((part.videos, part.first) for part in parts), strict=True))
    mean, *usual = state["background"]
    return Windows(index, order, corpus.seconds, *clip.window, cells, first), (np.array(mean, np.float32), *usual)


class _Part(NamedTuple):
    """The n `videos` of one vectors file of N, by their `place` in it; `mark` is a hash of all N."""

    file: Path
    mark: str
    videos: Int[np.ndarray, " n"]
    place: Int[np.ndarray, " n"]
    starts: Int[np.ndarray, " N+1"]
    windows: Int[np.ndarray, " n"]
    first: Int[np.ndarray, " n"]  # rows in the cells

    def blocks(self, some: Any = slice(None)) -> list[Float32[np.ndarray, "W D"]]:
        """z_v of each video, mapped."""
        z_v, place = storage.read_tensor(self.file, "z_v"), self.place[some]
        return [z_v[a:b] for a, b in zip(self.starts[place], self.starts[place + 1], strict=True)]


def _parts(folder: Path, corpus: Corpus, cells: dict | None) -> list[_Part]:
    parts, held = [], _load(folder / f"{cells['name']}.safetensors") if cells else {}
    for features, videos in corpus.by_file().items():
        key, rows, starts = _read(file := _vectors_of(folder, features), "key", "rows", "starts")
        mark = hashlib.sha256(file.name.encode() + key.tobytes() + rows.tobytes()).hexdigest()
        place = np.searchsorted(rows, corpus.first_row[videos])
        first = held.get(mark, np.full(len(rows), -1))[place]
        parts.append(_Part(file, mark, videos, place, starts, np.diff(starts)[place], first))
    return parts


def _load(file: Path) -> dict[str, np.ndarray]:
    """All arrays of a file, none if it is missing or damaged: then they are made again."""
    with suppress(ValueError, FileNotFoundError), storage.reading(file):
        return load_file(file)
    return {}


def _read(file: Path, *names: str) -> list[np.ndarray]:
    """Small arrays of a file, copied."""
    with storage.reading(file), safe_open(file, "np") as tensors:
        return [tensors.get_tensor(name) for name in names]


def _is_of(target: Path, file: Path, rows: np.ndarray) -> bool:
    """Whether `target` has the vectors of these rows of a features `file`; if their times differ, its hash tells."""
    with suppress(ValueError, FileNotFoundError):  # none yet, or damaged
        key, held = _read(target, "key", "rows")
        time = file.stat().st_mtime_ns
        if np.isin(rows, held).all() and (target.stat().st_mtime_ns == time or np.array_equal(key, _hash(file))):
            with suppress(OSError):  # it may be only readable
                os.utime(target, ns=(time, time))
            return True
    return False


def _hash(file: Path) -> np.ndarray:
    with file.open("rb") as opened:
        return np.frombuffer(hashlib.file_digest(opened, "sha256").digest(), np.uint8)


def _embed(file: Path, target: Path, corpus: Corpus, videos: np.ndarray, clip: DualEncoder) -> None:
    """Write the z_v of all windows of the videos in one features `file` to `target`."""
    time, key = file.stat().st_mtime_ns, _hash(file)
    spans = [sliding_windows(n, *clip.window) for n in corpus.seconds[videos].tolist()]
    features = [corpus.features(i) for i in videos]  # once each: of another tool they are copies
    clips = [rows[slice(*span)] for rows, some in zip(features, spans, strict=True) for span in some]
    z_v = clip.encode_clips(clips).astype(np.float32)
    if not np.isfinite(z_v).all():
        raise ValueError(f"the model makes NaN or infinity of the features in {file}: {WHY_NAN}")
    starts = np.cumsum([0, *map(len, spans)], dtype=np.int64)
    tensors = {"key": key, "rows": corpus.first_row[videos], "starts": starts, "z_v": z_v}
    storage.replace(target, lambda temporary: save_file(tensors, temporary))
    with suppress(OSError):  # its hash then tells what its time would
        os.utime(target, ns=(time, time))


def _background(folder: Path, parts: list[_Part], clip: DualEncoder) -> list | None:
    """The mean of all windows; mean and sd of what everyday sentences reach above half their score on that."""
    asked, held = hashlib.sha256("\n".join(SENTENCES).encode()).hexdigest(), _load(folder / USUAL)
    z_t = held[asked] if asked in held else clip.encode_texts(SENTENCES)

    def joined(rows: list[np.ndarray]) -> np.ndarray:
        return np.concatenate([np.max(rows, axis=0)[: len(z_t)], np.sum(rows, axis=0)[len(z_t) :]])

    now = {asked: z_t}
    for part in parts:
        name = hashlib.sha256((asked + part.mark).encode() + part.place.tobytes()).hexdigest()
        blocks = [] if name in held else part.blocks()
        each = [np.concatenate([(z_v @ z_t.T).max(axis=0), z_v.sum(axis=0, dtype=float)]) for z_v in blocks]
        now[name] = joined(each or [held[name]])
    if now.keys() != held.keys():
        storage.replace(folder / USUAL, lambda temporary: save_file(now, temporary))
    if not parts:
        return None
    best, mean = np.split(joined([*now.values()][1:]), [len(z_t)])
    mean /= sum(part.windows.sum() for part in parts)
    reached = best - z_t @ mean / 2
    return [mean.tolist(), float(reached.mean()), max(float(reached.std()), 1e-6)]


def _cells(folder: Path, parts: list[_Part], cells: dict | None) -> dict | None:
    """The name of the cells and how many windows they have: new ones if need be, None for a small index."""
    total = int(sum(part.windows.sum() for part in parts))
    if total <= EXACT_UP_TO:
        return None
    if cells and (folder / f"{cells['name']}.faiss").is_file():
        came, held = sum(part.windows[part.first < 0].sum() for part in parts), cells["windows"]
        if came + (held - (total - came)) <= DRIFT * held:
            return cells
    name, at = f"cells-{int(cells['name'].split('-')[1]) + 1 if cells else 1}", 0
    index, rows = index_rows([block for part in parts for block in part.blocks()], cells=True), {}
    for part in parts:
        rows[part.mark] = np.full(len(part.starts) - 1, -1)
        rows[part.mark][part.place] = at + np.cumsum(part.windows) - part.windows
        at += part.windows.sum()
    storage.replace(folder / f"{name}.faiss", lambda temporary: faiss.write_index(index, str(temporary)))
    storage.replace(folder / f"{name}.safetensors", lambda temporary: save_file(rows, temporary))
    return {"name": name, "windows": total}


def read_state(folder: Path) -> dict[str, Any]:
    """The content of index.json. Raises FileNotFoundError if there is no finished index."""
    if not (folder / INDEX).is_file():
        raise FileNotFoundError(f"{folder.parents[1]} holds no index by this model: make one with MomentIndex.build")
    try:
        return json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder} is damaged ({error}): delete it and call MomentIndex.build again") from None


def _vectors_of(folder: Path, features: Path) -> Path:
    own = features.suffix == ".safetensors"
    return folder / f"vectors-{features.stem.removeprefix('features-') if own else features.name}.safetensors"


def _videos(corpus: Corpus) -> str:
    """A hash of the corpus' videos, where their features are and what index.json says of them."""
    found = hashlib.sha256("\0".join(["zscore", *corpus.video_ids]).encode())
    for file, videos in corpus.by_file().items():
        places = (videos, corpus.first_row[videos], corpus.seconds[videos])
        found.update(file.name.encode() + b"".join(rows.tobytes() for rows in places))
    return found.hexdigest()
