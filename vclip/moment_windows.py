"""The windows of all videos of an index, nearest to a text first, by FAISS.

N windows of all videos, D hidden size, m texts. A score is the dot product z_v . z_t.
"""

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int

# Up to here the search is exact: 614 MB of float32 and 60 ms a query at D = 768. That is 890 hours of video.
EXACT_UP_TO = 200_000
TRAIN_A_CELL = 64


def build(blocks: list[Float32[np.ndarray, "_ D"]], exact_up_to: int = EXACT_UP_TO) -> Any:
    """A FAISS inner-product index of all rows of `blocks`, in order: flat, or above `exact_up_to` rows sqrt(N)
    k-means cells of float16 vectors, of which a search visits a sixteenth."""
    import faiss

    n, dim = sum(map(len, blocks)), blocks[0].shape[1]
    index: Any = faiss.IndexFlatIP(dim)
    if n > exact_up_to:
        cells = max(1, round(n**0.5))
        index = faiss.index_factory(dim, f"IVF{cells},SQfp16", faiss.METRIC_INNER_PRODUCT)
        index.nprobe = max(1, cells // 16)
        every = max(1, n // (TRAIN_A_CELL * cells))
        index.train(np.concatenate([block[::every] for block in blocks if len(block)]))
    for block in blocks:
        index.add(np.ascontiguousarray(block))
    return index


def nearest(
    index: Any, z_t: Float32[np.ndarray, "m D"], n: int, allowed: Bool[np.ndarray, " N"] | None = None
) -> tuple[Float32[np.ndarray, "m n"], Int[np.ndarray, "m n"]]:
    """Scores and windows, best first, of the n nearest among the `allowed` ones; window -1 where there are fewer."""
    import faiss

    selector = None if allowed is None else faiss.IDSelectorBatch(np.flatnonzero(allowed))
    if not hasattr(index, "nprobe"):
        return index.search(z_t, n, params=None if selector is None else faiss.SearchParameters(sel=selector))
    # the few that a filter leaves may lie in any cell, and so may the last of many
    wide = selector is not None or n > 1000
    return index.search(
        z_t, n, params=faiss.SearchParametersIVF(sel=selector, nprobe=index.nlist if wide else index.nprobe)
    )


def write(index: Any, file: Path) -> None:
    import faiss

    faiss.write_index(index, str(file))


def read(file: Path) -> Any:
    """Raises ValueError if the file is damaged."""
    import faiss

    try:
        return faiss.read_index(str(file))
    except RuntimeError as error:
        raise ValueError(f"{file} is damaged ({error}): remove it and call update()") from None
