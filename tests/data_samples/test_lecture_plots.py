"""The lectures' pictures take any text, and draw answers where they are."""

import lecture_plots
import matplotlib.pyplot as plt
import numpy as np
import pytest

from vclip.data.captions import Captions
from vclip.data.samplers import Clips

FRAMES = [np.full((8, 8, 3), 10 * i, np.uint8) for i in range(5)]


@pytest.fixture(autouse=True)
def no_window():
    plt.switch_backend("agg")
    yield
    plt.close("all")


def test_a_sheet_leaves_a_place_empty(tmp_path):
    sheet = lecture_plots.contact_sheet([*FRAMES, None], ["$<script>$"] * 6, columns=3)
    sheet.savefig(tmp_path / "sheet.png")
    assert sum(bool(axes.images) for axes in sheet.axes) == 5


def test_pairs_stand_in_order_of_time_below_frames_in_their_shape():
    said = Captions([0.0, 10.0, 20.0, 30.0], [5.0, 15.0, 25.0, 35.0], ["peel", "stir", "$fry", "serve"])
    pairs = Clips(*map(np.array, ([21, 2, 9], [28, 8, 19], [2, 0, 1], [4, 1, 2])))
    shown = {second: np.zeros((10, 20, 3), np.uint8) for second in range(0, 40, 2)}
    figure = lecture_plots.clip_pairs(40, pairs, said, shown, [("true", 3.0, 6.0)])
    figure.draw_without_rendering()
    frames, _, below = figure.axes
    clips, texts = ([(bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars] for bars in below.containers)
    assert clips == [(2, 8), (9, 19), (21, 28)] and texts == [(0, 5), (10, 15), (20, 35)]
    assert [label.get_text() for label in below.get_yticklabels()] == ["peel", "stir", r"\$fry serve"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["video clip", "text clip"]
    box = frames.get_window_extent()
    for image in frames.images:
        left, right, bottom, top = image.get_extent()
        wide, high = box.width * (right - left) / 40, box.height * (top - bottom)
        assert abs(wide / high - 2) < 0.1


def test_answers_are_drawn_where_they_are(tmp_path):
    """Untrusted texts, a clip without a picture, negative scores."""
    rng = np.random.default_rng(0)
    strange = "$<b>x" * 30
    asked = lecture_plots.questions(
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
    log_p = np.log(rng.dirichlet(np.ones(2), 9))
    steps = lecture_plots.step_map(log_p, [2, 5], [(0, 1.0, 3.0)], ["first", strange])
    assert steps.axes[0].lines[0].get_xydata().tolist() == [[2.5, 0], [5.5, 1]]
    for figure in (asked, steps):
        figure.savefig(tmp_path / "figure.png")


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
        lecture_plots.contact_sheet(FRAMES[:1], [text]),
        lecture_plots.ranking([text], [[None]], [None]),
        lecture_plots.questions([None], [[text, "b"]], [np.array([1, 2])], [0], [text]),
        lecture_plots.step_map(np.zeros((3, 1)), [0], [], [text]),
    ]
    for figure in figures:
        figure.savefig(tmp_path / "figure.png")
    title = figures[0].axes[0].get_title()
    assert title.replace("\n", "").isprintable() and title.count("$") == title.count(r"\$")


def test_a_live_curve_keeps_the_whole_run(tmp_path):
    curve = lecture_plots.LiveCurve()
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "loss": 1.0}\n')
    curve({"step": 2, "loss": 1.0})
    assert [row["step"] for row in lecture_plots.LiveCurve(tmp_path).rows] == [1, 2]
    curve.finish(tmp_path)
    assert [row["step"] for row in curve.rows] == [1, 2]


def test_every_axis_of_a_run_is_labelled(tmp_path):
    rows = [{"step": i, "loss": 1.0 / i} for i in range(1, 9)]
    rows += [{"step": 8, "validation_loss": 1.0, "r1": 0.1, "r5": 0.2, "r10": 0.3, "n": 9, "chance_r1": 0.1}]
    for figure in (lecture_plots.curves(rows), lecture_plots.curves([])):
        figure.savefig(tmp_path / "figure.png")
        assert all(axes.get_ylabel() or axes.get_xlabel() for axes in figure.axes)
