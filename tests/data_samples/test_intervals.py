"""Intervals cover what they promise to cover."""

import math

import numpy as np
import pytest
from ablations.intervals import Interval, holm, mean_interval, p_value, paired_difference, prediction_interval
from scipy import stats


def test_the_mean_s_interval_is_student_s():
    values = [3.1, 2.7, 3.9, 3.3, 2.2]
    n, mean = len(values), sum(values) / len(values)
    s = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    got = mean_interval(values, 0.9)
    assert (got.mean, got.n) == (pytest.approx(mean), n)
    assert (got.low, got.high) == pytest.approx(stats.t.interval(0.9, n - 1, mean, s / math.sqrt(n)))
    assert mean in got and got.high + 1e-9 not in got
    assert got.half == pytest.approx((got.high - got.low) / 2)


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


def test_many_new_runs_leave_the_uncertainty_of_the_old_ones_alone():
    values = [0.1, 0.4, 0.2, 0.3]
    mean, many, one = mean_interval(values), prediction_interval(values, 10**9), prediction_interval(values)
    assert (many.low, many.high) == pytest.approx((mean.low, mean.high))
    assert one.half == pytest.approx(mean.half * math.sqrt(1 + 4))


def test_pairing_takes_out_what_a_seed_has_in_common():
    rng = np.random.default_rng(0)
    seeds = rng.normal(0, 1, 6)
    first = {seed: seeds[seed] + 0.1 + rng.normal(0, 1e-3) for seed in range(6)}
    second = {seed: seeds[seed] for seed in range(1, 6)} | {9: 4.0}
    got = paired_difference(first, second)
    assert got.n == 5
    assert got.mean == pytest.approx(0.1, abs=2e-3)
    assert got.half < 0.01 < mean_interval(list(first.values())).half


def test_one_number_has_no_interval_and_nothing_is_refused():
    assert mean_interval([0.5]) == Interval(0.5, -math.inf, math.inf, 1)
    for values in ([], [1.0, math.nan], [math.inf, 0.0]):
        with pytest.raises(ValueError, match="finite"):
            mean_interval(values)
    with pytest.raises(ValueError, match="no seed in common"):
        paired_difference({0: 1.0}, {1: 1.0})
    with pytest.raises(ValueError, match="0 new runs"):
        prediction_interval([1.0, 2.0], 0)


@pytest.mark.parametrize("level", [0, 1, 1.5, -0.1])
def test_a_level_beyond_its_range_is_refused(level):
    with pytest.raises(ValueError, match=f"level {level} is not between 0 and 1"):
        mean_interval([1.0, 2.0], level)
    with pytest.raises(ValueError, match="between 0 and 1"):
        prediction_interval([1.0, 2.0], 1, level)


def test_p_is_that_of_student_s_test():
    values = [0.02, 0.05, -0.01, 0.03, 0.04]
    for level in (0.95, 0.5):
        assert p_value(mean_interval(values, level), level) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert p_value(mean_interval([0.5])) == 1
    assert p_value(mean_interval([0.0, 0.0])) == 1 and p_value(mean_interval([0.5, 0.5])) == 0


def test_holm_s_adjustment_is_the_step_down_one():
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # by hand
    assert holm(np.array([0.6, 0.9])) == pytest.approx([1, 1])
    assert len(holm(np.array([]))) == 0


def test_holm_keeps_the_chance_of_any_false_find_at_its_level():
    rng = np.random.default_rng(0)
    found = np.mean([(holm(rng.random(10)) < 0.05).any() for _ in range(2000)])
    assert found == pytest.approx(0.05, abs=0.015)
