"""What all pictures share: colours, closing, and text that cannot do harm."""

import textwrap

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

VIDEO, TEXT, CHANCE, RIGHT = "#0072b2", "#d55e00", "#777777", "#009e73"  # told apart by colour-blind readers too


def closed(figure: Figure) -> Figure:
    """Leave showing to the notebook, which would draw an open figure a second time."""
    plt.close(figure)
    return figure


def plain(text: str, width: int) -> str:
    """Untrusted text for a picture: one line, no formulas, cut."""
    return textwrap.shorten(" ".join(text.split()).replace("$", r"\$"), width, placeholder="…")
