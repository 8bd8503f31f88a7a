"""Overlapping windows over videos longer than a clip: T seconds of a video, C classes or hidden units."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32, Int
from torch import Tensor

SIZE, STRIDE = 32, 16


def sliding_windows(n: int, size: int = SIZE, step: int = STRIDE) -> list[tuple[int, int]]:
    """Cut `n` seconds into overlapping windows (start, end), end exclusive (MMPT dsprocessor.py:661-805).

    Args:
        n: seconds of the video; 0 gives no window.
        size, step: seconds of a window, and between two starts. The last window is the first that reaches the end.
    """
    if not 1 <= step <= size or n < 0:
        raise ValueError(f"windows need 1 <= step <= size and n >= 0; got step {step}, size {size}, n {n}")
    return [(start, min(start + size, n)) for start in range(0, max(min(n, 1), n - size + step), step)]


def count_windows(n: Int[np.ndarray, " V"], size: int, step: int) -> Int[np.ndarray, " V"]:
    """How many `sliding_windows` videos of `n` seconds have."""
    return -(-np.maximum(np.minimum(n, 1), n - size + step) // step)


def merge_windows(
    rows: Sequence | np.ndarray | Tensor, windows: Sequence[tuple[int, int]]
) -> Float32[np.ndarray, "T C"]:
    """Average windows' rows over all windows that hold a second: a mean for each (MMPT predictor.py:383-408).

    Args:
        rows: one array or tensor (size, C) for each window; rows behind the window's end are padding and not read.
        windows: pairs (start, end) in seconds, as `sliding_windows` gives them.
    """
    blocks = [b.detach().float().cpu().numpy() if isinstance(b, Tensor) else np.asarray(b, np.float32) for b in rows]
    total = np.zeros((max(end for _, end in windows), blocks[0].shape[1]), np.float32)
    count = np.zeros((len(total), 1), np.float32)
    for block, (start, end) in zip(blocks, windows, strict=True):
        total[start:end] += block[: end - start]
        count[start:end] += 1
    return total / count
