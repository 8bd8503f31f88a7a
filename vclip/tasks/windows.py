"""Videos longer than a clip: overlapping windows, and what they say of each second averaged.

T seconds of a video, F feature size, C classes or hidden units, D hidden size.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32

from vclip.models.embedding import evaluating
from vclip.models.packing import on_device
from vclip.models.videoclip import VideoCLIPModel
from vclip.tasks.ties import as_array

SIZE, STRIDE = 32, 16
AT_ONCE = 128


def sliding_windows(n: int, size: int = SIZE, step: int = STRIDE) -> list[tuple[int, int]]:
    """The windows (start, end) of `n` seconds: every `step` seconds one of `size`, cut where the video ends.

    The last window is the first that reaches the end (MMPT dsprocessor.py:661-805); no seconds, no window.
    Raises ValueError unless 1 <= step <= size and n >= 0.
    """
    if not 1 <= step <= size or n < 0:
        raise ValueError(f"windows of {size} s every {step} s over {n} s: needs 1 <= step <= size and no negative time")
    return [(start, min(start + size, n)) for start in range(0, max(min(n, 1), n - size + step), step)]


def merge_windows(
    rows: Sequence | np.ndarray | torch.Tensor, windows: Sequence[tuple[int, int]]
) -> Float32[np.ndarray, "n C"]:
    """The mean over all windows that hold a second; `rows[w]` are the rows of window w (MMPT predictor.py:383-408).

    Rows are arrays or tensors (size, C); those behind a window's length are padding and not read. Raises ValueError
    if there is no window, not one block of rows for each, a block is too short, or a second is in no window.
    """
    if len(rows) != len(windows) or not len(windows):
        raise ValueError(f"{len(rows)} blocks of rows for {len(windows)} windows: there must be one each, at least one")
    blocks = [as_array(block) for block in rows]
    total = np.zeros((max(end for _, end in windows), blocks[0].shape[1]), np.float32)
    count = np.zeros((len(total), 1), np.float32)
    for block, (start, end) in zip(blocks, windows, strict=True):
        if len(block) < end - start:
            raise ValueError(f"the window {start} to {end} has only {len(block)} rows")
        total[start:end] += block[: end - start]
        count[start:end] += 1
    if not count.all():
        raise ValueError(f"second {int(np.argmin(count))} is in no window")
    return total / count


def embed_seconds(
    model: VideoCLIPModel, clips: Sequence[np.ndarray], size: int = SIZE, step: int = STRIDE
) -> list[Float32[np.ndarray, "_ D"]]:
    """h_v of every second of videos (T, F) of any length, one (T, D) array a video.

    [CLS] is hidden as a key and [SEP] is not, as in the released segmentation and localization (MMPT dsprocessor.py
    gives them a dummy caption with the mask 0, 1, 0, 1). States are averaged where windows overlap; the released code
    averages the dot products with the texts, which is the same, since they are linear in the states.
    Windows of all videos run together in the order of their lengths, so that little is padded.
    Raises ValueError if `size` exceeds the model's max_video_tokens.
    """
    windows = [sliding_windows(len(clip), size, step) for clip in clips]
    states: list[list] = [[None] * len(spans) for spans in windows]
    places = [(end - start, v, w) for v, spans in enumerate(windows) for w, (start, end) in enumerate(spans)]
    places.sort()
    with evaluating(model):
        for first in range(0, len(places), AT_ONCE):
            group = places[first : first + AT_ONCE]
            longest = group[-1][0]
            rows = np.zeros((len(group), longest, clips[group[0][1]].shape[1]), clips[group[0][1]].dtype)
            for row, (length, v, w) in zip(rows, group, strict=True):
                row[:length] = clips[v][slice(*windows[v][w])]
            mask = torch.arange(longest) < torch.tensor([length for length, _, _ in group])[:, None]
            h_v = model.get_video_features(
                on_device(torch.from_numpy(rows), model.device), on_device(mask, model.device), attend_cls=False
            ).last_hidden_state
            assert h_v is not None
            for (_, v, w), state in zip(group, h_v.float().cpu().numpy(), strict=True):
                states[v][w] = state
    nothing = np.zeros((0, model.config.video_config.hidden_size), np.float32)
    return [merge_windows(s, spans) if spans else nothing for s, spans in zip(states, windows, strict=True)]
