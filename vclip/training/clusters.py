"""Batches of similar videos (section 3.4, Algorithm 1): N videos, C clips a video, D hidden size."""

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from jaxtyping import Float, Int
from torch import Tensor
from tqdm.auto import tqdm

COMPARED_AT_ONCE = 65_536
QUERIES_AT_ONCE = 1024  # 256 MB of scores


def video_vectors(
    z_v: Float[Tensor, "N C D"] | Float[np.ndarray, "N C D"], z_t: Float[Tensor, "N C D"] | Float[np.ndarray, "N C D"]
) -> Float[Tensor, "N D"] | Float[np.ndarray, "N D"]:
    """One vector for each video, the mean of its C clips' z_v and z_t (Algorithm 1, line 2; vectorpool.py:49-75).

    Example:
        >>> video_vectors(np.ones((3, 2, 4)), np.zeros((3, 2, 4)))[0].tolist()
        [0.5, 0.5, 0.5, 0.5]
    """
    return (z_v.mean(1) + z_t.mean(1)) / 2


class VideoIndex:
    """Exact nearest neighbours among video vectors by Euclidean distance (Algorithm 1, line 3).

    Args:
        vectors: shape (N, D), N > 0, finite. In float32 on the CPU they are not copied but read at every search.
        device: where distances are computed.

    Example:
        >>> VideoIndex(np.array([[0.0], [1.0], [5.0]])).neighbours(2, 2)
        array([2, 1])
    """

    def __init__(self, vectors: Float[Tensor, "N D"] | Float[np.ndarray, "N D"], device: torch.device | str = "cpu"):
        rows = torch.as_tensor(vectors).detach().float().cpu().numpy()
        if not len(rows):
            raise ValueError("an index needs at least one video vector")
        # a distance is at most twice the longest vector, and its square must fit float32 too
        bad = np.flatnonzero(~np.isfinite(4 * np.einsum("nd,nd->n", rows, rows)))
        if len(bad):
            raise ValueError(f"the vector of video {bad[0]} holds NaN, infinity or more than float32 can square")
        self.vectors, self.device = rows, torch.device(device)
        # an untrained model's vectors differ little beside their mean, which would drown the differences in float32
        self.origin = rows.mean(axis=0, dtype=np.float64).astype(np.float32)

    def __len__(self) -> int:
        return len(self.vectors)

    def neighbours(self, i: int | np.integer | Int[np.ndarray, " m"], n: int) -> Int[np.ndarray, "*queries n"]:
        """Positions of the videos nearest to a video, best first: (n,), or (m, n) for an array of m videos.

        Args:
            i: a video, or an array of videos.
            n: neighbours to find, the video itself counted; it comes first even where others have the same vector.
        """
        if not 1 <= n <= len(self):
            raise ValueError(f"{n} neighbours of {len(self)}: ask for 1 to {len(self)}")
        videos = np.atleast_1d(i)
        origin = torch.from_numpy(self.origin).to(self.device)
        asked = torch.from_numpy(self.vectors[videos]).to(self.device) - origin
        best = asked.new_full((len(asked), n), -torch.inf)
        found = torch.zeros(best.shape, dtype=torch.long, device=self.device)
        for first in tqdm(range(0, len(self), COMPARED_AT_ONCE), desc="neighbours", delay=10, leave=False):
            block = torch.from_numpy(self.vectors[first : first + COMPARED_AT_ONCE]).to(self.device) - origin
            offset = block.square().sum(1) / -2  # |q - x|^2 grows as |x|^2 / 2 - q x does
            for at in range(0, len(asked), QUERIES_AT_ONCE):
                part = slice(at, at + QUERIES_AT_ONCE)
                top = torch.addmm(offset, asked[part], block.T).topk(min(n, len(block)))
                scores, ids = torch.cat([best[part], top.values], 1), torch.cat([found[part], top.indices + first], 1)
                best[part], order = scores.topk(n)
                found[part] = ids.gather(1, order)
        # each video before what was found for it, and whatever then is there again, or too many, behind
        found = np.column_stack([videos, found.cpu().numpy()])
        again = np.pad(found[:, 1:] == videos[:, None], ((0, 0), (1, 0)))
        found = np.take_along_axis(found, np.argsort(again, axis=1, kind="stable"), axis=1)[:, :n]
        return found if np.ndim(i) else found[0]


def sample_clusters(
    index: VideoIndex,
    n_clusters: int,
    size: int,
    candidates: int,
    rng: np.random.Generator,
    accelerator: Accelerator | None = None,
) -> list[np.ndarray]:
    """Draw batches of similar videos, the same on every process (Algorithm 1, lines 4 to 6; retritask.py:215-245).

    Args:
        index, rng: all videos; the generator of all draws.
        n_clusters: batches to draw; their seeds differ, unless there are more clusters than videos.
        size: videos of a batch, drawn without repeats from the seed's candidates, so the seed may drop out. ValueError
            if there are fewer videos.
        candidates: videos nearest to the seed, itself counted: 2 * size in the paper, `size` in Table 7's "retrieve
            k". Where there are fewer than `size`, all of them are the batch.
        accelerator: its processes, which need the same index and `rng`, search a part of the seeds each.

    Example:
        >>> index = VideoIndex(np.array([[0.0], [1.0], [8.0], [9.0]]))
        >>> clusters = sample_clusters(index, 4, size=2, candidates=2, rng=np.random.default_rng(0))
        >>> sorted(sorted(batch.tolist()) for batch in clusters)
        [[0, 1], [0, 1], [2, 3], [2, 3]]
    """
    if not 1 <= size <= len(index):
        raise ValueError(f"batches of {size} videos from {len(index)}: choose a size from 1 to {len(index)}")
    seeds = rng.choice(len(index), n_clusters, replace=n_clusters > len(index))
    processes, rank = (accelerator.num_processes, accelerator.process_index) if accelerator else (1, 0)
    similar = index.neighbours(np.array_split(seeds, processes)[rank], min(candidates, len(index)))
    if processes > 1:
        similar = np.concatenate(gather_object([similar]))
    if similar.shape[1] > size:
        similar = rng.permuted(similar, axis=1)[:, :size]
    return list(similar)


def shuffled_batches(n_videos: int, size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """All videos in random order, without retrieval (Table 7); a remainder is left out, as in the released code."""
    return list(rng.permutation(n_videos)[: n_videos // size * size].reshape(-1, size))
