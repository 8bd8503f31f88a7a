"""Pictures say what their axes are, and take any text."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from vclip import plots
from vclip.captions import Captions
from vclip.samplers import OverlappedClips
from vclip.tasks import retrieval

import corpora

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
    corpus = corpora.make(tmp_path / "c", 3)
    clips = OverlappedClips().sample(corpus, 0, 5, np.random.default_rng(0))
    score = retrieval.score(np.random.default_rng(0).random((9, 9)))
    rows = [{"update": i, "loss": 1.0 / i} for i in range(1, 9)]
    rows += [{"update": 8, "validation_loss": 1.0, "r1": 0.1, "r5": 0.2, "r10": 0.3, "n": 9, "chance_r1": 0.1}]
    figures = [
        plots.timeline(FRAMES, CAPTIONS, every=2),
        plots.timeline(FRAMES, Captions([], [], [])),
        plots.clip_pairs(corpus.captions(0), int(corpus.seconds[0]), clips),
        plots.lengths(clips, np.arange(5)),
        plots.similarity(corpus.features(0)),
        plots.groups({"a": np.arange(5.0), "b": np.arange(5.0)}, "x"),
        plots.recalls({"before": score, "after": score}),
        plots.curves(rows),
        plots.curves([]),
    ]
    for figure in figures:
        figure.savefig(tmp_path / "figure.png")
        assert all(axes.get_ylabel() or axes.get_xlabel() for axes in figure.axes)
    sheet = plots.contact_sheet(FRAMES[:5], ["$<script>$"] * 5, columns=3)
    sheet.savefig(tmp_path / "sheet.png")
    assert sum(bool(axes.images) for axes in sheet.axes) == 5


def test_a_live_curve_keeps_the_whole_run(tmp_path):
    curve = plots.LiveCurve()
    (tmp_path / "log.jsonl").write_text('{"update": 1, "loss": 2.0}\n{"update": 2, "loss": 1.0}\n')
    curve({"update": 2, "loss": 1.0})
    curve.finish(tmp_path)
    assert [row["update"] for row in curve.rows] == [1, 2]
