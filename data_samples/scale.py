"""What a corpus takes on cards that nobody here has, computed: notebook 11's calculator."""

from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from vclip import plots

GB = 1e9
PAIRS, VIDEOS = 512, 32  # of a batch: the paper's
CLIPS, D = 16, 768  # of a video in the retrieval stage; numbers of its vector
S3D = 70.5e9  # operations a second of video
FRAMES = 30  # decoded a second of video


class Rates(NamedTuple):
    """What the sums rest on; notebook 11's parameters and measured rows say where each is from.

    Attributes:
        half, single: operations a second that a card is assumed to reach, in half precision and in float32.
        step: operations of a step of 512 pairs.
        frame: seconds of one core for a decoded frame.
        cores: beside each card.
        megabits: a second of a video file.
        captions, tokens: a second of video.
        kept: bytes a caption that an open corpus holds.
        run: bytes of a run's folder.
        epochs: passes over the videos.
    """

    half: float
    single: float
    step: float
    frame: float
    cores: int
    megabits: float
    captions: float
    tokens: float
    kept: float
    run: float
    epochs: int


def hours(videos: int, of_video: float, cards: int, rates: Rates) -> pd.Series:
    """Hours of each stage for so many videos, `of_video` hours in all."""
    seconds, steps = 3600 * of_video, rates.epochs * videos // VIDEOS
    embedded = rates.epochs * videos * CLIPS / PAIRS * rates.step / 3
    compared = rates.epochs * 2 * D * videos * (videos // VIDEOS)
    stages = {
        "S3D": S3D * seconds / rates.half,
        "steps": steps * rates.step / rates.half,
        "video vectors": embedded / rates.half,
        "neighbours": compared / rates.single,
        f"decoding, {cards * rates.cores} cores": rates.frame * FRAMES * seconds / rates.cores,
    }
    return pd.Series(stages) / 3600 / cards


def gigabytes(videos: int, of_video: float, width: int, rates: Rates) -> pd.Series:
    """GB on the disk, and in the memory of each process, which does not depend on the width: features are mapped."""
    seconds = 3600 * of_video
    captions = rates.captions * seconds
    held = captions * (rates.kept + 8) + 4 * rates.tokens * seconds + 4 * D * videos
    disk = {
        "disk: video files": rates.megabits * 1e6 / 8 * seconds,
        "disk: features": 2 * width * seconds,
        "disk: a run": rates.run,
        "memory of a process": held,
    }
    return pd.Series(disk) / GB


def calculator(videos: int, of_video: float, width: int, cards: int, rates: Rates) -> Figure:
    """Both as bars: blue is computed, orange rests on what the small machine took."""
    figure, axes = plots.panels(1, 2, (11, 2.9), dpi=80)
    units = (("h", hours(videos, of_video, cards, rates)), ("GB", gigabytes(videos, of_video, width, rates)))
    for axis, (unit, values) in zip(axes[0], units, strict=True):
        colours = [plots.TEXT if name.startswith("decoding") else plots.VIDEO for name in values.index]
        bars = axis.barh(range(len(values)), values, color=colours)
        axis.bar_label(bars, [_said(value, unit) for value in values], padding=4, fontsize=10)
        axis.set_yticks(range(len(values)), values.index)
        low, high = values.min() / 10, 30 * values.max()  # room for the numbers
        axis.set(xscale="log", xlim=(low, high), xlabel=f"{unit} (log scale)")
        axis.invert_yaxis()
    plural = "s" if cards > 1 else ""
    axes[0, 0].set_title(f"{videos:,} videos, {of_video:,.0f} h, {cards} H200{plural}", fontsize=10)
    axes[0, 1].set_title(f"{width} numbers a second", fontsize=10)
    return figure


def _said(value: float, unit: str) -> str:
    if unit == "h" and 3600 * value < 0.1:
        return "< 0.1 s"
    if unit == "h" and value < 0.1:
        return f"{3600 * value:.2g} s" if value * 3600 < 10 else f"{3600 * value:.0f} s"
    return f"{value:.2g} {unit}" if value < 10 else f"{value:,.0f} {unit}"
