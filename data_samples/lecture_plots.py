"""The lectures' pictures: clips in rows, rankings, questions and steps. Each function returns a matplotlib Figure."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from vclip.plots import RIGHT, TEXT, panels, plain


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
