"""Pictures for the notebooks. Each function returns a matplotlib Figure; time runs along x, in seconds."""

import textwrap
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from vclip.data.captions import Captions
from vclip.search.hits import visible
from vclip.tasks.segmentation import segments
from vclip.training.checkpoint import MASS, read_log

VIDEO, TEXT, CHANCE, RIGHT = "#0072b2", "#d55e00", "#777777", "#009e73"  # safe for colour-blind readers
WIDTH = 12.0  # inches of a time axis, its labels counted
REFRESH = 10.0  # seconds between drawings of a live curve


def panels(rows: int, columns: int, size: tuple[float, float], **options) -> tuple[Figure, np.ndarray]:
    """A figure of `size` inches, and its axes, (rows, columns); closed, as a notebook draws an open one twice."""
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained", **options)
    plt.close(figure)
    return figure, axes


def plain(text: str, width: int, line: int = 99) -> str:
    """Untrusted text without formulas and control characters, cut to `width`, in lines of `line`."""
    return textwrap.fill(visible(textwrap.shorten(text, width, placeholder="…")), line).replace("$", r"\$")


def timeline(
    seconds: float,
    pictures: Mapping[float, np.ndarray] | None = None,
    curves: Mapping[str, Any] | None = None,
    bands: Mapping[str, Sequence[tuple[str, float, float]]] | None = None,
    captions: Captions | None = None,
    threshold: float | None = None,
    ylabel: str = r"score $h_v \cdot z_t$",
) -> Figure:
    """A video on one time axis, each part only if given, from top to bottom.

    Args:
        pictures: second -> picture (H, W, 3), each drawn from its second on; those without room are left out.
        curves, threshold: name -> scores (T,) of its seconds; a dashed line.
        bands: name -> segments (text, start, end); Outside is white.
        captions: bars from start to end.
    """
    pictures, curves, bands = pictures or {}, curves or {}, bands or {}
    captions = captions or Captions([], [], [])
    seen = np.flatnonzero(captions.start < seconds)
    texts = [plain(captions.text[i], 60) for i in seen]
    # room for texts longer than their bars
    ends = [max(captions.end[i], captions.start[i] + seconds / 150 * len(t)) for i, t in zip(seen, texts, strict=True)]
    lanes = _lanes(captions.start[seen], ends)
    rows = max(lanes, default=-1) + 1
    heights = [1.0 * bool(pictures), 1.6 * bool(curves), 0.3 * len(bands), 0.26 * rows]
    parts = [height for height in heights if height] or [0.3]
    figure, axes = panels(len(parts), 1, (WIDTH, sum(parts) + 0.7), sharex=True, height_ratios=parts)
    left = iter(axes[:, 0])
    if pictures:
        _draw_pictures(next(left), pictures, seconds)
    if curves:
        _draw_curves(next(left), curves, threshold, ylabel)
    if bands:
        _draw_bands(figure, next(left), bands)
    if rows:
        said = next(left)
        for i, text, lane in zip(seen, texts, lanes, strict=True):
            start, length = captions.start[i], captions.end[i] - captions.start[i]
            said.barh(-lane, length, left=start, height=0.8, color=TEXT, alpha=0.25, edgecolor=TEXT)
            said.text(start + seconds / 800, -lane, text, va="center", fontsize=8, clip_on=True)
        said.set(ylim=(-rows + 0.4, 0.6), yticks=[], ylabel="captions")
    axes[-1, 0].set(xlim=(0, seconds), xlabel="time (s)")
    return figure


def _draw_pictures(axes: Axes, pictures: Mapping[float, np.ndarray], seconds: float) -> None:
    """Each picture in its shape, from its second on, where the one before has ended."""
    free = 0.0
    for start, picture in sorted(pictures.items()):
        width = picture.shape[1] / picture.shape[0] * seconds / (WIDTH - 1)  # of a row of 1 inch
        start = max(0, min(start, seconds - width))
        if start >= free - 0.1 * width:
            axes.imshow(picture, extent=(start, start + width, 0, 1), aspect="auto", interpolation="bilinear")
            free = start + width
    axes.set(ylim=(0, 1), yticks=[], ylabel="frames")


def _draw_curves(axes: Axes, curves: Mapping[str, Any], threshold: float | None, ylabel: str) -> None:
    for (name, scores), colour in zip(curves.items(), line_colours(), strict=False):
        axes.step(np.arange(len(scores) + 1), [*scores, scores[-1]], where="post", color=colour, label=plain(name, 50))
    if threshold is not None:
        axes.axhline(threshold, color=CHANCE, linestyle="--", label=f"threshold {threshold:.3g}")
    axes.set(ylabel=ylabel, ymargin=0.15)
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), fontsize=8, borderpad=0, ncols=4)


def _draw_bands(figure: Figure, axes: Axes, bands: Mapping[str, Sequence[tuple[str, float, float]]]) -> None:
    colours = colours_of(bands)
    for y, spans in enumerate(bands.values()):
        for text, start, end in spans:
            axes.broken_barh([(start, end - start)], (y - 0.4, 0.8), color=colours[text])
    axes.set(yticks=range(len(bands)), yticklabels=[plain(name, 20) for name in bands], ylim=(len(bands) - 0.5, -0.5))
    axes.set_ylabel("labels")
    handles = [Patch(color=colour, label=plain(text, 40)) for text, colour in colours.items()]
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)


def line_colours() -> tuple[str, ...]:
    """Of the curves, in turn."""
    return (VIDEO, TEXT, RIGHT, "#cc79a7", "#56b4e9", "#000000")


def colours_of(bands: Mapping[str, Sequence[tuple[str, float, float]]]) -> dict[str, Any]:
    """A colour for each text of the bands, in the order of the texts."""
    texts = sorted({text for segments in bands.values() for text, _, _ in segments})
    return {text: plt.get_cmap("tab20")(i % 20) for i, text in enumerate(texts)}


def _lanes(starts: Iterable[float], ends: Iterable[float]) -> list[int]:
    """The first free lane for each span, so that no two spans overlap."""
    busy_until: list[float] = []
    lanes = []
    for start, end in zip(starts, ends, strict=True):
        lane = next((i for i, busy in enumerate(busy_until) if busy <= start), len(busy_until))
        busy_until[lane : lane + 1] = [end]
        lanes.append(lane)
    return lanes


class LiveCurve:
    """Loss and validation recall of a run in progress, redrawn: `pretrain(config, on_row=LiveCurve())`."""

    def __init__(self):
        self.rows: list[dict] = []
        self._drawn = 0.0
        self._display = None

    def __call__(self, row: dict) -> None:
        self.rows.append(row)
        if time.monotonic() - self._drawn > REFRESH:
            self.show()

    def finish(self, output: str | Path) -> None:
        """Draw the whole run from the log in the folder `output`, including what preceded an interruption."""
        self.rows = read_log(Path(output))
        self.show()

    def show(self) -> None:
        """Draw now, replacing the last drawing."""
        from IPython.display import display

        figure = curves(self.rows)
        if self._display is None:
            self._display = display(figure, display_id=True)
        else:
            self._display.update(figure)
        self._drawn = time.monotonic()


def curves(rows: Sequence[dict]) -> Figure:
    """A run's log over optimizer steps: training and validation loss, validation recall beside chance, and the softmax
    mass on other videos in random batches."""
    figure, [(left, right, last)] = panels(1, 3, (13, 3.7))
    names = ["step", "loss", "validation_loss", "r1", "r5", "r10", "n", "chance_r1", MASS]
    log = pd.DataFrame(rows, columns=names, dtype=float).set_index("step")
    losses, held_out = log["loss"].dropna(), log.dropna(subset="validation_loss")
    left.plot(losses, color=VIDEO, alpha=0.3, linewidth=0.8)
    left.plot(losses.rolling(min(20, len(losses))).mean(), color=VIDEO, label="training")
    if len(held_out):
        left.plot(held_out["validation_loss"], "o-", color=TEXT, markersize=3, label="validation")
        n, chance = held_out[["n", "chance_r1"]].iloc[-1]
        for name, style in (("r1", "-"), ("r5", "--"), ("r10", ":")):
            right.plot(100 * held_out[name], style, color=TEXT, label=f"R@{name[1:]} of {n:.0f} clips")
        right.axhline(100 * chance, color=CHANCE, linewidth=1, label="chance R@1")
    last.plot(100 * log[MASS].dropna(), "o-", color=VIDEO, markersize=3)
    left.set(xlabel="optimizer step", ylabel="InfoNCE, both directions (nats)")
    right.set(xlabel="optimizer step", ylabel="texts that find their clip (%)", ylim=(-3, 120), yticks=range(0, 101, 20))
    last.set(xlabel="optimizer step", ylabel="softmax on other videos (%)", title="random batches", ylim=(0, 100))
    for axes in (left, right, last):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8, loc="upper right", ncols=1 + (axes is right))
    return figure


def contact_sheet(images: Sequence[np.ndarray | None], titles: Sequence[str], columns: int = 6) -> Figure:
    """Pictures (H, W, 3) in rows, each under its title; None leaves a place empty."""
    rows = -(-len(images) // columns)
    bare = {"frame_on": False, "xticks": [], "yticks": []}
    figure, axes = panels(rows, columns, (1.9 * columns, 2.2 * rows), dpi=72, subplot_kw=bare)
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        if image is not None:
            axis.imshow(image)
        axis.set_title(plain(title, 66, line=22), fontsize=8)
    return figure


def ranking(
    queries: Sequence[str], images: Sequence[Sequence[np.ndarray | None]], right: Sequence[int | None]
) -> Figure:
    """A row a query: `images` of its best clips (None: an empty place), its own, at place `right` if shown, framed."""
    columns = max(map(len, images))
    figure = plt.figure(figsize=(1.5 * columns, 1.8 * len(queries)), layout="constrained", dpi=72)
    plt.close(figure)
    rows = figure.subfigures(len(queries), squeeze=False)[:, 0]
    for row, query, shown, place in zip(rows, queries, images, right, strict=True):
        row.suptitle(plain(query, 90), x=0.01, ha="left", fontsize=10)
        for i, axis in enumerate(row.subplots(1, columns, squeeze=False)[0]):
            axis.set(xticks=[], yticks=[], anchor="N")
            if i < len(shown) and (image := shown[i]) is not None:
                axis.imshow(image)
            axis.spines[:].set(visible=i == place, color=RIGHT, linewidth=4)
    return figure


def questions(
    images: Sequence[np.ndarray | None],
    candidates: Sequence[Sequence[str]],
    scores: Sequence[np.ndarray],
    answers: Sequence[int],
    titles: Sequence[str] | None = None,
) -> Figure:
    """A row a question: its clip (or None) and a bar a candidate; green and ticked: true; orange: wrongly chosen."""
    heights = [len(options) + 1 for options in candidates]
    size = (10, 0.27 * sum(heights) + 0.4)
    figure, axes = panels(len(candidates), 2, size, dpi=80, width_ratios=[1, 4], height_ratios=heights)
    titles = titles or [""] * len(candidates)
    rows = zip(axes, images, candidates, scores, answers, titles, strict=True)
    for (picture, bars), image, options, score, answer, title in rows:
        picture.axis("off")
        picture.set_title(plain(title, 24), fontsize=9)
        if image is not None:
            picture.imshow(image)
        chosen, low, high = int(np.argmax(score)), min(0.0, float(np.min(score))), max(0.0, float(np.max(score)))
        colours = [RIGHT if i == answer else TEXT if i == chosen else "#bbbbbb" for i in range(len(options))]
        bars.barh(range(len(options)), score, color=colours, alpha=0.6, height=0.85)
        bars.axvline(0, color="#aaaaaa", linewidth=0.8, zorder=0)  # behind the bars and the texts
        for i, option in enumerate(options):
            bars.text(low, i, ("  ✓ " if i == answer else "  ") + plain(option, 80), va="center", fontsize=9)
        bars.set(yticks=[], ylim=(len(options) - 0.4, -0.6), xlim=(low, high))
        bars.spines[["top", "right", "left"]].set_visible(False)
        bars.tick_params(labelsize=8)
    axes[-1, 1].set_xlabel(r"score $z_v \cdot z_t$")
    return figure


def label_bands(texts: Sequence[str], **labels: np.ndarray) -> dict[str, list[tuple[str, float, float]]]:
    """Bands for `timeline` of labels (T,) by name: 0 = Outside, else label + 1 of `texts`."""
    return {name: [(texts[label - 1], a, b) for label, a, b in segments(of)] for name, of in labels.items()}


def step_map(
    log_probability: np.ndarray,
    assigned: Sequence[int],
    segments: Sequence[tuple[int, float, float]],
    steps: Sequence[str],
) -> Figure:
    """Heat map of log p(step | second) (T, K), true `segments` (step from 0, start, end) framed, `assigned` marked."""
    figure, [[axes]] = panels(1, 1, (11, 0.42 * len(steps) + 1.3), dpi=80)
    extent = (0, len(log_probability), len(steps) - 0.5, -0.5)
    image = axes.imshow(np.exp(log_probability).T, cmap="Greys", vmin=0, vmax=1, aspect="auto", extent=extent)
    step, start, end = np.reshape(segments, (-1, 3)).T
    axes.barh(step, end - start, 0.9, start, fill=False, edgecolor=RIGHT, linewidth=2, label="truth")
    axes.plot(np.asarray(assigned) + 0.5, range(len(steps)), "o", color=TEXT, label="assigned second")
    axes.set(xlabel="time (s)", yticks=range(len(steps)), yticklabels=[plain(step, 40) for step in steps])
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=8)
    figure.colorbar(image, label="p(step | second)")
    return figure
