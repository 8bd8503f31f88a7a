"""Every effect is drawn where it is, with its interval, style and task."""

import numpy as np
import pandas as pd
import pytest
from ablations.pictures import forest, gain_map, gains

STYLES, TASKS, ROWS = ("test", "unseen"), ("retrieval $x$", "VideoQA", "a < b"), ("one", "two")


@pytest.fixture
def effects() -> pd.DataFrame:
    lines = [(row, style, task) for row in ROWS for style in STYLES for task in TASKS]
    table = pd.DataFrame(lines, columns=["row", "style", "task"])
    table["mean"] = np.arange(len(lines)) / 100
    table["low"], table["high"] = table["mean"] - 0.01, table["mean"] + 0.02
    table.loc[0, ["low", "high"]] = -np.inf, np.inf
    table["lag"] = table["row"].map({"one": 0.0, "two": 8.0})
    return table


def points(axes) -> list[tuple]:
    """What the panel marks: (x, y) of every effect in the order drawn."""
    return [tuple(np.round(xy, 6)) for bars in axes.containers for xy in zip(*bars.lines[0].get_data(), strict=True)]


def test_forest_marks_each_effect_in_points(effects, tmp_path):
    figure = forest(effects, "row minus full (points)")
    figure.savefig(tmp_path / "forest.png")
    assert len(figure.axes) == len(TASKS)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(ROWS)
    for axes, task in zip(figure.axes, TASKS, strict=True):
        here = effects[effects["task"] == task]
        wanted = [100 * m for style in STYLES for m in here[here["style"] == style]["mean"]]
        assert [x for x, _ in points(axes)] == pytest.approx(wanted)
        assert [round(y) for _, y in points(axes)] == [0, 1, 0, 1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [*STYLES, "one seed: no interval"]
    assert figure.get_supxlabel() == "row minus full (points)"


@pytest.mark.parametrize("draw", [lambda e: forest(e, "x"), lambda e: gains(e, "lag", "x", "y")])
def test_a_single_seed_is_a_hollow_mark_and_no_bar_of_no_length(effects, draw):
    axes, *others = draw(effects).axes
    hollow = [line for line in axes.lines if line.get_markerfacecolor() == "white"]
    assert [len(line.get_xdata()) for line in hollow] == [1]
    drawn = [np.array(s) for bars in axes.containers for s in bars.lines[2][0].get_segments()]
    assert sum(len(segment) == 2 for segment in drawn) == len(effects) / len(TASKS) - 1
    assert not [line for other in others for line in other.lines if line.get_markerfacecolor() == "white"]
    whole = draw(effects.drop(index=0))
    assert [text.get_text() for text in whole.legends[0].get_texts()] == list(STYLES)


def test_values_that_are_names_stand_in_their_order(effects):
    figure = gains(effects.assign(lag=effects["row"].map({"one": "three", "two": "all"})), "lag", "x", "y")
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["three", "all"]
    numbers = gains(effects, "lag", "x", "y")
    for drawn, style in ((figure, "None"), (numbers, "-")):
        assert {bars.lines[0].get_linestyle() for bars in drawn.axes[0].containers} == {style}, (
            "only numbers are joined"
        )


def test_gains_stand_over_what_was_varied(effects, tmp_path):
    figure = gains(effects, "lag", "lag (s)", "gain (points)")
    figure.savefig(tmp_path / "gains.png")
    for axes, task in zip(figure.axes, TASKS, strict=True):
        assert axes.get_xlabel() == "lag (s)"
        assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "8"]
        here = effects[effects["task"] == task]
        wanted = [100 * m for style in STYLES for m in here[here["style"] == style].sort_values("lag")["mean"]]
        assert [y for _, y in points(axes)] == pytest.approx(wanted)
        assert [round(x) for x, _ in points(axes)] == [0, 1, 0, 1]
    assert figure.axes[0].get_ylabel() == "gain (points)"


def test_a_map_writes_each_effect_into_its_field(tmp_path):
    places = [(lag, clip) for lag in (0.0, 8.0) for clip in (0.4, 1.6)]
    effects = pd.DataFrame(places, columns=["lag", "clip"])
    effects["mean"], effects["low"], effects["high"] = [0.1, -0.2, 0.03, 0.4], [0.05, -0.3, -0.1, 0.3], 0.5
    figure = gain_map(effects, "lag", "clip", "lag (s)", "length (steps)", "full minus w/o overlap (points)")
    figure.savefig(tmp_path / "map.png")
    (axes,) = figure.axes
    said = {tuple(text.get_position()): text.get_text() for text in axes.texts}
    assert said == {
        (0, 0): "+10\n(+5 to +50)",
        (0, 1): "-20\n(-30 to +50)",
        (1, 0): "+3\n(-10 to +50)",
        (1, 1): "+40\n(+30 to +50)",
    }
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "8"]
    depth = dict(zip(places, (patch.get_alpha() for patch in axes.patches), strict=True))
    assert depth[0.0, 1.6] == depth[8.0, 0.4] < depth[0.0, 0.4] < depth[8.0, 1.6], "pale where the sign is open"


def test_many_numbers_are_labelled_without_overlap(effects, tmp_path):
    one = effects[(effects["row"] == "one") & (effects["style"] == "test")]
    many = pd.concat([one.assign(lag=float(i)) for i in range(21)])
    figure = gains(many, "lag", "epoch", "gain (points)")
    figure.savefig(tmp_path / "many.png")
    for axes in figure.axes:
        boxes = [label.get_window_extent() for label in axes.get_xticklabels()]
        assert len(boxes) == 7 and all(a.x1 < b.x0 for a, b in zip(boxes, boxes[1:], strict=False))
