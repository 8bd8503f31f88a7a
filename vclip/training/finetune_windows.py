"""Long videos as one padded batch of overlapping windows, with what is true of each second.

W windows, S seconds of one, F feature size, C numbers about a second.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float32
from torch import Tensor

from vclip.models.windows import sliding_windows


class Windows(NamedTuple):
    """`features`, `mask` (False behind a window's end), and where each window lies: (video, start, end)."""

    features: Float32[Tensor, "W S F"]
    mask: Bool[Tensor, "W S"]
    places: list[tuple[int, int, int]]


def cut(videos: Sequence[np.ndarray], size: int, stride: int) -> Windows:
    """The windows of `size` seconds, one every `stride`, of videos (T, F), as `sliding_windows` has them."""
    places = [(v, *span) for v, video in enumerate(videos) for span in sliding_windows(len(video), size, stride)]
    features = torch.zeros(len(places), size, videos[0].shape[1])
    mask = torch.zeros(len(places), size, dtype=torch.bool)
    for w, (video, start, end) in enumerate(places):
        features[w, : end - start] = torch.from_numpy(np.asarray(videos[video][start:end], np.float32))
        mask[w, : end - start] = True
    return Windows(features, mask, places)


def spread(windows: Windows, values: Sequence[np.ndarray], padding: float) -> Tensor:
    """What is true of each second, (T, ...) a video, laid out as the windows are: (W, S, ...)."""
    first = torch.from_numpy(values[0])
    out = torch.full((*windows.mask.shape, *first.shape[1:]), padding, dtype=first.dtype)
    for w, (video, start, end) in enumerate(windows.places):
        out[w, : end - start] = torch.from_numpy(values[video][start:end])
    return out
