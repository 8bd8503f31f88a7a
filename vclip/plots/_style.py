"""What all pictures share: colours, closing, and text made safe to draw."""

import textwrap

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

VIDEO, TEXT, CHANCE, RIGHT = "#0072b2", "#d55e00", "#777777", "#009e73"  # safe for colour-blind readers


def closed(figure: Figure) -> Figure:
    """Close the figure: a notebook would draw an open one twice."""
    plt.close(figure)
    return figure


def plain(text: str, width: int) -> str:
    """Untrusted text on one line, without formulas, cut to `width`."""
    return textwrap.shorten(" ".join(text.split()).replace("$", r"\$"), width, placeholder="…")
