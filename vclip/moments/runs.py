"""The moments of a text: of each window the run of seconds that stands out, embedded when it is wanted.

T seconds of a clip, F feature size, D hidden size.
"""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from jaxtyping import Float32

from vclip.moments.model import embed_each_second, sizes
from vclip.moments.state import Entry
from vclip.moments.store import Store
from vclip.moments.windows import Windows, standing_out
from vclip.names import printable
from vclip.storage import shard_name

AT_ONCE = 8  # windows looked into together


def moments(
    model, store: Store, windows: Windows, ranked: Iterator[tuple[int, float]], z_t: Float32[np.ndarray, " D"]
) -> Iterator[tuple[int, int, int, float]]:
    """Video, start, end and score of the run of each `ranked` window, but of those that overlap only the first.

    Raises what `seconds_of` raises.
    """
    taken: dict[int, list[tuple[int, int]]] = {}
    while group := list(islice(ranked, AT_ONCE)):
        runs = _runs(model, store, windows, [window for window, _ in group], z_t)
        for (window, score), (start, end) in zip(group, runs, strict=True):
            video = int(windows.video[window])
            others = taken.setdefault(video, [])
            if all(end <= a or b <= start for a, b in others):
                others.append((start, end))
                yield video, start, end, score


def seconds_of(model, entries: list[Entry], clips: list[np.ndarray]) -> list[np.ndarray]:
    """h_v (T, D) float32 of a clip (T, F) of each video. Raises ValueError that names the video if it is not finite."""
    h_v = embed_each_second(model, clips)
    for entry, states in zip(entries, h_v, strict=True):
        if not np.isfinite(states).all():
            raise ValueError(
                f"the model makes NaN or infinity of {printable(entry.path)!r}: its features in "
                f"{shard_name(entry.shard)} are damaged, remove that file and call update(), which makes it again"
            )
    return h_v


def _runs(
    model, store: Store, windows: Windows, some: list[int], z_t: Float32[np.ndarray, " D"]
) -> list[tuple[int, int]]:
    """Start and end, in seconds of the video, of the run that stands out in each of some windows.

    Its neighbours are embedded with a window: then its seconds have the scores that `MomentIndex.explain` shows.
    """
    step = sizes(model)[1]
    first = [max(0, int(windows.start[w]) - step) for w in some]
    entries = [store.entries[windows.video[w]] for w in some]
    features = [store.features(entry) for entry in entries]
    clips = [rows[f : windows.end[w] + step] for rows, w, f in zip(features, some, first, strict=True)]
    runs = []
    for w, f, h_v in zip(some, first, seconds_of(model, entries, clips), strict=True):
        start, end = standing_out(h_v[windows.start[w] - f : windows.end[w] - f] @ z_t)
        runs.append((int(windows.start[w]) + start, int(windows.start[w]) + end))
    return runs
