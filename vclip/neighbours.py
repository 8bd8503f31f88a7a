"""Nearest rows by inner product (FAISS), exact or in k-means cells."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int

TRAINED_ON = 64  # rows a cell, about
ADDED_AT_ONCE = 64  # blocks


def index_rows(blocks: Sequence[Float32[np.ndarray, "_ D"]], cells: bool = False) -> Any:
    """FAISS index by inner product over the rows of `blocks`; in `cells`, float16, a search visits 1/16 of them."""
    import faiss

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
