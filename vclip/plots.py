"""A video on one time axis, as a matplotlib Figure: pictures, curves, bands of labels and captions."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from vclip.data.captions import Captions
from vclip.search.hits import visible
from vclip.tasks.segmentation import segments

VIDEO, TEXT, CHANCE, RIGHT = "#0072b2", "#d55e00", "#777777", "#009e73"  # safe for colour-blind readers
WIDTH = 12.0  # inches of a time axis, its labels counted
MOST_TEXTS, FEW_LANES = 60, 3  # captions whose texts are drawn; rows of the boxes of more


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
) -> Figure:
    """A video on one time axis, each part only if given, from top to bottom.

    Args:
        seconds: length of the axis.
        pictures: second -> picture (H, W, 3), each drawn from its second on; those without room are left out.
        curves, threshold: name -> scores (T,) of its seconds; a dashed line.
        bands: name -> segments (text, start, end), in seconds.
        captions: bars from start to end, with their texts if they are at most `MOST_TEXTS`.

    Returns:
        A closed figure, `WIDTH` inches wide.

    Example:
        >>> [axes.get_ylabel() for axes in timeline(3, curves={"stir": [1, 3, 2]}, bands={"truth": []}).axes]
        ['score', 'labels']
    """
    pictures, curves, bands = pictures or {}, curves or {}, bands or {}
    captions = captions or Captions(np.zeros(0), np.zeros(0), [])
    colours = colours_of(curves, bands)
    seen = np.flatnonzero(captions.start < seconds)
    start, end = captions.start[seen], captions.end[seen]
    texts = [plain(captions.text[i], 60) for i in seen] if len(seen) <= MOST_TEXTS else []
    room = [seconds / 120 * len(text) for text in texts]  # for texts longer than their bars
    lanes = _lanes(start, np.maximum(end, start + room)) if texts else [i % FEW_LANES for i in range(len(seen))]
    rows = max(lanes, default=-1) + 1
    heights = [1.0 * bool(pictures), 1.6 * bool(curves), 0.3 * len(bands), 0.26 * rows]
    parts = [height for height in heights if height] or [0.3]
    height = sum(parts) + 0.7 + 0.2 * (len(curves) // 3 + len(colours) // 3)  # legends have three columns
    figure, axes = panels(len(parts), 1, (WIDTH, height), sharex=True, height_ratios=parts)
    left = iter(axes[:, 0])
    if pictures:
        draw_frames(next(left), pictures, seconds, seconds / (WIDTH - 1))  # a row of 1 inch
    if curves:
        _draw_curves(next(left), curves, threshold, colours)
    if bands:
        _draw_bands(figure, next(left), bands, colours)
    if rows:
        said = next(left)
        spans, edge = np.stack([start, end - start], axis=1), 1.0 if texts else 0.0
        for lane in range(rows):
            said.broken_barh(spans[np.array(lanes) == lane], (-lane - 0.4, 0.8), color=TEXT, alpha=0.25, linewidth=edge)
        for at, text, lane in zip(start, texts, lanes, strict=False):
            said.text(at + seconds / 800, -lane, text, va="center", fontsize=10, clip_on=True)
        said.set(ylim=(-rows + 0.4, 0.6), yticks=[], ylabel="captions")
    axes[-1, 0].set(xlim=(0, seconds), xlabel="time (s)")
    return figure


def draw_frames(axes: Axes, pictures: Mapping[float, np.ndarray], seconds: float, across: float) -> None:
    """Each picture in its shape, from its second on, where the one before has ended; a square is `across` s wide."""
    free = 0.0
    for start, picture in sorted(pictures.items()):
        width = picture.shape[1] / picture.shape[0] * across
        earlier = max(0, min(start, seconds - width))
        start = earlier if earlier >= free - 0.1 * width else start  # the latter is cut at the end
        if start >= free - 0.1 * width:
            axes.imshow(picture, extent=(start, start + width, 0, 1), aspect="auto", interpolation="bilinear")
            free = start + width
    axes.set(ylim=(0, 1), yticks=[], ylabel="frames")


def _draw_curves(axes: Axes, curves: Mapping[str, Any], threshold: float | None, colours: dict) -> None:
    for name, scores in curves.items():
        second, score = np.arange(len(scores) + 1), [*scores, scores[-1]]
        axes.step(second, score, where="post", color=colours[name], label=plain(name, 50))
    if threshold is not None:
        axes.axhline(threshold, color=CHANCE, linestyle="--", label=f"threshold {threshold:.3g}")
    axes.set(ylabel="score", ymargin=0.15)
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), fontsize=10, borderpad=0, ncols=3)


def _draw_bands(figure: Figure, axes: Axes, bands: Mapping[str, Sequence[tuple]], colours: dict[str, str]) -> None:
    for y, spans in enumerate(bands.values()):
        for text, start, end in spans:
            axes.broken_barh([(start, end - start)], (y - 0.4, 0.8), color=colours[text])
    axes.set(yticks=range(len(bands)), yticklabels=[plain(name, 20) for name in bands], ylim=(len(bands) - 0.5, -0.5))
    axes.set_ylabel("labels")
    texts = sorted({text for spans in bands.values() for text, *_ in spans})
    if handles := [Patch(color=colours[text], label=plain(text, 40)) for text in texts]:
        figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=10)


def colours_of(curves: Iterable[str], bands: Mapping[str, Sequence[tuple[str, float, float]]]) -> dict[str, str]:
    """A colour for each curve's name and each text of the bands; a text that names a curve has its colour."""
    names = list(dict.fromkeys([*curves, *sorted({text for spans in bands.values() for text, _, _ in spans})]))
    few = (VIDEO, TEXT, RIGHT, "#cc79a7", "#56b4e9", "#e69f00", "#000000")
    many = [to_hex(plt.get_cmap("tab20")(i)) for i in (*range(0, 20, 2), *range(1, 20, 2))]  # the dark ones first
    return dict(zip(names, few if len(names) <= len(few) else cycle(many), strict=False))


def _lanes(starts: Iterable[float], ends: Iterable[float]) -> list[int]:
    """The first free lane for each span, so that no two spans overlap."""
    busy_until, lanes = [], []
    for start, end in zip(starts, ends, strict=True):
        lane = next((i for i, busy in enumerate(busy_until) if busy <= start), len(busy_until))
        busy_until[lane : lane + 1] = [end]
        lanes.append(lane)
    return lanes


def label_bands(texts: Sequence[str], **labels: np.ndarray) -> dict[str, list[tuple[str, float, float]]]:
    """Bands for `timeline` of labels (T,) by name: 0 = Outside, else label + 1 of `texts`."""
    return {name: [(texts[label - 1], a, b) for label, a, b in segments(of)] for name, of in labels.items()}
