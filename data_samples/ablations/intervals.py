"""Student's t for means of few runs: confidence and prediction intervals, the paired test, Holm's correction."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Real
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """An interval about the mean of a few numbers.

    Args:
        mean: mean of the numbers.
        low: lower end; minus infinity for a single number.
        high: upper end; infinity for a single number.
        n: how many numbers.
        p: two-sided p of Student's test that the mean is 0, where it was tested.

    Example:
        >>> gain = Interval(mean=0.05, low=0.02, high=0.08, n=5)
        >>> 0 in gain, round(gain.half, 3)
        (False, 0.03)
    """

    mean: float
    low: float
    high: float
    n: int
    p: float = math.nan

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    @property
    def half(self) -> float:
        """Half the width."""
        return (self.high - self.low) / 2


def prediction_interval(
    values: Sequence[float] | Real[np.ndarray, " n"], new: float = 1, level: float = 0.95
) -> Interval:
    """Where the mean of further runs will lie: m ± t s sqrt(1 / n + 1 / new).

    m and s are mean and sample standard deviation of the n `values`, t is the quantile (1 + level) / 2 of Student's t
    with n - 1 degrees of freedom.

    Args:
        values: scores of the runs made so far.
        new: number of further runs; infinity gives the confidence interval of the mean.
        level: probability that the interval holds the new mean.

    Returns:
        The interval about the mean of `values`.

    Example:
        >>> prediction_interval([0.1, 0.4, 0.2, 0.3]).half.__round__(3)
        0.459
    """
    n, mean = len(values), float(np.mean(values))
    if n == 1:
        return Interval(mean, -math.inf, math.inf, 1)
    half = float(stats.t.ppf((1 + level) / 2, n - 1) * np.std(values, ddof=1) * math.sqrt(1 / n + 1 / new))
    return Interval(mean, mean - half, mean + half, n)


def mean_interval(values: Sequence[float] | Real[np.ndarray, " n"]) -> Interval:
    """95 % confidence interval of the mean.

    Args:
        values: scores of a few runs.

    Returns:
        The interval about the mean of `values`.

    Example:
        >>> mean_interval([0.0, 2.0]).high.__round__(3)
        13.706
    """
    return prediction_interval(values, math.inf)


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Interval:
    """Mean of `first` minus `second` over the seeds of both, with its 95 % interval and p.

    What the two have in common at a seed, such as the initial weights, cancels.

    Args:
        first: {seed: score}.
        second: {seed: score}.

    Returns:
        The interval of the mean difference. `p` is 1 for a single seed and where no seed differs.

    Raises:
        ValueError: no seed is in both.

    Example:
        >>> gain = paired_difference({0: 0.5, 1: 0.7}, {0: 0.4, 1: 0.4, 2: 0.1})
        >>> gain.n, round(gain.mean, 3), round(gain.p, 3)
        (2, 0.2, 0.295)
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        raise ValueError(f"no seed is in both {sorted(first)} and {sorted(second)}: train both rows with one")
    gains = np.array([first[seed] - second[seed] for seed in seeds])
    p = float(stats.ttest_1samp(gains, 0).pvalue) if len(seeds) > 1 and gains.any() else 1.0
    return replace(mean_interval(gains), p=p)


def holm(p: Real[np.ndarray, " n"]) -> Real[np.ndarray, " n"]:
    """P values of n tests, adjusted so that those below a level hold together at it (Holm 1979, step-down).

    Args:
        p: p value of each test.

    Returns:
        Adjusted p values in the same order.

    Example:
        >>> holm(np.array([0.01, 0.04, 0.03]))
        array([0.03, 0.06, 0.06])
    """
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted
