"""The windows of all videos of an index, best for a text first (FAISS), and what stands out in one.

V videos, N windows of all of them, T seconds of one, D hidden size, m texts. A score is a dot product with z_t.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

# Up to here, 890 hours of video, the search is exact: at D = 768 in 0.6 GB of memory and 80 ms on one core.
EXACT_UP_TO = 200_000
TRAINED_ON = 64  # vectors a cell
BLOCK = 65_536
SHORTEST = 2  # seconds of a moment


def build(blocks: Sequence[Float32[np.ndarray, "_ D"]]) -> Any:
    """A FAISS inner-product index of all rows of `blocks`, in their order, of at least one.

    Exact up to EXACT_UP_TO rows; above, float16 in sqrt(N) k-means cells, of which a search visits a sixteenth.
    """
    import faiss

    n, dim = sum(map(len, blocks)), blocks[0].shape[1]
    index: Any = faiss.IndexFlatIP(dim)
    if n > EXACT_UP_TO:
        cells = max(1, round(n**0.5))
        index = faiss.index_factory(dim, f"IVF{cells},SQfp16", faiss.METRIC_INNER_PRODUCT)
        index.nprobe = max(1, cells // 16)
        some = np.sort(np.random.default_rng(0).choice(n, min(n, TRAINED_ON * cells), replace=False))
        ends = np.cumsum([len(block) for block in blocks])
        parts = zip(blocks, np.split(some, np.searchsorted(some, ends[:-1])), [0, *ends[:-1]], strict=True)
        index.train(np.concatenate([block[rows - first] for block, rows, first in parts]))
    for block in _large(blocks):
        index.add(block)
    return index


def _large(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    pending: list[np.ndarray] = []
    for block in blocks:
        pending.append(block)
        if sum(map(len, pending)) >= BLOCK:
            yield np.concatenate(pending)
            pending = []
    if pending:
        yield np.concatenate(pending)


def write(index: Any, file: Path) -> int:
    """Returns the file's size in bytes, which `read` wants to know."""
    import faiss

    faiss.write_index(index, str(file))
    return file.stat().st_size


def read(file: Path, size: int) -> Any:
    """An index in cells, its vectors left on disk (mapped). Raises ValueError if the file is missing or damaged.

    A file of another size than `size` bytes is not opened: behind the end of a mapped file lies no error but a signal.
    """
    import faiss

    try:
        if (there := file.stat().st_size) != size:
            raise RuntimeError(f"it has {there} bytes instead of {size}")
        return faiss.read_index(str(file), faiss.IO_FLAG_MMAP)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{file} cannot be read ({error}): remove the index and build it again") from None


def nearest(
    index: Any, z_t: Float32[np.ndarray, "m D"], n: int, allowed: Bool[np.ndarray, " N"] | None = None
) -> tuple[Float32[np.ndarray, "m n"], Int[np.ndarray, "m n"]]:
    """Scores and windows, best first, of the n nearest among the `allowed` ones; window -1 where there are fewer."""
    import faiss

    library: Any = faiss
    selector = None if allowed is None else library.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
    if not hasattr(index, "nprobe"):
        return index.search(z_t, n, params=library.SearchParameters(sel=selector))
    # the few that a filter leaves may lie in any cell, and so may the last of many
    if allowed is None and n <= 1000:
        scores, found = index.search(z_t, n)
        if (found >= 0).all():
            return scores, found
    return index.search(z_t, n, params=library.SearchParametersIVF(sel=selector, nprobe=index.nlist))


class Windows:
    """`video` (N,) is each window's place in the list of videos, `start` and `end` (N,) its seconds."""

    def __init__(
        self, index: Any, seconds: Int[np.ndarray, " V"], windows: Int[np.ndarray, " V"], size: int, step: int
    ):
        self.index = index
        self.video = np.repeat(np.arange(len(windows)), windows)
        first = np.repeat(np.cumsum(windows) - windows, windows)
        self.start = (np.arange(len(self.video)) - first) * step
        self.end = np.minimum(self.start + size, seconds[self.video])

    def __len__(self) -> int:
        return len(self.video)

    def ranked(
        self, z_t: Float32[np.ndarray, " D"], allowed: Bool[np.ndarray, " N"] | None = None
    ) -> Iterator[tuple[int, float]]:
        """Windows and their scores, best first; FAISS is asked for more as they are taken."""
        total, n, seen = len(self) if allowed is None else int(allowed.sum()), 64, set()
        while len(seen) < total:
            scores, found = nearest(self.index, z_t[None], min(n, total), allowed)
            for window, score in zip(found[0].tolist(), scores[0].tolist(), strict=True):
                if window >= 0 and window not in seen:
                    seen.add(window)
                    yield window, score
            if n >= total:
                return
            n *= 4

    def best_two(self, z_t: Float32[np.ndarray, " D"]) -> tuple[int, float, float]:
        """The best window's video and score, and the best score of any other video (NaN if there is none)."""
        ranked = self.ranked(z_t)
        window, score = next(ranked)
        video = self.video[window]
        return int(video), score, next((s for w, s in ranked if self.video[w] != video), float("nan"))


def standing_out(scores: Float[np.ndarray, " T"], shortest: int = SHORTEST) -> tuple[int, int]:
    """Start and end of the run of seconds that stands out: of at least `shortest` seconds (or all there are) the one
    with the largest sum of what exceeds the mean by more than half a standard deviation; of equals the first.

    Of ten label-free rules this one found the steps of MiniHowTo's val videos best (mean IoU 0.72, 0.25 for the whole
    window; 284 steps asked for as "verb the thing" of the right video).
    """
    x = scores.astype(np.float64)
    total = np.concatenate([[0.0], np.cumsum(x - x.mean() - x.std() / 2)])
    sums = total[None, :] - total[:, None]
    length = np.arange(len(total))[None, :] - np.arange(len(total))[:, None]
    sums[length < min(shortest, len(x))] = -np.inf
    start, end = np.unravel_index(np.argmax(sums), sums.shape)
    return int(start), int(end)
