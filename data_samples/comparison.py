"""Two models on the same examples: the difference of their scores, with an interval by paired bootstrap over videos."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from vclip.tasks.evaluate import HEADLINES
from vclip.tasks.report import Report
from vclip.tasks.segmentation import segment_hits, segments


@dataclass(frozen=True)
class Difference:
    """`score` of `n` examples of kind `unit`: `before`, `after`, and the 95 % interval of their difference."""

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


def compare(before: Report, after: Report, draws: int = 10_000, seed: int = 0) -> Difference:
    """Difference of two reports' headline scores with a 95 % interval; localization draws videos within each task."""
    if before.task != after.task or before.task not in HEADLINES:
        raise ValueError(f"{before.task} and {after.task}: reports of one task of {', '.join(HEADLINES)} are needed")
    one, other = _parts(before), _parts(after)
    made = [(r.n, r.about.get("data"), r.about.get("options", {}).get("ties")) for r in (before, after)]
    if made[0] != made[1] or not one.index.equals(other.index):
        raise ValueError("the two reports are not of the same examples: evaluate both models on the same data")
    rng = np.random.default_rng(seed)
    difference = np.zeros(draws)
    tasks = one.groupby("stratum").indices
    for rows in tasks.values():
        times = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), draws)
        for parts, sign in ((other, 1), (one, -1)):
            top, bottom = (times @ parts[column].to_numpy()[rows] for column in ("top", "bottom"))
            difference += sign * top / np.maximum(bottom, 1) / len(tasks)
    low, high = np.quantile(difference, (0.025, 0.975))
    name, n, unit = HEADLINES[before.task], before.n, before.unit
    if before.task == "segmentation":
        n, unit = sum(len(segments(np.array(truth))) for truth in before.examples["truth"]), "true segments"
    return Difference(name, before.scores[name], after.scores[name], float(low), float(high), len(one), n, unit)


def _parts(report: Report) -> pd.DataFrame:
    """A row a video: the score is the mean over strata of the sum of `top` over the sum of `bottom`."""
    examples = report.examples
    parts = pd.DataFrame({"stratum": "", "video_id": examples["video_id"], "top": 0.0, "bottom": 1.0})
    if report.task == "retrieval":
        parts["top"] = examples["rank"] == 1
    elif report.task == "videoqa":
        parts["top"] = examples["prediction"] == examples["answer"]
    elif report.task == "localization":
        parts["top"], parts["bottom"], parts["stratum"] = examples["hits"], examples["steps"], examples["task"]
    else:
        pairs = zip(examples["predicted"], examples["truth"], strict=True)
        hits = [segment_hits(np.array(predicted), np.array(truth), 0.25) for predicted, truth in pairs]
        parts["top"], parts["bottom"] = [2 * hit for hit, _ in hits], [total for _, total in hits]
    return parts.groupby(["stratum", "video_id"]).aggregate({"top": "sum", "bottom": "sum"})
