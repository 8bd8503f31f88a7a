"""Pictures say what their axes are, and take any text."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from vclip import plots
from vclip.data.captions import Captions

FRAMES = [np.full((8, 8, 3), 10 * i, np.uint8) for i in range(12)]
CAPTIONS = Captions([0.0, 1.0, 5.0], [3.0, 4.0, 6.0], ["a $x$ <b>&amp;", "long " * 40, ""])


@pytest.fixture(autouse=True)
def no_window():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def test_overlapping_captions_get_rows_of_their_own():
    assert plots._lanes(CAPTIONS.start, CAPTIONS.end) == [0, 1, 0]


def test_every_axis_with_data_is_labelled(tmp_path):
    rows = [{"step": i, "loss": 1.0 / i} for i in range(1, 9)]
    rows += [{"step": 8, "validation_loss": 1.0, "r1": 0.1, "r5": 0.2, "r10": 0.3, "n": 9, "chance_r1": 0.1}]
    figures = [
        plots.timeline(12, dict(enumerate(FRAMES)), {"score": range(12)}, {"truth": [("stir", 1, 3)]}, CAPTIONS),
        plots.timeline(12, dict(enumerate(FRAMES))),
        plots.timeline(12),
        plots.curves(rows),
        plots.curves([]),
    ]
    for figure in figures:
        figure.savefig(tmp_path / "figure.png")
        assert all(axes.get_ylabel() or axes.get_xlabel() for axes in figure.axes)
    sheet = plots.contact_sheet([*FRAMES[:5], None], ["$<script>$"] * 6, columns=3)
    sheet.savefig(tmp_path / "sheet.png")
    assert sum(bool(axes.images) for axes in sheet.axes) == 5


def test_the_mass_on_other_videos_is_drawn_in_per_cent():
    rows = [{"step": step, "mass_on_other_videos": mass} for step, mass in ((0, 0.9), (9, 0.5))]
    (line,) = plots.curves([*rows, {"step": 1, "loss": 2.0}]).axes[2].lines
    assert line.get_xydata().tolist() == [[0, 90], [9, 50]]


def test_answers_are_drawn_where_they_are(tmp_path):
    """Untrusted texts, a clip without a picture, negative scores, a video without any step."""
    rng = np.random.default_rng(0)
    strange = "$<b>x" * 30
    asked = plots.questions(
        [FRAMES[0], None],
        [["a", strange], ["a", "b", "c"]],
        [rng.random(2), -rng.random(3)],
        [0, 2],
        ["before", strange],
    )
    assert [axes.get_title() == "before" for axes in asked.axes] == [True, False, False, False]
    assert [len(axes.patches) for axes in asked.axes[1::2]] == [2, 3]
    for axes in asked.axes[1::2]:  # the line at zero runs behind the bars
        assert axes.lines[0].get_zorder() < min(part.get_zorder() for part in axes.patches)
    asked.draw_without_rendering()
    for axes in asked.axes[1::2]:  # no candidate's text lies over a bar
        bars = min(bar.get_window_extent().x0 for bar in axes.patches)
        assert max(label.get_window_extent().x1 for label in axes.get_yticklabels()) <= bars
        assert not axes.texts
    assert [label.get_text() for label in asked.axes[3].get_yticklabels()] == ["a", "b", "✓ c"]
    truth, predicted = np.array([0, 1, 1, 0]), np.array([0, 0, 2, 2])
    bands = plots.label_bands(["one", strange], truth=truth, model=predicted)
    assert bands == {"truth": [("one", 1, 3)], "model": [(strange, 2, 4)]}
    seconds = plots.timeline(4, curves={"best": rng.random(4)}, bands=bands, threshold=0.5)
    assert len(seconds.axes[1].collections) == 2 and len(seconds.legends[0].get_texts()) == 2
    silent = plots.timeline(4, bands=plots.label_bands([], truth=truth * 0))
    steps = plots.step_map(np.log(rng.dirichlet(np.ones(2), 9)), [2, 5], [(0, 1.0, 3.0)], ["first", strange])
    assert steps.axes[0].lines[0].get_xydata().tolist() == [[2.5, 0], [5.5, 1]]
    for figure in (asked, seconds, silent, steps):
        figure.savefig(tmp_path / "figure.png")


def test_a_text_that_names_a_curve_has_its_colour():
    bands = {"truth": [("stir", 0.0, 1.0)], "model": [("chop", 0.0, 2.0)]}
    colours = plots.colours_of(["chop", "best"], bands)
    assert list(colours) == ["chop", "best", "stir"] and len(set(colours.values())) == 3
    drawn = plots.timeline(2, curves={"chop": [0, 1], "best": [1, 1]}, bands=bands)
    assert [line.get_color() for line in drawn.axes[0].lines] == [colours["chop"], colours["best"]]
    many = plots.colours_of([], {"truth": [(str(i), 0, 1) for i in range(45)]})
    assert len(many) == 45 and len(set(many.values())) == 20


def test_frames_of_a_timeline_keep_their_shape_and_do_not_overlap():
    frames = {second: np.zeros((10, 20, 3), np.uint8) for second in range(60)}
    left, right, *_ = np.array([image.get_extent() for image in plots.timeline(60, frames).axes[0].images]).T
    assert np.all(left[1:] >= right[:-1] - 0.1 * (right - left)[0]) and right[-1] <= 60
    assert np.allclose(right - left, 2 * 60 / (plots.WIDTH - 1))


def test_a_live_curve_keeps_the_whole_run(tmp_path):
    curve = plots.LiveCurve()
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n')
    curve({"step": 2, "loss": 1.0})
    assert [row["step"] for row in plots.LiveCurve(tmp_path).rows] == [1, 2]
    curve.finish(tmp_path)
    assert [row["step"] for row in curve.rows] == [1, 2]


@pytest.mark.parametrize(
    "text",
    [
        "<img src=x onerror=alert(1)>",
        r"$\frac{",
        "a" * 21 + r"$\frac{" + "b" * 14 + "$c",  # lines of 22 would break between a backslash and its dollar
        "\x1b[31mred",
        "\u202e\ud800\x00",
    ],
)
def test_any_text_is_drawn_as_it_is_or_escaped(tmp_path, text):
    figures = [
        plots.contact_sheet(FRAMES[:1], [text]),
        plots.ranking([text], [[None]], [None]),
        plots.questions([None], [[text, "b"]], [np.array([1, 2])], [0], [text]),
        plots.step_map(np.zeros((3, 1)), [0], [], [text]),
        plots.timeline(3, curves={text: [1.0]}, bands={text: [(text, 0, 1)]}, captions=Captions([0.0], [3.0], [text])),
    ]
    for figure in figures:
        figure.savefig(tmp_path / "figure.png")
    title = figures[0].axes[0].get_title()
    assert title.replace("\n", "").isprintable() and title.count("$") == title.count(r"\$")
