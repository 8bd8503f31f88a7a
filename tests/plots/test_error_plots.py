import numpy as np
import pytest

from vclip.plots.errors import side_by_side

FRAME = np.full((6, 8, 3), 90, np.uint8)


def test_errors_stand_beside_what_was_sought(tmp_path):
    """Untrusted sentences, a clip without a picture, rows of different length."""
    strange = (None, "$<img src=x>$ " * 20)
    rows = {"model, test": [((FRAME, "fry it"), (FRAME, "boil it")), (strange, (FRAME, "cut it"))], "none": []}
    rows["other"] = [((FRAME, "stir it"), (FRAME, "stir this"))]
    figure = side_by_side(rows)
    figure.savefig(tmp_path / "figure.png")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:2] == ["fry it", "→ boil it"] and titles[4] == "→ cut it" and len(titles[3]) < 80
    assert [len(axes.images) for axes in figure.axes] == [1, 1, 0, 0, 1, 0, 1, 1, 0, 0, 0, 0]
    assert [axes.get_ylabel() for axes in figure.axes[::6]] == ["model, test", "other"]
    with pytest.raises(ValueError, match="no error to show"):
        side_by_side({"model": []})
