"""Pictures of what a model takes for what."""

import textwrap
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from vclip.plots._style import closed, plain

Shown = tuple[np.ndarray | None, str]  # a picture (H, W, 3) of a clip, None if there is none, and its sentence


def side_by_side(rows: Mapping[str, Sequence[tuple[Shown, Shown]]]) -> Figure:
    """A row a name, a pair an error: left the clip that was sought, right the one that came first, each under its own
    sentence. A name without errors has no row. Raises ValueError if there is no error at all.
    """
    rows = {name: errors for name, errors in rows.items() if errors}
    if not rows:
        raise ValueError("no error to show: leave the picture out")
    pairs = max(map(len, rows.values()))
    figure, axes = plt.subplots(
        len(rows), 3 * pairs, figsize=(4.1 * pairs, 2.3 * len(rows)), squeeze=False, layout="constrained", dpi=80,
        width_ratios=[1, 1, 0.1] * pairs,
    )  # fmt: skip
    for row, (name, errors) in zip(axes, rows.items(), strict=True):
        for axis in row:
            axis.set(xticks=[], yticks=[], frame_on=False)
        row[0].set_ylabel(plain(name, 40), fontsize=10)
        for i, (sought, found) in enumerate(errors):
            for axis, (image, sentence), mark in zip(row[3 * i :], (sought, found), ("", "→ "), strict=False):
                axis.set_title(textwrap.fill(plain(mark + sentence, 54), 27), fontsize=9)
                if image is None:
                    axis.text(
                        0.5, 0.5, "no picture", ha="center", va="center", color="#777777", transform=axis.transAxes
                    )
                else:
                    axis.imshow(image)
    return closed(figure)
