"""Pictures of a training run: its curves, and recall before and after."""

import time
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vclip.plots._style import CHANCE, TEXT, VIDEO, closed
from vclip.training.checkpoint import MASS, read_log

REFRESH = 10.0  # seconds between drawings of a live curve


def recalls(scores: dict[str, object]) -> Figure:
    """R@1, R@5 and R@10 of several models side by side, with chance as a line; `scores`: {name: RetrievalScore}."""
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
    return closed(figure)


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
    figure, (left, right, last) = plt.subplots(1, 3, figsize=(13, 3.7), layout="constrained")
    training = [(row["step"], row["loss"]) for row in rows if "loss" in row]
    held_out = [row for row in rows if "validation_loss" in row]
    if training:
        steps, losses = np.array(training).T
        left.plot(steps, losses, color=VIDEO, alpha=0.3, linewidth=0.8)
        window = min(20, len(losses))
        smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
        left.plot(steps[window - 1 :], smooth, color=VIDEO, label="training")
    if held_out:
        x = [row["step"] for row in held_out]
        left.plot(x, [row["validation_loss"] for row in held_out], "o-", color=TEXT, markersize=3, label="validation")
        for name, style in (("r1", "-"), ("r5", "--"), ("r10", ":")):
            label = f"R@{name[1:]} of {held_out[-1]['n']} clips"
            right.plot(x, [100 * row[name] for row in held_out], style, color=TEXT, label=label)
        right.axhline(100 * held_out[-1]["chance_r1"], color=CHANCE, linewidth=1, label="chance R@1")
    masses = [(row["step"], 100 * row[MASS]) for row in rows if MASS in row]
    last.plot(*np.reshape(masses, (-1, 2)).T, "o-", color=VIDEO, markersize=3)
    left.set(xlabel="optimizer step", ylabel="InfoNCE, both directions (nats)")
    right.set(xlabel="optimizer step", ylabel="texts that find their clip (%)")
    last.set(xlabel="optimizer step", ylabel="softmax on other videos (%)", title="random batches", ylim=(0, 100))
    for axes in (left, right, last):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8)
    return closed(figure)
