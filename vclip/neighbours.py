"""Nearest rows: exact by Euclidean distance (PyTorch), or by inner product (FAISS), exact or in k-means cells."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int
from tqdm.auto import tqdm

TRAINED_ON = 64  # rows a cell, about
ADDED_AT_ONCE = 64  # blocks
COMPARED_AT_ONCE = 65_536
QUERIES_AT_ONCE = 1024  # 256 MB of scores


def nearest_of_all(
    rows: Float32[np.ndarray, "n D"],
    queries: Float32[np.ndarray, "m D"],
    k: int,
    origin: Float32[np.ndarray, " D"],
    device: torch.device,
) -> Int[np.ndarray, "m k"]:
    """The `k` rows nearest to each query, best first.

    `origin` is subtracted from `rows` only. In float32, unless `torch.set_float32_matmul_precision` allows less.
    """
    if not 1 <= k <= len(rows):
        raise ValueError(f"{k} neighbours of {len(rows)}: ask for 1 to {len(rows)}")
    asked, shift = torch.from_numpy(queries).to(device), torch.from_numpy(origin).to(device)
    best = asked.new_full((len(asked), k), -torch.inf)
    found = torch.zeros(best.shape, dtype=torch.long, device=device)
    for first in tqdm(range(0, len(rows), COMPARED_AT_ONCE), desc="neighbours", delay=10, leave=False):
        block = torch.from_numpy(rows[first : first + COMPARED_AT_ONCE]).to(device) - shift
        offset = block.square().sum(1) / -2  # |q - x|^2 grows as |x|^2 / 2 - q x does
        for at in range(0, len(asked), QUERIES_AT_ONCE):
            part = slice(at, at + QUERIES_AT_ONCE)
            top = torch.addmm(offset, asked[part], block.T).topk(min(k, len(block)))
            scores, ids = torch.cat([best[part], top.values], 1), torch.cat([found[part], top.indices + first], 1)
            best[part], order = scores.topk(k)
            found[part] = ids.gather(1, order)
    return found.cpu().numpy()


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
