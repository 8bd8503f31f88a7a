from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vclip.tasks.segmentation import edit_score, segmental_f1, segments

labels = st.lists(st.integers(0, 3), max_size=25).map(lambda values: np.array(values, dtype=np.int64))
pairs = st.lists(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=25).map(
        lambda values: np.array(values, dtype=np.int64).reshape(-1, 2)
    ),
    min_size=1,
    max_size=4,
)


def runs(values):
    """[(label, set of seconds)] second by second."""
    found = []
    for t, label in enumerate(values):
        if t and values[t - 1] == label:
            found[-1][1].add(t)
        else:
            found.append((label, {t}))
    return [run for run in found if run[0] != 0]


def loop_f1(predicted, truth, overlap):
    tp = fp = fn = 0
    for p, t in zip(predicted, truth, strict=True):
        hit = set()
        wanted = runs(t)
        for label, seconds in runs(p):
            best, of = 0.0, None
            for i, (other, others) in enumerate(wanted):
                iou = len(seconds & others) / len(seconds | others) if label == other else 0.0
                if iou > best:
                    best, of = iou, i
            if of is not None and best >= overlap and of not in hit:
                tp += 1
                hit.add(of)
            else:
                fp += 1
        fn += len(wanted) - len(hit)
    if not tp:
        return 0.0
    precision, recall = tp / (tp + fp), tp / (tp + fn)
    return 2 * precision * recall / (precision + recall)


def loop_edit(predicted, truth):
    a, b = ([label for label, _ in runs(values)] for values in (predicted, truth))

    @cache
    def distance(i, j):
        if i == 0 or j == 0:
            return i + j
        return min(distance(i - 1, j) + 1, distance(i, j - 1) + 1, distance(i - 1, j - 1) + (a[i - 1] != b[j - 1]))

    return 1 - distance(len(a), len(b)) / max(1, len(a), len(b))


@settings(deadline=None)
@given(labels)
def test_segments_equal_loop(values):
    expected = [(label, min(seconds), max(seconds) + 1) for label, seconds in runs(values.tolist())]
    assert segments(values) == expected


@settings(deadline=None)
@given(pairs, st.sampled_from([0.1, 0.25, 0.5]))
def test_f1_equals_loop(videos, overlap):
    predicted, truth = [v[:, 0] for v in videos], [v[:, 1] for v in videos]
    assert segmental_f1(predicted, truth, overlap) == pytest.approx(loop_f1(predicted, truth, overlap), abs=1e-12)


@settings(deadline=None)
@given(labels, labels)
def test_edit_equals_recursion(predicted, truth):
    assert edit_score(predicted, truth) == pytest.approx(loop_edit(predicted.tolist(), truth.tolist()), abs=1e-12)


@settings(deadline=None)
@given(labels)
def test_a_perfect_answer_and_silence(values):
    silent = np.zeros_like(values)
    some = bool(values.any())
    assert segmental_f1([values], [values], 0.5) == some and edit_score(values, values) == 1
    assert segmental_f1([silent], [values], 0.1) == 0 and edit_score(silent, values) == (not some)


def test_counts_are_summed_over_videos_and_a_segment_is_hit_once():
    truth = [np.array([1, 1, 1, 1, 0, 2, 2]), np.array([2, 2, 2])]
    cut_in_two = [np.array([1, 1, 0, 1, 0, 2, 2]), np.array([0, 0, 0])]
    # 2 hits of 3 predicted and 3 true segments; the mean of the videos' F1 would be 0.4
    assert segmental_f1(cut_in_two, truth, 0.25) == pytest.approx(2 / 3)
    assert edit_score(cut_in_two[0], truth[0]) == pytest.approx(2 / 3)


def test_an_iou_on_the_threshold_counts():
    truth = [np.ones(20, dtype=np.int64)]
    for seconds, overlap in ((2, 0.1), (5, 0.25), (10, 0.5)):
        exact, short = (np.arange(20) < n for n in (seconds, seconds - 1))
        assert segmental_f1([exact.astype(np.int64)], truth, overlap) == 1
        assert segmental_f1([short.astype(np.int64)], truth, overlap) == 0
