"""A map of videos or clips: points in two dimensions, a picture on hover, and a click that opens one below."""

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from ipywidgets import VBox, Widget
from matplotlib.figure import Figure
from PIL import Image

from vclip import plots
from vclip.search.browser import STATIC
from vclip.search.hits import visible

HERE = Path(__file__).parent
MARKERS = "os^DvPX"  # as in map_widget.js
REST = "others"
GREY = "#bbbbbb"
SIDE = 180  # pixels of a picture


class PointMap(VBox):
    """Points that show a picture and a title when hovered; the one that is clicked is opened below the map.

    A stored notebook keeps the still picture, `figure`.

    Args:
        places: (N, 2).
        groups: name -> positions, each in a colour and shape of its own; all other points are grey.
        labels: of the two axes.
        titles: of the N points.
        picture: gives the RGB picture (H, W, 3) uint8 of a position, or None if there is none.
        opened: gives the widget of a position, such as a `vclip.Scrubber`.

    Example:
        >>> places, shown = np.eye(2), np.zeros((9, 16, 3), np.uint8)
        >>> PointMap(places, {"stir": [0]}, ("x", "y"), ["a", "b"], lambda i: shown, lambda i: VBox())
        PointMap: 2 points; run this cell to see them
    """

    def __init__(
        self,
        places: np.ndarray,
        groups: Mapping[str, Sequence[int]],
        labels: Sequence[str],
        titles: Sequence[str],
        picture: Callable[[int], np.ndarray | None],
        opened: Callable[[int], Widget],
    ):
        self.figure, self._picture, self._opened = still(places, groups, labels), picture, opened
        colours, of = plots.colours_of(groups, {}), np.full(len(places), -1)
        for number, members in enumerate(groups.values()):
            of[list(members)] = number
        content = {
            "points": [[float(x), float(y), int(group)] for (x, y), group in zip(places, of, strict=True)],
            "groups": [[visible(name), colours[name]] for name in groups],
            "labels": list(labels),
            "titles": [visible(title) for title in titles],
        }
        self._points = _Points(content=content)
        self._points.on_msg(self._answer)
        super().__init__([self._points])

    def _answer(self, _widget: Any, message: dict, _buffers: Any) -> None:
        try:
            i, sent = int(message["values"]["i"]), []
            if message["action"] == "open":
                before, self.children = self.children[1:], (self._points, self._opened(i))
                for widget in before:
                    widget.close()
            elif (image := self._picture(i)) is not None:
                sent = [_jpeg(image)]
            self._points.send({"id": message["id"], "answer": {}}, sent)
        except Exception as error:  # shown in the page, where a traceback would be lost
            self._points.send({"id": message["id"], "error": str(error)})

    def __repr__(self) -> str:
        return f"PointMap: {len(self._points.content['points'])} points; run this cell to see them"

    def _repr_mimebundle_(self, **options):
        """The widget, and the picture that a page without a kernel shows."""
        data = super()._repr_mimebundle_(**options) or {}
        file = io.BytesIO()
        self.figure.savefig(file, format="png")
        return data | {"text/plain": repr(self), "image/png": file.getvalue()}, {}


class _Points(anywidget.AnyWidget):
    """The points alone: the page asks for pictures, and says which point is clicked."""

    _esm = "\n".join(path.read_text(encoding="utf-8") for path in (STATIC / "page.js", HERE / "map_widget.js"))
    _css = "\n".join(path.read_text(encoding="utf-8") for path in (STATIC / "browser.css", HERE / "map_widget.css"))
    content = traitlets.Dict().tag(sync=True)


def still(places: np.ndarray, groups: Mapping[str, Sequence[int]], labels: Sequence[str]) -> Figure:
    """The map as a picture: each group (positions) in a colour and shape of its own, the other points grey."""
    figure, [[axes]] = plots.panels(1, 1, (7.5, 4.6), dpi=80)
    colours, rest = plots.colours_of(groups, {}), np.ones(len(places), bool)
    for i, (name, members) in enumerate(groups.items()):
        rest[list(members)] = False
        shape = {"color": colours[name], "marker": MARKERS[i % len(MARKERS)], "label": plots.plain(name, 40)}
        axes.scatter(*places[list(members)].T, s=40, zorder=2, **shape)
    if rest.any():
        axes.scatter(*places[rest].T, s=18, zorder=1, color=GREY, label=REST)
    axes.set(xlabel=labels[0], ylabel=labels[1])
    if groups:
        figure.legend(loc="outside right upper", frameon=False, fontsize=9)
    return figure


def _jpeg(image: np.ndarray) -> bytes:
    file, picture = io.BytesIO(), Image.fromarray(image)
    picture.thumbnail((SIDE, SIDE))
    picture.save(file, "jpeg", quality=80)
    return file.getvalue()
