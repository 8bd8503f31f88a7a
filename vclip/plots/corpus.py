"""Pictures of a corpus: frames and captions on one time line, clips, features."""

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from vclip.data.captions import Captions
from vclip.data.samplers import Clips
from vclip.plots._style import CHANCE, TEXT, VIDEO, closed, plain


def timeline(frames: Sequence[np.ndarray], captions: Captions, every: int = 1) -> Figure:
    """One frame a second, every n-th drawn, above the captions, each a bar from its start to its end."""
    shown = list(frames)[::every]
    seconds = len(shown) * every
    seen = np.flatnonzero(captions.start < seconds)
    captions = Captions(captions.start[seen], captions.end[seen], [captions.text[i] for i in seen])
    texts = [plain(text, 60) for text in captions.text]
    # reserve room for texts longer than their bars
    letters = seconds / 150
    ends = [max(e, s + letters * len(t)) for s, e, t in zip(captions.start, captions.end, texts, strict=True)]
    lanes = _lanes(captions.start, ends)
    rows = max(lanes, default=0) + 1
    figure, (top, bottom) = plt.subplots(
        2, 1, figsize=(12, 1.6 + 0.42 * rows), sharex=True, height_ratios=[1.2, 0.42 * rows], layout="constrained"
    )
    for i, frame in enumerate(shown):
        top.imshow(frame, extent=(i * every, (i + 1) * every, 0, 1), aspect="auto", interpolation="bilinear")
    top.set(xlim=(0, seconds), ylim=(0, 1), yticks=[], ylabel="frames")
    for start, end, text, lane in zip(captions.start, captions.end, texts, lanes, strict=True):
        bottom.barh(-lane, end - start, left=start, height=0.8, color=TEXT, alpha=0.25, edgecolor=TEXT)
        bottom.text(start + 0.1, -lane, text, va="center", fontsize=8, clip_on=True)
    bottom.set(xlim=(0, seconds), ylim=(-rows + 0.4, 0.6), yticks=[], xlabel="time (s)", ylabel="captions")
    return closed(figure)


def clip_pairs(captions: Captions, seconds: int, clips: Clips, count: int = 8) -> Figure:
    """Pairs sampled from a video of `seconds`: each video clip and, below it, the span of its text clip."""
    count = min(count, len(clips.video_start))
    figure, axes = plt.subplots(figsize=(12, 0.45 * count + 1), layout="constrained")
    for i in range(count):
        v = (float(clips.video_start[i]), float(clips.video_end[i] - clips.video_start[i]))
        start = float(captions.start[clips.caption_first[i]])
        t = (start, float(captions.end[clips.caption_last[i] - 1]) - start)
        axes.broken_barh([v], (-i, 0.36), color=VIDEO, label="video clip" if i == 0 else None)
        axes.broken_barh([t], (-i - 0.4, 0.36), color=TEXT, label="text clip" if i == 0 else None)
    axes.set(xlim=(0, seconds), yticks=-np.arange(count), yticklabels=np.arange(1, count + 1))
    axes.set(xlabel="time (s)", ylabel="pair")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return closed(figure)


def groups(values: dict[str, np.ndarray], xlabel: str) -> Figure:
    """Histograms of up to three groups on one axis, with each group's mean as a dashed line."""
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    low, high = (f([f(v) for v in values.values()]) for f in (np.min, np.max))
    for (name, value), colour in zip(values.items(), (VIDEO, CHANCE, TEXT), strict=False):
        axes.hist(
            value,
            bins=np.linspace(low, high, 50).tolist(),
            density=True,
            alpha=0.5,
            color=colour,
            label=f"{name} (dashed: mean)",
        )
        axes.axvline(value.mean(), color=colour, linestyle="--")
    axes.set(xlabel=xlabel, ylabel="density")
    figure.legend(loc="outside upper center", ncols=len(values), frameon=False)  # above lines that a caller may add
    return closed(figure)


def _lanes(starts: Iterable[float], ends: Iterable[float]) -> list[int]:
    """The first free lane for each span, so that no two spans overlap."""
    busy_until: list[float] = []
    lanes = []
    for start, end in zip(starts, ends, strict=True):
        lane = next((i for i, busy in enumerate(busy_until) if busy <= start), len(busy_until))
        busy_until[lane : lane + 1] = [end]
        lanes.append(lane)
    return lanes
