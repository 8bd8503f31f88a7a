"""Controls that redraw a picture, for the notebooks."""

from collections.abc import Callable
from typing import Any

from IPython.display import display
from ipywidgets import Output, VBox, interactive


def explorer(draw: Callable[..., Any], **controls: Any) -> VBox:
    """Controls, and below them `draw(**values)` from the first change on; what it draws at first stands above, still.

    (`ipywidgets.interact` draws at once, into an output that a notebook run without a page may wait for without end.)

    Args:
        draw: gives something to display, or displays it and gives nothing.
        controls: a widget, or what `ipywidgets.interact` makes one of, for each argument of `draw`.

    Example:
        >>> box = explorer(lambda n: n * n, n=(1, 9))
        >>> box.children[0].value = 7
    """
    widgets = {name: interactive.widget_from_abbrev(given) for name, given in controls.items()}
    shown = Output()

    def redraw(_change: Any) -> None:
        shown.clear_output(wait=True)
        with shown:
            drawn = draw(**{name: widget.value for name, widget in widgets.items()})
            if drawn is not None:
                display(drawn)

    for name, widget in widgets.items():
        widget.description = widget.description or name.replace("_", " ")
        widget.style.description_width, widget.layout.width = "130px", widget.layout.width or "440px"
        if widget.has_trait("continuous_update"):
            widget.continuous_update = False  # a picture a move, not one a pixel
        widget.observe(redraw, "value")
    return VBox([*widgets.values(), shown])
