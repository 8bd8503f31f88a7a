"""Two models on the same examples: the difference of their scores, with an interval by paired bootstrap over videos.

V videos, each with a part of a score's numerator and denominator.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from vclip.tasks.report import Report
from vclip.tasks.segment_metrics import segmental_f1, segments

# the score that says most about each task; for segmentation not frame accuracy, which "all Outside" mostly earns
HEADLINES = {"retrieval": "r1", "videoqa": "accuracy", "segmentation": "f1_25", "localization": "recall"}


@dataclass(frozen=True)
class Difference:
    """`score` was `before` and is `after`; their difference and its 95 % interval over `videos` videos.

    `n` examples of kind `unit` were scored; for segmentation, `n` counts true segments.
    """

    score: str
    before: float
    after: float
    low: float
    high: float
    videos: int
    n: int
    unit: str

    @property
    def difference(self) -> float:
        return self.after - self.before

    def __str__(self) -> str:
        return (
            f"{self.score} {self.before:.3f} -> {self.after:.3f}: {self.difference:+.3f} ({self.low:+.3f} to "
            f"{self.high:+.3f}), {self.n} {self.unit} of {self.videos} videos"
        )


class Parts(NamedTuple):
    """A score is the mean over strata of the sum of `top` over the sum of `bottom` of the stratum's videos."""

    top: Float[np.ndarray, " V"]
    bottom: Float[np.ndarray, " V"]
    stratum: Int[np.ndarray, " V"]
    videos: list


def compare(before: Report, after: Report, draws: int = 10_000, seed: int = 0) -> Difference:
    """Compare the task's headline score in two reports on the same examples, by paired bootstrap.

    Args:
        before, after: reports of one task on the same data.
        draws: bootstrap draws of videos (within each task for localization), the same for both reports.
        seed: of the draws.

    Returns:
        The difference with its 95 % interval.

    Raises:
        ValueError: for reports of different tasks, data or videos.
    """
    if before.task != after.task or before.task not in HEADLINES:
        raise ValueError(f"{before.task} and {after.task}: reports of one task of {', '.join(HEADLINES)} are needed")
    one, other = _parts(before), _parts(after)
    if one.videos != other.videos or before.n != after.n:
        raise ValueError("the two reports are not of the same examples: evaluate both models on the same data")
    rng = np.random.default_rng(seed)
    scores = np.zeros((2, draws))
    strata = np.unique(one.stratum)
    for stratum in strata:
        here = one.stratum == stratum
        times = rng.multinomial(here.sum(), np.full(here.sum(), 1 / here.sum()), draws)
        for drawn, parts in zip(scores, (one, other), strict=True):
            top, bottom = times @ parts.top[here], times @ parts.bottom[here]
            drawn += np.divide(top, bottom, out=np.zeros(draws), where=bottom > 0) / len(strata)
    low, high = np.quantile(scores[1] - scores[0], (0.025, 0.975))
    name, n, unit = HEADLINES[before.task], before.n, before.unit
    if before.task == "segmentation":
        n, unit = sum(len(segments(np.array(truth))) for truth in before.examples["truth"]), "true segments"
    return Difference(name, before.scores[name], after.scores[name], float(low), float(high), len(one.videos), n, unit)


def _parts(report: Report) -> Parts:
    """The headline score in parts, a video each."""
    examples = {column: list(report.examples[column]) for column in report.examples}
    n = len(report.examples)
    strata, bottom = [""] * n, [1.0] * n
    if report.task == "retrieval":
        top = [float(rank == 1) for rank in examples["rank"]]
    elif report.task == "videoqa":
        top = [float(p == a) for p, a in zip(examples["prediction"], examples["answer"], strict=True)]
    elif report.task == "localization":
        top, bottom, strata = examples["hits"], examples["steps"], examples["task"]
    else:
        pairs = [(np.array(p), np.array(t)) for p, t in zip(examples["predicted"], examples["truth"], strict=True)]
        bottom = [len(segments(p)) + len(segments(t)) for p, t in pairs]
        top = [segmental_f1([p], [t], 0.25) * runs for (p, t), runs in zip(pairs, bottom, strict=True)]
    sums: dict[tuple, list[float]] = {}
    for stratum, video_id, above, below in zip(strata, examples["video_id"], top, bottom, strict=True):
        if below or report.task != "localization":  # a video that could not be scored is no example
            found = sums.setdefault((stratum, video_id), [0.0, 0.0])
            found[0], found[1] = found[0] + above, found[1] + below
    numbers = np.array(list(sums.values()), np.float64)
    stratum = np.unique([stratum for stratum, _ in sums], return_inverse=True)[1].astype(np.int64)
    return Parts(numbers[:, 0], numbers[:, 1], stratum, list(sums))
