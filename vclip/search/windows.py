"""The windows of all videos of an index, best for a text first (FAISS), and what stands out in one.

V videos, N windows of all of them, T seconds of one, D hidden size. A score is a dot product with z_t.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from vclip.data import storage
from vclip.data.corpus import Corpus
from vclip.models.dual_encoder import DualEncoder
from vclip.neighbours import index_rows, nearest

# Up to here, 890 hours of video, the search is exact: at D = 768 in 0.6 GB of memory and 40 ms on one core.
EXACT_UP_TO = 200_000
SHORTEST = 2  # seconds of a moment


def build(blocks: Sequence[Float32[np.ndarray, "_ D"]]) -> Any:
    """A FAISS inner-product index of z_v, a block a video: exact up to EXACT_UP_TO rows, above float16 in cells."""
    cells = sum(map(len, blocks)) > EXACT_UP_TO
    return index_rows(blocks, cells)


def write(index: Any, file: Path) -> None:
    import faiss

    storage.replace(file, lambda temporary: faiss.write_index(index, str(temporary)))


def read(file: Path) -> Any:
    """An index in cells, its vectors left on disk (mapped). Raises ValueError if the file is damaged."""
    import faiss

    try:
        return faiss.read_index(str(file), faiss.IO_FLAG_MMAP)
    except RuntimeError as error:
        raise ValueError(f"{file} cannot be read ({error}): call update(), which makes it again") from None


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
        """The best window's video and score, and the best score of any other video (NaN if there is none).

        Raises ValueError if FAISS finds nothing, as when its vectors are damaged.
        """
        ranked = self.ranked(z_t)
        if (first := next(ranked, None)) is None:
            raise ValueError(
                f"none of the index's {len(self)} windows can be found: its FAISS file is damaged, remove it and call "
                "update(), which makes it again"
            )
        window, score = first
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


AT_ONCE = 8  # windows looked into together


def moments(
    clip: DualEncoder,
    corpus: Corpus,
    windows: Windows,
    ranked: Iterator[tuple[int, float]],
    z_t: Float32[np.ndarray, " D"],
) -> Iterator[tuple[int, int, int, float]]:
    """Video, start, end and score of the run of each `ranked` window, but of those that overlap only the first.

    Raises what `seconds_of` raises.
    """
    taken: dict[int, list[tuple[int, int]]] = {}
    while group := list(islice(ranked, AT_ONCE)):
        runs = _runs(clip, corpus, windows, [window for window, _ in group], z_t)
        for (window, score), (start, end) in zip(group, runs, strict=True):
            video = int(windows.video[window])
            others = taken.setdefault(video, [])
            if all(end <= a or b <= start for a, b in others):
                others.append((start, end))
                yield video, start, end, score


def seconds_of(clip: DualEncoder, corpus: Corpus, videos: Sequence[int], clips: list[np.ndarray]) -> list[np.ndarray]:
    """h_v (T, D) float32 of a clip (T, F) of each video. Raises ValueError that names the video if it is not finite."""
    h_v = clip.encode_seconds([rows.astype(np.float32) for rows in clips])
    for i, states in zip(videos, h_v, strict=True):
        if not np.isfinite(states).all():
            raise ValueError(
                f"the model makes NaN or infinity of {corpus.video_ids[i]!r}: its features in {corpus.file(i).name} "
                "are damaged; delete that file and call update(), which makes it again"
            )
    return h_v


def _runs(
    clip: DualEncoder, corpus: Corpus, windows: Windows, some: list[int], z_t: Float32[np.ndarray, " D"]
) -> list[tuple[int, int]]:
    """Start and end, in seconds of the video, of the run that stands out in each of some windows.

    Its neighbours are embedded with a window: then its seconds have the scores that `MomentIndex.explain` shows.
    """
    step = clip.window[1]
    first = [max(0, int(windows.start[w]) - step) for w in some]
    videos = [int(windows.video[w]) for w in some]
    clips = [corpus.features(i)[f : windows.end[w] + step] for i, w, f in zip(videos, some, first, strict=True)]
    runs = []
    for w, f, h_v in zip(some, first, seconds_of(clip, corpus, videos, clips), strict=True):
        start, end = standing_out(h_v[windows.start[w] - f : windows.end[w] - f] @ z_t)
        runs.append((int(windows.start[w]) + start, int(windows.start[w]) + end))
    return runs
