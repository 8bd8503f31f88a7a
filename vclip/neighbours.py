"""The nearest of many rows by FAISS: all compared, or those in the nearest k-means cells.

n rows of D numbers, m queries.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int

TRAINED_ON = 64  # rows a cell
ADDED_AT_ONCE = 65_536


def index_rows(
    blocks: Sequence[Float32[np.ndarray, "_ D"]], metric: str = "ip", cells: bool = False, half: bool = False
) -> Any:
    """A FAISS index of the rows of all `blocks`, at least one, in their order.

    `metric`: "ip" (inner product) or "l2" (Euclidean). In `cells`, of which there are sqrt(n) but one for 39 rows at
    the most, a search visits a sixteenth of them; `half` keeps their rows as float16.
    """
    import faiss

    n, dim = sum(map(len, blocks)), blocks[0].shape[1]
    index: Any = faiss.IndexFlatL2(dim) if metric == "l2" else faiss.IndexFlatIP(dim)
    if cells:
        nlist = max(1, min(round(n**0.5), n // 39))
        index = faiss.index_factory(dim, f"IVF{nlist},{'SQfp16' if half else 'Flat'}", index.metric_type)
        index.cp.min_points_per_centroid = 1
        index.nprobe = max(1, nlist // 16)
        index.train(_some(blocks, n, TRAINED_ON * nlist))
    for block in _large(blocks):
        index.add(block)
    return index


def nearest(
    index: Any, queries: Float32[np.ndarray, "m D"], n: int, allowed: Bool[np.ndarray, " rows"] | None = None
) -> tuple[Float32[np.ndarray, "m n"], Int[np.ndarray, "m n"]]:
    """Scores (or squared distances) and rows, best first, of the n nearest `allowed` ones; -1 where there are fewer.

    All cells are visited where a sixteenth holds fewer than n rows, and for `allowed` rows, which may lie in any.
    """
    import faiss

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


def _some(blocks: Sequence[np.ndarray], n: int, most: int) -> np.ndarray:
    """At most `most` of the n rows, drawn at random, in their order."""
    drawn = np.sort(np.random.default_rng(0).choice(n, min(n, most), replace=False))
    ends = np.cumsum([len(block) for block in blocks])
    parts = zip(blocks, np.split(drawn, np.searchsorted(drawn, ends[:-1])), [0, *ends[:-1]], strict=True)
    return np.concatenate([block[rows - first] for block, rows, first in parts])


def _large(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    pending: list[np.ndarray] = []
    for block in blocks:
        pending.append(block)
        if sum(map(len, pending)) >= ADDED_AT_ONCE:
            yield np.concatenate(pending) if len(pending) > 1 else block
            pending = []
    if pending:
        yield np.concatenate(pending) if len(pending) > 1 else pending[0]
