"""Intervals for means of few runs: of one group, of paired differences, for the mean of runs yet to be made; tests.

All take the runs as normal with unknown variance, hence Student's t. n runs have the mean m and the sample standard
deviation s; t is its quantile at n - 1 degrees of freedom, (1 + level) / 2.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Real


@dataclass(frozen=True)
class Interval:
    """`mean` of `n` numbers, and an interval `low`..`high` about it; infinite ends for a single number."""

    mean: float
    low: float
    high: float
    n: int

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    @property
    def half(self) -> float:
        """Half its width."""
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        return f"{self.mean:.4g} ({self.low:.4g} to {self.high:.4g}, n = {self.n})"


def mean_interval(values: Sequence[float] | Real[np.ndarray, " n"], level: float = 0.95) -> Interval:
    """Confidence interval of the mean, m ± t s sqrt(1 / n).

    Raises ValueError for no number, NaN or infinity, or a level that is not between 0 and 1.
    """
    return _interval(values, 0.0, level)


def paired_difference(first: Mapping[int, float], second: Mapping[int, float], level: float = 0.95) -> Interval:
    """Confidence interval of the mean of `first` less `second` over the seeds that both have: `mean_interval` of those.

    What both have in common at a seed (the draw of weights, for one) cancels. Raises ValueError if no seed is common.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        raise ValueError(f"no seed in common: {sorted(first)} and {sorted(second)}")
    return mean_interval([first[seed] - second[seed] for seed in seeds], level)


def prediction_interval(
    values: Sequence[float] | Real[np.ndarray, " n"], new: int = 1, level: float = 0.95
) -> Interval:
    """Where the mean of `new` further runs will lie, m ± t s sqrt(1 / n + 1 / new). Raises as `mean_interval`.

    The difference of the two means has the variance sigma^2 (1 / n + 1 / new), and s is independent of both.
    """
    if new < 1:
        raise ValueError(f"a mean of {new} new runs has no interval: ask for one or more")
    return _interval(values, 1 / new, level)


def p_value(of: Interval, level: float = 0.95) -> float:
    """Two-sided p of Student's test that the mean is 0, from the mean's interval at `level`; 1 for a single number."""
    from scipy.special import stdtr, stdtrit

    if of.n == 1 or of.mean == 0:
        return 1.0
    if not of.half:
        return 0.0
    t = abs(of.mean) / of.half * stdtrit(of.n - 1, (1 + level) / 2)
    return float(2 * stdtr(of.n - 1, -t))


def holm(p: Real[np.ndarray, " n"]) -> Real[np.ndarray, " n"]:
    """P values of n tests, adjusted so that those below a level hold together at it (Holm 1979, step-down)."""
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def _interval(values, more: float, level: float) -> Interval:
    from scipy.special import stdtrit

    if not 0 < level < 1:
        raise ValueError(f"level {level} is not between 0 and 1: 0.95 for instance")
    numbers = np.asarray(values, dtype=np.float64)
    if not len(numbers) or not np.isfinite(numbers).all():
        raise ValueError(f"no interval for {numbers.tolist()}: give one or more finite numbers")
    n, mean = len(numbers), float(numbers.mean())
    if n == 1:
        return Interval(mean, -np.inf, np.inf, 1)
    half = float(stdtrit(n - 1, (1 + level) / 2) * numbers.std(ddof=1) * np.sqrt(1 / n + more))
    return Interval(mean, mean - half, mean + half, n)
