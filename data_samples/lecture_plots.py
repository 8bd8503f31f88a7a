"""The lectures' pictures: clips in rows, rankings, questions, steps, runs. Each function returns a Figure."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vclip.data.captions import Captions
from vclip.data.samplers import Clips
from vclip.plots import CHANCE, RIGHT, TEXT, VIDEO, WIDTH, draw_frames, panels, plain

REFRESH = 10.0  # seconds between drawings of a live curve


def contact_sheet(images: Sequence[np.ndarray | None], titles: Sequence[str], columns: int = 6) -> Figure:
    """Pictures (H, W, 3) in rows, each under its title; None leaves a place empty."""
    rows = -(-len(images) // columns)
    bare = {"frame_on": False, "xticks": [], "yticks": []}
    figure, axes = panels(rows, columns, (1.9 * columns, 2.3 * rows), dpi=80, subplot_kw=bare)
    for axis, image, title in zip(axes.flat, images, titles, strict=False):
        if image is not None:
            axis.imshow(image)
        axis.set_title(plain(title, 66, line=20), fontsize=10)
    return figure


def clip_pairs(
    seconds: float,
    pairs: Clips,
    said: Captions,
    pictures: Mapping[float, np.ndarray] | None = None,
    steps: Sequence[tuple[str, float, float]] = (),
) -> Figure:
    """Pairs of one video in order of time, each a video clip above its text clip, beside its words.

    Args:
        pairs: of a sampler, of this video alone.
        said: the video's captions.
        pictures: second -> frame (H, W, 3), in a row above; those without room are left out.
        steps: (text, start, end), in a row above; grey columns behind the pairs.
    """
    heights = [0.9 * bool(pictures), 0.5 * bool(steps), 0.46 * len(pairs.video_start)]
    parts = [height for height in heights if height]
    figure, axes = panels(len(parts), 1, (WIDTH, sum(parts) + 0.9), dpi=96, sharex=True, height_ratios=parts)
    left, below = iter(axes[:, 0]), axes[-1, 0]
    shown = next(left) if pictures else None
    if steps:
        named = next(left)
        for text, start, end in steps:
            named.text((start + end) / 2, 0.5, plain(text, 60, line=16), ha="center", va="center", fontsize=8)
            for axis in (named, below):
                axis.axvspan(start, end, color="#e4e4e4", linewidth=0, zorder=0)
        named.set(ylim=(0, 1), yticks=[0.5], yticklabels=["true steps"])
    start, end, first, last = (values[np.argsort(pairs.video_start, kind="stable")] for values in pairs)
    place = np.arange(len(start))
    below.barh(place - 0.18, end - start, 0.34, start, color=VIDEO, label="video clip")
    below.barh(
        place + 0.18, said.end[last - 1] - said.start[first], 0.34, said.start[first], color=TEXT, label="text clip"
    )
    words = [plain(" ".join(said.text[a:b]), 84, line=44) for a, b in zip(first, last, strict=True)]
    below.set(xlim=(0, seconds), ylim=(len(start) - 0.5, -0.5), xlabel="time (s)", yticks=place, yticklabels=words)
    for axis in axes[:, 0]:
        axis.tick_params(axis="y", labelsize=8, length=0)
    figure.legend(*below.get_legend_handles_labels(), loc="outside lower left", ncols=2, frameon=False, fontsize=9)
    if shown is not None:
        figure.draw_without_rendering()  # how wide the axes are depends on the words
        box = shown.get_window_extent()
        draw_frames(shown, pictures or {}, seconds, seconds * box.height / box.width)
        shown.set(xlim=(0, seconds), yticks=[0.5], yticklabels=["frames"], ylabel="")
    return figure


def ranking(
    queries: Sequence[str], images: Sequence[Sequence[np.ndarray | None]], right: Sequence[int | None]
) -> Figure:
    """A row a query: `images` of its best clips (None: an empty place), its own, at place `right` if shown, framed."""
    columns = max(map(len, images))
    figure = plt.figure(figsize=(1.5 * columns, 1.8 * len(queries)), layout="constrained", dpi=80)
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
    size = (11, 0.27 * sum(heights) + 0.4)
    figure, axes = panels(len(candidates), 2, size, dpi=80, width_ratios=[1, 6], height_ratios=heights)
    titles = titles or [""] * len(candidates)
    rows = zip(axes, images, candidates, scores, answers, titles, strict=True)
    for (picture, bars), image, options, score, answer, title in rows:
        picture.axis("off")
        picture.set_title(plain(title, 24), fontsize=10)
        if image is not None:
            picture.imshow(image)
        chosen, low, high = int(np.argmax(score)), min(0.0, float(np.min(score))), max(0.0, float(np.max(score)))
        colours = [RIGHT if i == answer else TEXT if i == chosen else "#bbbbbb" for i in range(len(options))]
        bars.barh(range(len(options)), score, color=colours, alpha=0.6, height=0.85)
        bars.axvline(0, color="#aaaaaa", linewidth=0.8, zorder=0)  # behind the bars
        texts = [("✓ " if i == answer else "") + plain(option, 70) for i, option in enumerate(options)]
        bars.set(yticks=range(len(options)), yticklabels=texts, ylim=(len(options) - 0.4, -0.6), xlim=(low, high))
        bars.spines[["top", "right", "left"]].set_visible(False)
        bars.tick_params(labelsize=10, left=False)
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
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, frameon=False, fontsize=10)
    figure.colorbar(image, label="p(step | second)")
    return figure


class LiveCurve:
    """Loss and validation recall of a run in progress, redrawn: `pretrain(config, on_row=LiveCurve(config.output))`.

    With the folder of a run that goes on, what preceded is drawn too.
    """

    def __init__(self, output: str | Path | None = None):
        from vclip.training.checkpoint import LOG, read_log  # which loads the model's code for seconds

        self.rows: list[dict] = read_log(Path(output)) if output and (Path(output) / LOG).is_file() else []
        self._drawn = 0.0
        self._display = None

    def __call__(self, row: dict) -> None:
        self.rows.append(row)
        if time.monotonic() - self._drawn > REFRESH:
            self.show()

    def finish(self, output: str | Path) -> None:
        """Draw the whole run from the log in the folder `output`, including what preceded an interruption."""
        from vclip.training.checkpoint import read_log

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
    """A run's log over optimizer steps: training and validation loss, validation recall beside chance."""
    figure, [(left, right)] = panels(1, 2, (10, 3.7))
    names = ["step", "loss", "validation_loss", "r1", "r5", "r10", "n", "chance_r1"]
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
    left.set(xlabel="optimizer step", ylabel="InfoNCE, both directions (nats)")
    right.set(
        xlabel="optimizer step", ylabel="texts that find their clip (%)", ylim=(-3, 120), yticks=range(0, 101, 20)
    )
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8, loc="upper right", ncols=1 + (axes is right))
    return figure
