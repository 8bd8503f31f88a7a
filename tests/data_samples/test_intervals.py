"""Intervals cover what they promise to cover."""

import math

import numpy as np
import pytest
from ablations.intervals import Interval, holm, mean_interval, paired_difference, prediction_interval
from scipy import stats


def test_the_mean_s_interval_and_p_are_those_of_student_s_test():
    values = [0.02, 0.05, -0.01, 0.03, 0.04]
    test = stats.ttest_1samp(values, 0)
    got = mean_interval(values)
    assert (got.low, got.high) == pytest.approx(tuple(test.confidence_interval(0.95)), abs=1e-12)
    assert (got.mean, got.n) == (pytest.approx(0.026), 5)
    assert got.mean in got and got.high + 1e-9 not in got
    assert got.half == pytest.approx((got.high - got.low) / 2)
    assert paired_difference(dict(enumerate(values)), dict.fromkeys(range(5), 0.0)).p == pytest.approx(test.pvalue)


def test_a_known_quantile():
    got = mean_interval([0.0, 2.0])  # s / sqrt(n) is 1, t(0.975; 1) is 12.706
    assert (got.low, got.high) == pytest.approx((1 - 12.7062, 1 + 12.7062), abs=1e-4)


@pytest.mark.parametrize(("old", "new"), [(5, 1), (5, 5), (8, 3)])
def test_prediction_and_confidence_intervals_cover_95_percent(old, new):
    """Of 1,500 simulated pairs of experiments; three standard errors are 1.7 %."""
    rng, hits, means = np.random.default_rng(old * 10 + new), 0, 0
    for _ in range(1500):
        values = rng.normal(0.3, 0.02, old)
        hits += rng.normal(0.3, 0.02, new).mean() in prediction_interval(values, new)
        means += 0.3 in mean_interval(values)
    assert hits / 1500 == pytest.approx(0.95, abs=0.017)
    assert means / 1500 == pytest.approx(0.95, abs=0.017)


def test_one_new_run_spreads_as_the_old_ones_do():
    values = [0.1, 0.4, 0.2, 0.3]
    assert prediction_interval(values).half == pytest.approx(mean_interval(values).half * math.sqrt(1 + 4))
    assert prediction_interval(values, level=0.995).half > 1.5 * prediction_interval(values).half


def test_pairing_takes_out_what_a_seed_has_in_common():
    rng = np.random.default_rng(0)
    seeds = rng.normal(0, 1, 6)
    first = {seed: seeds[seed] + 0.1 + rng.normal(0, 1e-3) for seed in range(6)}
    second = {seed: seeds[seed] for seed in range(1, 6)} | {9: 4.0}
    got = paired_difference(first, second)
    assert got.n == 5
    assert got.mean == pytest.approx(0.1, abs=2e-3)
    assert got.half < 0.01 < mean_interval(list(first.values())).half


def test_one_seed_or_equal_rows_show_no_effect():
    assert paired_difference({3: 0.5}, {3: 0.25}) == Interval(0.25, -math.inf, math.inf, 1, p=1.0)
    assert paired_difference({0: 0.5, 1: 0.3}, {0: 0.5, 1: 0.3}) == Interval(0.0, 0.0, 0.0, 2, p=1.0)
    with pytest.raises(ValueError, match=r"no seed is in both \[0\] and \[1\]"):
        paired_difference({0: 1.0}, {1: 1.0})


def test_holm_s_adjustment_is_the_step_down_one():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # by hand
    assert holm(np.array([0.6, 0.9])) == pytest.approx([1, 1])


def test_holm_keeps_the_chance_of_any_false_find_at_its_level():
    rng = np.random.default_rng(0)
    found = np.mean([(holm(rng.random(10)) < 0.05).any() for _ in range(2000)])
    assert found == pytest.approx(0.05, abs=0.015)
