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
    figures = [
        plots.timeline(12, dict(enumerate(FRAMES)), {"score": range(12)}, {"truth": [("stir", 1, 3)]}, CAPTIONS),
        plots.timeline(12, dict(enumerate(FRAMES))),
        plots.timeline(12),
    ]
    for figure in figures:
        figure.savefig(tmp_path / "figure.png")
        assert all(axes.get_ylabel() or axes.get_xlabel() for axes in figure.axes)


def test_labels_are_drawn_where_they_are(tmp_path):
    """Untrusted texts, a video without any step."""
    strange = "$<b>x" * 30
    truth, predicted = np.array([0, 1, 1, 0]), np.array([0, 0, 2, 2])
    bands = plots.label_bands(["one", strange], truth=truth, model=predicted)
    assert bands == {"truth": [("one", 1, 3)], "model": [(strange, 2, 4)]}
    seconds = plots.timeline(4, curves={"best": np.ones(4)}, bands=bands, threshold=0.5)
    assert len(seconds.axes[1].collections) == 2 and len(seconds.legends[0].get_texts()) == 2
    silent = plots.timeline(4, bands=plots.label_bands([], truth=truth * 0))
    for figure in (seconds, silent):
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
    assert np.all(left[1:] >= right[:-1] - 0.1 * (right - left)[0]) and left[-1] < 60 <= right[-1]  # no gap at the end
    assert np.allclose(right - left, 2 * 60 / (plots.WIDTH - 1))


def test_the_last_frame_is_whole_where_there_is_room():
    frames = {second: np.zeros((10, 20, 3), np.uint8) for second in (0, 59)}
    last = plots.timeline(60, frames).axes[0].images[-1]
    assert last.get_extent()[1] == 60


def test_captions_of_a_long_film_are_boxes_without_texts():
    start = 4.0 * np.arange(1800)
    for n, texts in ((plots.MOST_TEXTS, plots.MOST_TEXTS), (1800, 0)):
        figure = plots.timeline(7200, captions=Captions(start[:n], start[:n] + 5, ["we stir the soup"] * n))
        (axes,) = figure.axes
        boxes = [box.get_extents().intervalx.tolist() for lane in axes.collections for box in lane.get_paths()]
        assert sorted(boxes) == [[s, s + 5] for s in start[:n].tolist()]
        assert len(axes.texts) == texts
    assert figure.get_size_inches()[1] < 2


@pytest.mark.parametrize(
    "text",
    [
        "<img src=x onerror=alert(1)>",
        r"$\frac{",
        "\x1b[31mred",
        "\u202e\ud800\x00",
    ],
)
def test_any_text_is_drawn_as_it_is_or_escaped(tmp_path, text):
    bands = plots.label_bands([text], truth=np.ones(4, int))
    figure = plots.timeline(4, curves={text: np.ones(4)}, bands=bands, captions=Captions([0.0], [3.0], [text]))
    figure.savefig(tmp_path / "figure.png")
    label = figure.axes[0].get_legend().get_texts()[0].get_text()
    assert label.isprintable() and label.count("$") == label.count(r"\$")
