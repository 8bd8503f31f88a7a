"""Batches of similar videos: Algorithm 1 of the paper (section 3.4), with one index over all videos.

Shapes: N videos, C clips a video, D hidden size.
"""

from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

from vclip.neighbours import ADDED_AT_ONCE, index_rows, nearest, nearest_of_all, nearest_on_device

# An epoch searches N / 32 seeds among N vectors: 48 N^2 operations at D = 768. At the 150 GFLOP/s measured on two cores
# that is 6 minutes for HowTo100M's 1.1 million videos and 20 at two million, so exact search is worth it until there.
IVF_ABOVE = 2_000_000
# visited by an IVF search: 16 cells, or a 64th. How many true neighbours that finds depends on how far the videos lie
# apart: tests/benchmarks/bench_retrieval.py measures it among 300,000 like a trained model's.
LEAST_CELLS, CELLS_SHARE = 16, 1 / 64
SEARCH_BLOCK = 4096


def video_vectors(
    z_v: Float[Tensor, "N C D"] | Float[np.ndarray, "N C D"], z_t: Float[Tensor, "N C D"] | Float[np.ndarray, "N C D"]
) -> Float[Tensor, "N D"] | Float[np.ndarray, "N D"]:
    """One vector a video: the mean of z_v and z_t over its clips (Algorithm 1, line 2; vectorpool.py:49-75)."""
    return (z_v.mean(1) + z_t.mean(1)) / 2


class VideoIndex:
    """Nearest neighbours among N video vectors (Algorithm 1, line 3): by FAISS, or on a CUDA `device`.

    `vectors` in float32 on the CPU are not copied but read at every search: 1.1 million of 768 numbers are 3.4 GB.
    `metric`: "l2" (Euclidean, as in the released code) or "ip" (inner product). `kind`: "flat" is exact; "ivf" searches
    a 64th, 16 at the least, of sqrt(N) k-means cells, of which there are fewer where one would get less than 39 videos
    (a small corpus has less than 16: exact again); "auto" is exact up to `IVF_ABOVE` videos and IVF above, but on a
    CUDA device, where all that is not "ivf" is searched, always exact.
    Raises ValueError for no vectors, NaN or infinity (naming the row), an unknown metric or kind.
    """

    def __init__(
        self,
        vectors: Float[Tensor, "N D"] | Float[np.ndarray, "N D"],
        metric: str = "l2",
        kind: str = "auto",
        device: torch.device | str = "cpu",
    ):
        if metric not in ("l2", "ip") or kind not in ("auto", "flat", "ivf"):
            raise ValueError(f'metric is "l2" or "ip", kind "auto", "flat" or "ivf"; not {metric!r} and {kind!r}')
        rows = torch.as_tensor(vectors).detach().float().cpu().numpy()
        if not len(rows):
            raise ValueError("an index needs at least one video vector")
        # a distance is at most twice the longest vector, and its square must fit float32 too
        bad = np.flatnonzero(~np.isfinite(4 * np.einsum("nd,nd->n", rows, rows)))
        if len(bad):
            raise ValueError(f"the vector of video {bad[0]} holds NaN, infinity or more than float32 can square")
        self.vectors, self.metric, self.device = rows, metric, torch.device(device)
        self.on_cuda = self.device.type == "cuda"
        # an untrained model's vectors differ little beside their mean, which would drown the differences in float32
        mean = rows.mean(axis=0, dtype=np.float64) if metric == "l2" else np.zeros(rows.shape[1])
        self.origin = mean.astype(np.float32)
        self.cells: Any = None
        if kind == "ivf" or (kind == "auto" and len(rows) > IVF_ABOVE and not self.on_cuda):
            blocks = np.split(rows, range(ADDED_AT_ONCE, len(rows), ADDED_AT_ONCE))
            self.cells = index_rows(blocks, metric, cells=True, origin=self.origin)
            self.cells.nprobe = min(self.cells.nlist, max(LEAST_CELLS, round(CELLS_SHARE * self.cells.nlist)))

    def __len__(self) -> int:
        return len(self.vectors)

    def neighbours(self, i: int | np.integer | Int[np.ndarray, " m"], n: int) -> Int[np.ndarray, "*queries n"]:
        """The `n` videos nearest to video `i`, best first, `i` itself at the front; (n,), or (m, n) for an array `i`.

        `i` counts as one of the n and comes first even where others have the same vector. Where the cells that an
        IVF index searches hold fewer than n, all are searched for that video, so there are always n.
        Raises ValueError if n exceeds N or is below 1, IndexError if a video is outside the index.
        """
        videos = np.atleast_1d(i)
        if not 1 <= n <= len(self):
            raise ValueError(f"{n} neighbours of {len(self)} videos: ask for 1 to {len(self)}")
        if len(videos) and not 0 <= videos.min() <= videos.max() < len(self):
            raise IndexError(f"videos {videos.min()} to {videos.max()} asked of an index of {len(self)}")
        queries = self.vectors[videos] - self.origin
        if self.cells is None and self.on_cuda:
            found = nearest_on_device(self.vectors, queries, n, self.metric, self.origin, self.device)
        elif self.cells is None:
            found = nearest_of_all(self.vectors, queries, n, self.metric, self.origin)
        else:
            starts = tqdm(range(0, len(videos), SEARCH_BLOCK), desc="neighbours", delay=10, leave=False)
            blocks = [nearest(self.cells, queries[start : start + SEARCH_BLOCK], n)[1] for start in starts]
            found = np.concatenate([np.zeros((0, n), np.int64), *blocks])
        found = _self_first(videos, found)
        return found if np.ndim(i) else found[0]


def sample_clusters(
    index: VideoIndex,
    n_clusters: int,
    size: int,
    candidates: int,
    rng: np.random.Generator,
    accelerator: Accelerator | None = None,
) -> list[np.ndarray]:
    """`n_clusters` batches of similar videos (Algorithm 1, lines 4 to 6; retritask.py:215-245).

    Seeds are drawn without replacement (with, if there are more clusters than videos); from the `candidates` videos
    nearest to a seed, which counts itself, `size` are drawn without repeats, so the seed may drop out. The paper's
    candidates = 2 * size; `candidates` = size is "retrieve k" of Table 7. Fewer candidates than `size` are used as
    they are, as are all N videos if `candidates` exceeds N. The processes of an `accelerator`, which need the same
    index and `rng`, search a share of the seeds each; all return the same batches.
    Returns (at most size,) int64 arrays. Raises ValueError if `size` exceeds N, or a number is below 1.
    """
    _check_size(size, len(index))
    if n_clusters < 1 or candidates < 1:
        raise ValueError(f"n_clusters and candidates are at least 1, not {n_clusters} and {candidates}")
    seeds = rng.choice(len(index), n_clusters, replace=n_clusters > len(index))
    processes, rank = (accelerator.num_processes, accelerator.process_index) if accelerator else (1, 0)
    similar = index.neighbours(np.array_split(seeds, processes)[rank], min(candidates, len(index)))
    if processes > 1:
        similar = np.concatenate(gather_object([similar]))
    if similar.shape[1] > size:
        similar = rng.permuted(similar, axis=1)[:, :size]
    return list(similar)


def shuffled_batches(n_videos: int, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """All videos in random order, `size` a batch: training without retrieval (Table 7).

    A remainder smaller than `size` is left out, as in the released code. Raises ValueError if `size` exceeds
    `n_videos` or is below 1.
    """
    _check_size(size, n_videos)
    return list(rng.permutation(n_videos)[: n_videos // size * size].reshape(-1, size))


def _check_size(size: int, n_videos: int) -> None:
    if not 1 <= size <= n_videos:
        raise ValueError(f"batches of {size} videos from {n_videos}: choose a size from 1 to {n_videos}")


def _self_first(videos: Int[np.ndarray, " m"], found: Int[np.ndarray, "m n"]) -> Int[np.ndarray, "m n"]:
    """Row r with videos[r] moved to the front, or put there instead of the last entry where the search missed it."""
    is_self = found == videos[:, None]
    is_self[:, -1] |= ~is_self.any(axis=1)
    others = found[~is_self].reshape(len(found), found.shape[1] - 1)
    return np.concatenate([videos[:, None], others], axis=1)
