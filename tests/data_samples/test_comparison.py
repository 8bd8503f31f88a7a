"""Differences of reports: their parts make the score again, and intervals hold the truth as often as they say."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from comparison import _parts, compare

from vclip.tasks.evaluate import HEADLINES
from vclip.tasks.localization import average_recall
from vclip.tasks.report import Report
from vclip.tasks.segmentation import score


def report(task: str, value: float, examples: list[dict], n: int | None = None) -> Report:
    frame = pd.DataFrame(examples)
    return Report(task, {HEADLINES[task]: value}, {}, n or len(frame), "texts", frame, {})


def questions(right: np.ndarray) -> Report:
    rows = [{"video_id": f"v{i}", "prediction": int(not hit), "answer": 0} for i, hit in enumerate(right)]
    return report("videoqa", float(right.mean()), rows)


def whole(parts) -> float:
    sums = parts.groupby("stratum").sum()
    return float((sums["top"] / sums["bottom"]).mean())


def test_the_parts_make_the_score_again():
    rng = np.random.default_rng(0)
    truth = [np.repeat(rng.integers(0, 3, 8), 4) for _ in range(6)]
    predicted = [np.where(rng.random(32) < 0.2, rng.integers(0, 3, 32), t) for t in truth]
    labels = [
        {"video_id": f"v{i}", "predicted": p, "truth": t} for i, (p, t) in enumerate(zip(predicted, truth, strict=True))
    ]
    f1 = score(predicted, truth, 2).f1_25
    assert 0.1 < f1 < 0.9 and whole(_parts(report("segmentation", f1, labels))) == pytest.approx(f1)
    there = [(rng.random((9, 4)) < 0.3).astype(np.uint8) for _ in range(6)]
    given = [np.eye(9, dtype=np.uint8)[rng.integers(0, 9, 4)].T for _ in range(6)]
    tasks = [str(i % 2) for i in range(6)]
    rows = [
        {"video_id": f"v{i}", "task": tasks[i], "hits": int(g[t != 0].sum()), "steps": int(t.any(axis=0).sum())}
        for i, (g, t) in enumerate(zip(given, there, strict=True))
    ]
    recall = average_recall(given, there, tasks).recall
    assert whole(_parts(report("localization", recall, rows))) == pytest.approx(recall)
    ranks = [{"video_id": f"v{i % 5}", "rank": 1 + i % 3} for i in range(30)]
    parts = _parts(report("retrieval", 1 / 3, ranks))
    assert whole(parts) == pytest.approx(1 / 3) and len(parts) == 5


def test_reports_of_other_questions_about_the_same_videos_are_refused():
    right = np.array([True, False, True])
    one, other = (dataclasses.replace(questions(right), about={"data": {"hash": name}}) for name in "ab")
    assert compare(one, one).difference == 0
    with pytest.raises(ValueError, match="not of the same examples"):
        compare(one, other)


def test_no_difference_has_no_width_and_a_sure_one_excludes_zero():
    right = np.random.default_rng(0).random(100) < 0.5
    same = compare(questions(right), questions(right))
    assert (same.difference, same.low, same.high) == (0, 0, 0)
    better = compare(questions(right), questions(right | (np.arange(100) % 3 == 0)))
    assert 0 < better.low < better.difference < better.high
    assert (better.score, better.n, better.unit, better.videos) == ("accuracy", 100, "texts", 100)
    assert better == compare(questions(right), questions(right | (np.arange(100) % 3 == 0)))


def test_the_interval_holds_the_true_difference_as_often_as_it_says():
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(200):
        hard = rng.random(80)  # shared by the two, so that pairing matters
        got = compare(questions(hard < 0.5), questions(hard + 0.3 * rng.standard_normal(80) < 0.6), draws=500)
        held += got.low <= TRUE <= got.high
    assert 0.90 <= held / 200 <= 0.985


draws = np.random.default_rng(2)
TRUE = float(np.mean(draws.random(10**6) + 0.3 * draws.standard_normal(10**6) < 0.6)) - 0.5


def test_reports_of_other_examples_are_refused():
    a, b = questions(np.ones(5, bool)), questions(np.ones(6, bool))
    with pytest.raises(ValueError, match="not of the same examples"):
        compare(a, b)
    with pytest.raises(ValueError, match="reports of one task of retrieval"):
        compare(a, report("retrieval", 1.0, [{"video_id": "v0", "rank": 1}]))


def test_reports_that_count_ties_otherwise_are_refused():
    one = questions(np.array([True, False, True]))
    against = dataclasses.replace(one, about={"options": {"ties": "against"}})
    reference = dataclasses.replace(one, about={"options": {"ties": "reference"}})
    with pytest.raises(ValueError, match="not of the same examples"):
        compare(against, reference)
