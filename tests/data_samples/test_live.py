"""Controls redraw with all values, and not before one is changed."""

from ipywidgets import IntSlider
from live import explorer


def test_a_change_redraws_with_the_values_of_all_controls():
    drawn = []
    box = explorer(lambda **values: drawn.append(values), n=(1, 9), kind=["x", "y"], long_name=IntSlider(3))
    number, kind, slider, _ = box.children
    assert not drawn and slider.description == "long name"
    number.value, kind.value = 7, "y"
    assert drawn[-1] == {"n": 7, "kind": "y", "long_name": 3} and len(drawn) == 2


def test_what_draws_by_itself_leaves_no_none(capsys):
    explorer(lambda n: None, n=(1, 9)).children[0].value = 7
    assert "None" not in capsys.readouterr().out
    explorer(lambda n: n, n=(1, 9)).children[0].value = 7
    assert capsys.readouterr().out.endswith("7\n")
