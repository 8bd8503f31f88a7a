"""Pictures of a model's answers beside the truth: ranked clips, errors, questions, moments, labels, steps."""

import textwrap
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from vclip.plots._style import CHANCE, RIGHT, TEXT, VIDEO, closed, plain
from vclip.tasks.segment_metrics import segments


def contact_sheet(images: Sequence[np.ndarray | None], titles: Sequence[str], columns: int = 6) -> Figure:
    """Pictures (H, W, 3) in rows, each under its title; None leaves a place empty."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.9 * columns, 2.2 * rows), squeeze=False, layout="constrained", dpi=72
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        if image is not None:
            axis.imshow(image)
        axis.set_title(textwrap.fill(plain(title, 66), 22), fontsize=8)
    return closed(figure)


def ranking(
    queries: Sequence[str], images: Sequence[Sequence[np.ndarray | None]], right: Sequence[int | None]
) -> Figure:
    """A row a query: `images` of its best clips (None: an empty place), its own, at place `right` if shown, framed."""
    columns = max(map(len, images))
    figure, axes = plt.subplots(
        len(queries), columns, figsize=(1.5 * columns, 1.8 * len(queries)), squeeze=False, layout="constrained", dpi=72
    )
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.set(h_pad=0.1)  # pyright: ignore[reportCallIssue]
    for row, query, shown, place in zip(axes, queries, images, right, strict=True):
        title = row[0].text(0, 1.07, plain(query, 90), transform=row[0].transAxes, fontsize=10)
        title.set_in_layout(False)  # a long sentence must not push the other columns away
        row[0].set_title("I", fontsize=10, alpha=0)  # reserves the height of the sentence
        for i, axis in enumerate(row):
            axis.set(xticks=[], yticks=[])
            if i < len(shown) and (image := shown[i]) is not None:
                axis.imshow(image)
            for spine in axis.spines.values():
                spine.set(visible=i == place, color=RIGHT, linewidth=4)
    return closed(figure)


def rank_curves(ranks: dict[str, np.ndarray]) -> Figure:
    """R@k over k, with chance dashed in the same colour; `ranks`: {name: rank of each text's own clip, from 1}."""
    figure, axes = plt.subplots(figsize=(7, 3.2), layout="constrained")
    for i, (name, rank) in enumerate(ranks.items()):
        k, colour = np.arange(1, len(rank) + 1), plt.get_cmap("tab10")(i)
        axes.plot(
            k, [100 * float(np.mean(np.asarray(rank) <= n)) for n in k], color=colour, label=f"{name}, N = {len(rank)}"
        )
        axes.plot(k, 100 * k / len(rank), "--", color=colour, linewidth=1, label="chance" if i == 0 else None)
    axes.set(xscale="log", xlabel="k", ylabel="texts with their clip\namong the first k (%)", ylim=(0, 102))
    axes.legend(frameon=False, fontsize=9)
    return closed(figure)


def questions(
    images: Sequence[np.ndarray | None],
    candidates: Sequence[Sequence[str]],
    scores: Sequence[np.ndarray],
    answers: Sequence[int],
    titles: Sequence[str] | None = None,
) -> Figure:
    """A row a question: its clip (or None) and a bar a candidate; green and ticked: true; orange: wrongly chosen."""
    heights = [len(options) + 1 for options in candidates]
    figure, axes = plt.subplots(
        len(candidates), 2, figsize=(10, 0.27 * sum(heights) + 0.4), squeeze=False, layout="constrained", dpi=80,
        width_ratios=[1, 4], height_ratios=heights,
    )  # fmt: skip
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
    return closed(figure)


def moments(
    queries: Sequence[str],
    images: Sequence[dict[int, np.ndarray]],
    times: Sequence[Sequence[Sequence[int]]],
    answers: Sequence[Sequence[int]],
    block: int = 5,
    blocks: int = 6,
) -> Figure:
    """A row a description: frames of its video, and below them a line for each annotator's and the model's moment.

    `images`: {second: picture} of each video. `times` and `answers`: moments (first, last) in blocks, both inclusive.
    """
    figure, axes = plt.subplots(
        len(queries), 1, figsize=(9, 2.1 * len(queries)), squeeze=False, sharex=True, layout="constrained", dpi=80
    )
    for row, (axis, query, shown, marked, answer) in enumerate(
        zip(axes[:, 0], queries, images, times, answers, strict=True)
    ):
        for second, image in shown.items():
            first = second // block * block
            axis.imshow(image, extent=(first, first + block, 0, 1), aspect="auto", interpolation="bilinear")
        for i, moment in enumerate(marked):
            _span(axis, moment, block, -0.14 - 0.1 * i, RIGHT, "annotators" if i == row == 0 else None)
        _span(axis, answer, block, -0.14 - 0.1 * len(marked), VIDEO, "model" if row == 0 else None)
        axis.set(ylim=(-0.25 - 0.1 * len(marked), 1), xlim=(0, block * blocks), yticks=[])
        axis.set_xticks(range(0, block * blocks + 1, block))
        axis.set_title(plain(query, 100), fontsize=10, loc="left")
    axes[-1, 0].set_xlabel("time (s)")
    figure.legend(loc="outside lower right", ncols=2, frameon=False, fontsize=9)
    return closed(figure)


def labelled_seconds(
    truth: np.ndarray, predicted: np.ndarray, best: np.ndarray, threshold: float, texts: Sequence[str], ylabel: str
) -> Figure:
    """Curve of the `best` scores (T,), bands of true and predicted labels (T,): 0 = Outside (white), else label + 1."""
    seen = sorted(set(np.concatenate([truth, predicted]).tolist()) - {0})
    colours = {label: plt.get_cmap("tab20")(i % 20) for i, label in enumerate(seen)}
    figure, (curve, bands) = plt.subplots(
        2, 1, figsize=(11, 3.6), sharex=True, height_ratios=[1.3, 1], layout="constrained", dpi=80
    )
    curve.step(np.arange(len(best) + 1), [*best, best[-1]], where="post", color=VIDEO, linewidth=1.2)
    curve.axhline(threshold, color=CHANCE, linestyle="--", label=f"threshold {threshold:.3g}")
    curve.set(ylabel=ylabel)
    curve.margins(y=0.15)
    curve.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), fontsize=8, borderpad=0)
    for y, labels in ((1, truth), (0, predicted)):
        for label, start, end in segments(labels):
            bands.broken_barh([(start, end - start)], (y - 0.4, 0.8), color=colours[label])
    bands.set(yticks=[1, 0], yticklabels=["truth", "model"], ylim=(-0.5, 1.5), xlim=(0, len(truth)), xlabel="time (s)")
    handles = [Patch(color=colours[label], label=plain(texts[int(label) - 1], 40)) for label in seen]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return closed(figure)


def step_map(
    log_probability: np.ndarray,
    assigned: Sequence[int],
    segments: Sequence[tuple[int, float, float]],
    steps: Sequence[str],
) -> Figure:
    """Heat map of log p(step | second) (T, K), true `segments` (step from 0, start, end) framed, `assigned` marked."""
    figure, axes = plt.subplots(figsize=(11, 0.42 * len(steps) + 1.3), layout="constrained", dpi=80)
    seconds = len(log_probability)
    image = axes.imshow(
        np.exp(log_probability).T,
        aspect="auto",
        cmap="Greys",
        vmin=0,
        vmax=1,
        extent=(0, seconds, len(steps) - 0.5, -0.5),
    )
    for i, (step, start, end) in enumerate(segments):
        label = "truth" if i == 0 else None
        axes.add_patch(
            Rectangle((start, step - 0.45), end - start, 0.9, fill=False, edgecolor=RIGHT, lw=2, label=label)
        )
    axes.plot(np.asarray(assigned) + 0.5, range(len(steps)), "o", color=TEXT, label="assigned second")
    axes.set(xlabel="time (s)", yticks=range(len(steps)), yticklabels=[plain(step, 40) for step in steps])
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=8)
    figure.colorbar(image, label="p(step | second)")
    return closed(figure)


def _span(axis, moment: Sequence[int], block: int, y: float, colour: str, label: str | None) -> None:
    axis.plot((block * moment[0] + 0.1, block * (moment[1] + 1) - 0.1), (y, y), color=colour, lw=4, label=label,
              solid_capstyle="butt")  # fmt: skip
