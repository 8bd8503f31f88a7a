"""Pictures for the notebooks. Each function returns a matplotlib Figure; seconds run along x wherever there is time."""

import textwrap
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vclip.captions import Captions
from vclip.samplers import Clips
from vclip.state import read_log

VIDEO, TEXT, CHANCE, RIGHT = "#0072b2", "#d55e00", "#777777", "#009e73"  # told apart by colour-blind readers too
REFRESH = 10.0  # seconds between two drawings of a live curve


def timeline(frames: Sequence[np.ndarray], captions: Captions, every: int = 1) -> Figure:
    """One frame every `every` seconds above the captions, each a bar from its start to its end."""
    shown = list(frames)[::every]
    seconds = len(shown) * every
    seen = np.flatnonzero(captions.start < seconds)
    captions = Captions(captions.start[seen], captions.end[seen], [captions.text[i] for i in seen])
    texts = [_plain(text, 60) for text in captions.text]
    # a text that is longer than its bar needs its room too
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
    return _closed(figure)


def clip_pairs(captions: Captions, seconds: int, clips: Clips, count: int = 8) -> Figure:
    """The first `count` pairs over one video of `seconds`: the video clip and, below it, its text clip's span."""
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
    return _closed(figure)


def lengths(clips: Clips, pieces: np.ndarray) -> Figure:
    """Histograms of the video clips' seconds and the text clips' word pieces."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3), layout="constrained")
    duration = clips.video_end - clips.video_start
    left.hist(duration, bins=[*np.arange(duration.min(), duration.max() + 2) - 0.5], color=VIDEO)
    left.set(xlabel="length of the video clip (s)", ylabel="clips")
    right.hist(pieces, bins=[*np.arange(0, pieces.max() + 2) - 0.5], color=TEXT)
    right.set(xlabel="length of the text clip (word pieces)", ylabel="clips")
    return _closed(figure)


def contact_sheet(images: Sequence[np.ndarray], titles: Sequence[str], columns: int = 6) -> Figure:
    """Small pictures in rows, each under its title."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.9 * columns, 2.2 * rows), squeeze=False, layout="constrained", dpi=72
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        axis.imshow(image)
        axis.set_title(textwrap.fill(_plain(title, 44), 22), fontsize=8)
    return _closed(figure)


def ranking(queries: Sequence[str], images: Sequence[Sequence[np.ndarray]], right: Sequence[int | None]) -> Figure:
    """A row a query: the pictures of the clips ranked first, the right one framed. `right` is its place, or None."""
    columns = max(map(len, images))
    figure, axes = plt.subplots(
        len(queries), columns, figsize=(1.5 * columns, 1.85 * len(queries)), squeeze=False, layout="constrained", dpi=72
    )
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(hspace=0.12, h_pad=0.26)  # pyright: ignore[reportCallIssue]
    for row, query, shown, place in zip(axes, queries, images, right, strict=True):
        title = row[0].text(0, 1.07, _plain(query, 90), transform=row[0].transAxes, fontsize=10)
        title.set_in_layout(False)  # else a long sentence would push the other columns away
        for i, axis in enumerate(row):
            axis.set(xticks=[], yticks=[])
            if i < len(shown):
                axis.imshow(shown[i])
            for spine in axis.spines.values():
                spine.set(visible=i == place, color=RIGHT, linewidth=4)
    return _closed(figure)


def similarity(features: np.ndarray) -> Figure:
    """Cosine between every two seconds (T, F) of a video, about the video's mean: scenes show as squares."""
    rows = features.astype(np.float32) - features.astype(np.float32).mean(axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True) + 1e-9
    figure, axes = plt.subplots(figsize=(5, 4.2), layout="constrained")
    image = axes.imshow(rows @ rows.T, cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set(xlabel="time (s)", ylabel="time (s)")
    figure.colorbar(image, label="cosine")
    return _closed(figure)


def groups(values: dict[str, np.ndarray], xlabel: str) -> Figure:
    """Histograms on one axis, one a group, with each group's mean as a dashed line."""
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    low, high = (f([f(v) for v in values.values()]) for f in (np.min, np.max))
    for (name, value), colour in zip(values.items(), (VIDEO, CHANCE, TEXT), strict=False):
        axes.hist(value, bins=np.linspace(low, high, 50).tolist(), density=True, alpha=0.5, color=colour, label=name)
        axes.axvline(value.mean(), color=colour, linestyle="--")
    axes.set(xlabel=xlabel, ylabel="density")
    axes.legend(frameon=False)
    return _closed(figure)


def recalls(scores: dict[str, object]) -> Figure:
    """R@1, R@5, R@10 of several `RetrievalScore`s side by side, with chance as a line."""
    figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
    names = ("r1", "r5", "r10")
    width = 0.8 / len(scores)
    for i, (name, score) in enumerate(scores.items()):
        x = np.arange(3) + (i - (len(scores) - 1) / 2) * width
        bars = axes.bar(x, [100 * getattr(score, n) for n in names], width, label=name, color=plt.get_cmap("tab10")(i))
        axes.bar_label(bars, fmt="%.1f", fontsize=8)
    for i, name in enumerate(names):
        chance = 100 * getattr(next(iter(scores.values())).chance, name)  # type: ignore[attr-defined]
        axes.hlines(chance, i - 0.45, i + 0.45, color=CHANCE, linestyle="--", label="chance" if i == 0 else "")
    axes.set(xticks=range(3), xticklabels=["R@1", "R@5", "R@10"], ylabel="texts that find their clip (%)")
    axes.margins(y=0.12)
    axes.legend(frameon=False)
    return _closed(figure)


class LiveCurve:
    """Loss and validation recall while a run goes on: `pretrain(config, on_row=LiveCurve())` redraws in a notebook."""

    def __init__(self):
        self.rows: list[dict] = []
        self._drawn = 0.0
        self._display = None

    def __call__(self, row: dict) -> None:
        self.rows.append(row)
        if time.monotonic() - self._drawn > REFRESH:
            self.show()

    def finish(self, output: str | Path) -> None:
        """Draw the whole run in `output`, what went before an interruption included."""
        self.rows = list(read_log(Path(output)))
        self.show()

    def show(self) -> None:
        """Draw now, in place of the last drawing."""
        from IPython.display import display

        figure = curves(self.rows)
        if self._display is None:
            self._display = display(figure, display_id=True)
        else:
            self._display.update(figure)
        self._drawn = time.monotonic()


def curves(rows: Sequence[dict]) -> Figure:
    """The rows of a run's log: training and validation loss, and validation recall beside chance, over updates."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.2), layout="constrained")
    training = [(row["update"], row["loss"]) for row in rows if "loss" in row]
    held_out = [row for row in rows if "validation_loss" in row]
    if training:
        updates, losses = np.array(training).T
        left.plot(updates, losses, color=VIDEO, alpha=0.3, linewidth=0.8)
        window = min(20, len(losses))
        smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
        left.plot(updates[window - 1 :], smooth, color=VIDEO, label="training")
    if held_out:
        x = [row["update"] for row in held_out]
        left.plot(x, [row["validation_loss"] for row in held_out], "o-", color=TEXT, markersize=3, label="validation")
        for name, style in (("r1", "-"), ("r5", "--"), ("r10", ":")):
            label = f"R@{name[1:]} of {held_out[-1]['n']} clips"
            right.plot(x, [100 * row[name] for row in held_out], style, color=TEXT, label=label)
        right.axhline(100 * held_out[-1]["chance_r1"], color=CHANCE, linewidth=1, label="chance R@1")
    left.set(xlabel="update", ylabel="InfoNCE, both directions (nats)")
    right.set(xlabel="update", ylabel="texts that find their clip (%)")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8)
    return _closed(figure)


def _closed(figure: Figure) -> Figure:
    """Leave showing to the notebook, which would draw an open figure a second time."""
    plt.close(figure)
    return figure


def _plain(text: str, width: int) -> str:
    """Untrusted text for a picture: one line, no formulas, cut."""
    return textwrap.shorten(" ".join(text.split()).replace("$", r"\$"), width, placeholder="…")


def _lanes(starts: Iterable[float], ends: Iterable[float]) -> list[int]:
    """The first free row for each span, so that none overlaps another."""
    busy_until: list[float] = []
    lanes = []
    for start, end in zip(starts, ends, strict=True):
        lane = next((i for i, busy in enumerate(busy_until) if busy <= start), len(busy_until))
        busy_until[lane : lane + 1] = [end]
        lanes.append(lane)
    return lanes
