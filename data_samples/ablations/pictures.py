"""Effects with their intervals: by row of a table, and over a quantity that was varied."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vclip.plots import CHANCE, RIGHT, TEXT, VIDEO, plain

ENDLESS = "one seed: no interval"
COLOURS = (VIDEO, TEXT, RIGHT, "#cc79a7")


def forest(effects: pd.DataFrame, xlabel: str) -> Figure:
    """Effects of rows: a panel a task, a line a row, a mark with its interval a style.

    `effects`: columns row, style, task, mean, low and high (fractions, drawn in percentage points). Order is kept.
    """
    rows, styles, tasks = (list(dict.fromkeys(effects[column])) for column in ("row", "style", "task"))
    size = (2.5 * len(tasks) + 2.4, 0.46 * len(rows) + 1.4)
    figure, panels = plt.subplots(1, len(tasks), figsize=size, sharey=True, layout="constrained", squeeze=False)
    for axes, task in zip(panels[0], tasks, strict=True):
        axes.axvline(0, color=CHANCE, linewidth=1)
        for i, style in enumerate(styles):
            here = _chosen(effects, task, style)
            y = np.array([rows.index(row) for row in here["row"]]) + 0.24 * (i - (len(styles) - 1) / 2)
            _draw(axes, here, i, 100 * here["mean"], y, xerr=_arms(here), label=plain(style, 40))
        axes.set_title(plain(task, 40), fontsize=10)
        axes.tick_params(labelsize=10)
        axes.grid(axis="y", alpha=0.3)
    panels[0, 0].set(yticks=range(len(rows)), yticklabels=[plain(row, 40) for row in rows])
    panels[0, 0].invert_yaxis()
    figure.supxlabel(xlabel, fontsize=10)
    return _with_legend(figure)


def gains(effects: pd.DataFrame, x: str, xlabel: str, ylabel: str) -> Figure:
    """Effects over a quantity that was varied: a panel a task, a line a style.

    `effects`: columns style, task, mean, low, high (fractions, drawn in percentage points) and `x`, whose values stand
    equally spaced in the given order. Numbers are joined by a line, names are not.
    """
    styles, tasks = (list(dict.fromkeys(effects[column])) for column in ("style", "task"))
    ticks = list(dict.fromkeys(effects[x]))
    named = any(isinstance(tick, str) for tick in ticks)
    size = (2.4 * len(tasks) + 0.8, 3.0)
    figure, panels = plt.subplots(1, len(tasks), figsize=size, layout="constrained", squeeze=False)
    for axes, task in zip(panels[0], tasks, strict=True):
        axes.axhline(0, color=CHANCE, linewidth=1)
        for i, style in enumerate(styles):
            here = _chosen(effects, task, style)
            place = np.array([ticks.index(value) for value in here[x]]) + 0.08 * (i - (len(styles) - 1) / 2)
            line = {"linestyle": "" if named else "-", "capsize": 3, "label": plain(style, 40)}
            _draw(axes, here, i, place, 100 * here["mean"], yerr=_arms(here), **line)
        every = 1 if named else -(-len(ticks) // 7)  # more numbers would overlap
        labels = [tick if named else f"{tick:g}" for tick in ticks[::every]]
        axes.set(xticks=range(0, len(ticks), every), xticklabels=labels, xlabel=xlabel)
        axes.set_xlim(-0.4, len(ticks) - 0.6)
        axes.set_title(plain(task, 40), fontsize=10)
        axes.tick_params(labelsize=10)
    panels[0, 0].set_ylabel(ylabel)
    return _with_legend(figure)


def gain_map(effects: pd.DataFrame, x: str, y: str, xlabel: str, ylabel: str, title: str) -> Figure:
    """Effects over two quantities that were varied: a field each, with the mean and its interval written in.

    `effects`: columns mean, low, high (fractions, drawn in percentage points), `x` and `y`, whose values stand equally
    spaced in the given order. Blue is a gain, orange a loss; pale where the interval holds 0.
    """
    across, up = (list(dict.fromkeys(effects[name])) for name in (x, y))
    size = (1.7 * len(across) + 1.6, 0.9 * len(up) + 1.3)
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    limit = 100 * float(np.abs(effects["mean"]).max())
    for of in effects.to_dict("records"):
        place = (across.index(of[x]), up.index(of[y]))
        seen = of["low"] > 0 or of["high"] < 0
        depth = (0.15 + 0.6 * abs(100 * of["mean"]) / limit) if seen else 0.08
        axes.add_patch(
            plt.Rectangle(np.array(place) - 0.48, 0.96, 0.96, alpha=depth, color=COLOURS[int(of["mean"] < 0)])
        )
        points = [100 * of[name] for name in ("mean", "low", "high")]
        mean, low, high = (f"{value:+.0f}" if round(value) else f"{value:+.1f}" for value in points)  # no "-0"
        axes.text(*place, f"{mean}\n({low} to {high})", ha="center", va="center", fontsize=10)
    axes.set(xlim=(-0.5, len(across) - 0.5), ylim=(-0.5, len(up) - 0.5), xlabel=xlabel, ylabel=ylabel, title=title)
    labels = [[of if isinstance(of, str) else f"{of:g}" for of in ticks] for ticks in (across, up)]
    axes.set(xticks=range(len(across)), xticklabels=labels[0], yticks=range(len(up)), yticklabels=labels[1])
    axes.tick_params(length=0, labelsize=10)
    axes.title.set_fontsize(10)
    axes.spines[:].set_visible(False)
    plt.close(figure)
    return figure


def _chosen(effects: pd.DataFrame, task: str, style: str) -> pd.DataFrame:
    return effects.query("task == @task and style == @style")


def _arms(effects: pd.DataFrame) -> np.ndarray:
    """(2, effects) points from the mean to the interval's low and high end; NaN for an infinite end."""
    arms = 100 * np.array([effects["mean"] - effects["low"], effects["high"] - effects["mean"]], dtype=float)
    return np.where(np.isfinite(arms), arms, np.nan)


def _draw(axes: Axes, effects: pd.DataFrame, i: int, x, y, linestyle: str = "", **options) -> None:
    """The effects of style number `i` at (x, y); hollow where the interval is infinite."""
    mark = {"marker": "os^D"[i % 4], "color": COLOURS[i % 4], "markersize": 4}
    axes.errorbar(x, y, linestyle=linestyle, linewidth=1.2, elinewidth=1.2, **mark, **options)
    endless = ~np.isfinite(_arms(effects)).all(axis=0)
    if endless.any():
        x, y = np.asarray(x)[endless], np.asarray(y)[endless]
        axes.plot(x, y, linestyle="", markerfacecolor="white", zorder=3, label=ENDLESS, **mark)


def _with_legend(figure: Figure) -> Figure:
    """Add one legend entry for each label that any panel has."""
    found = [pair for axes in figure.axes for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
    entries = {label: handle for handle, label in reversed(found)}
    labels = [label for label in dict.fromkeys(label for _, label in found) if label != ENDLESS]
    labels += [ENDLESS] * (ENDLESS in entries)
    handles = [entries[label] for label in labels]
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels), frameon=False, fontsize=10)
    plt.close(figure)
    return figure
