"""Action segmentation: which of the steps, or none (Outside), each second of a video shows.

T seconds of a video, K labels. A second's label is 0 = Outside or the step's place from 1.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from tqdm.auto import tqdm

from vclip.data.corpus import Corpus
from vclip.datasets.coin import COIN, Segment
from vclip.models.dual_encoder import DualEncoder
from vclip.tasks.outside import (
    RULES,
    Rule,
    best_label,
    label_seconds,
    majority_filter,
    outside_threshold,
    scores_by,
    threshold_by,
)
from vclip.tasks.report import Score, covered
from vclip.tasks.segment_metrics import edit_score, relabelled, segmental_f1, segments
from vclip.tasks.ties import once

__all__ = [
    "SegmentationScore",
    "examine",
    "label_seconds",
    "outside_threshold",
    "score",
    "shuffled_baseline",
    "targets",
]

VIDEOS_AT_ONCE = 64
SHUFFLES = 5


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SegmentationScore(Score):
    """Frame accuracy as published (Outside counts), the fraction of Outside predictions, and scores that ask for steps.

    `recall` (K + 1,) has a row a label, 0 = Outside, NaN where no second of the truth has it; `mean_recall` is its
    mean without Outside. Segmental F1 at IoU 0.10, 0.25, 0.50 and the edit score leave Outside out. Still the edit
    score rewards silence in videos without a step: it is 1 where neither side has a segment. `n` seconds.
    `baselines`: what "all Outside" and, if the truth has steps, "most frequent step" everywhere score.
    """

    frame_accuracy: float
    outside_rate: float
    recall: Float[np.ndarray, " labels"]
    mean_recall: float
    f1_10: float
    f1_25: float
    f1_50: float
    edit: float
    baselines: "dict[str, SegmentationScore]" = field(default_factory=dict)

    def beside(self) -> dict[str, dict[str, float]]:
        return {name: score.values() for name, score in self.baselines.items()}


def score(predicted: Sequence, truth: Sequence, n_labels: int) -> SegmentationScore:
    """Scores of the videos' labels a second, integer arrays (T,) from 0 (Outside) to `n_labels` (MMPT metric.py:195).

    Frame accuracy and recall count the seconds of all videos, F1 their segments; edit is the mean over videos.
    Raises ValueError, naming the video, for lengths that differ or labels out of range, and if there is no second.
    """
    if len(predicted) != len(truth):
        raise ValueError(f"{len(predicted)} predictions for {len(truth)} videos")
    predicted, truth = ([np.asarray(labels) for labels in videos] for videos in (predicted, truth))
    for i, (p, t) in enumerate(zip(predicted, truth, strict=True)):
        if p.shape != t.shape or p.ndim != 1:
            raise ValueError(f"video {i} has predictions {p.shape} for seconds {t.shape}")
        for labels in (p, t):
            if len(labels) and not (labels.dtype.kind in "iu" and 0 <= labels.min() <= labels.max() <= n_labels):
                raise ValueError(f"video {i} has labels that are not whole numbers from 0 to {n_labels}")
    if not sum(map(len, truth)):
        raise ValueError("there is no second to score")
    predicted, truth = ([labels.astype(np.int64) for labels in videos] for videos in (predicted, truth))
    steps = np.bincount(np.concatenate(truth), minlength=n_labels + 1)[1:]
    everywhere = {"all Outside": 0} | ({"most frequent step": int(steps.argmax()) + 1} if steps.any() else {})
    baselines = {
        name: _score([np.full_like(t, label) for t in truth], truth, n_labels) for name, label in everywhere.items()
    }
    return _score(predicted, truth, n_labels, baselines)


def _score(predicted: Sequence, truth: Sequence, n_labels: int, baselines: dict | None = None) -> SegmentationScore:
    p, t = (np.concatenate(videos) for videos in (predicted, truth))
    present, hit = (np.bincount(labels, minlength=n_labels + 1) for labels in (t, t[p == t]))
    recall = np.divide(hit, present, out=np.full(n_labels + 1, np.nan), where=present > 0)
    steps = recall[1:][present[1:] > 0]
    return SegmentationScore(
        frame_accuracy=float(np.mean(p == t)),
        outside_rate=float(np.mean(p == 0)),
        recall=recall,
        mean_recall=float(steps.mean()) if len(steps) else math.nan,
        f1_10=segmental_f1(predicted, truth, 0.10),
        f1_25=segmental_f1(predicted, truth, 0.25),
        f1_50=segmental_f1(predicted, truth, 0.50),
        edit=float(np.mean([edit_score(p, t) for p, t in zip(predicted, truth, strict=True)])),
        n=len(t),
        baselines=baselines or {},
    )


def shuffled_baseline(predicted: Sequence, truth: Sequence, n_labels: int, seed: int = 0) -> dict[str, float]:
    """Score the predicted segments with their labels shuffled across all videos: the mean of `SHUFFLES` draws.

    It shows how much of a score comes from segment boundaries and label frequencies alone.
    """
    rng = np.random.default_rng(seed)
    labels = [label for p in predicted for label, _, _ in segments(p)]
    ends = np.cumsum([len(segments(p)) for p in predicted])
    drawn = []
    for _ in range(SHUFFLES):
        parts = np.split(rng.permutation(np.array(labels, np.int64)), ends[:-1])
        shuffled = [relabelled(p, part) for p, part in zip(predicted, parts, strict=True)]
        drawn.append(_score(shuffled, truth, n_labels).values())
    return pd.DataFrame(drawn).mean().to_dict()


def targets(segments: Sequence[Segment], seconds: int) -> Int[np.ndarray, " seconds"]:
    """The label of each second: every segment paints those it touches, a later one over an earlier one."""
    labels = np.zeros(seconds, np.int64)
    for segment in segments:
        labels[max(0, math.floor(segment.start)) : max(0, math.ceil(segment.end))] = segment.label
    return labels


def examine(
    clip: DualEncoder,
    dataset: COIN,
    corpus: Corpus,
    *,
    seed: int = 0,
    rule: Rule | Literal["classifier"] | None = None,
    outside: float = 0.6,
    window: int = 3,
) -> dict[str, Any]:
    """Label every second of the videos that have features with a step or Outside.

    `rule` says what exceeds which threshold, in overlapping windows (MMPT predictor.py:350-511). By default a
    model with a classifier uses it, any other one eq. 6:

    * "classifier": of a model fine-tuned for it, the step's logit minus that of Outside, above 0; so the
      class with the largest logit, a mean over windows, is the answer;
    * "eq6": the dot product, gamma by eq. 6 over distinct texts; "eq6_keep": over all ids, as published;
    * "cosine": the cosine, with eq. 6 over the cosines of distinct texts;
    * "quantile": the dot product, above its quantile `outside` over all seconds;
    * "margin": the dot product minus that with the mean label, averaged over `window` seconds, above its quantile
      `outside`; then the majority of `window` seconds. No truth is used, but all videos' seconds are. Both numbers
      were fixed on MiniHowTo's validation videos (notebook 06).

    `seed` draws the baseline "shuffled labels" (`shuffled_baseline`). The details are `rule`, `threshold` and the
    `recall` of each label by name, "Outside" first. An example has the labels a second (`predicted`, `truth`) and the
    best label's score (`best`), to be drawn beside the threshold.
    Raises ValueError for a wrong option and for a classifier of other labels than the data set's.
    """
    rule = rule or ("eq6" if clip.classes is None else "classifier")
    _check_options(rule, outside, window)
    scores_of, z_labels = _scorer(clip, dataset, rule, window)
    records = [dataset[i] for i in covered(dataset, corpus)]
    videos = [corpus.index(record.video_id) for record in records]
    labels, best = [], []
    for first in tqdm(range(0, len(videos), VIDEOS_AT_ONCE), desc="segmentation", delay=10, leave=False):
        features = [corpus.features(i) for i in videos[first : first + VIDEOS_AT_ONCE]]
        for h in clip.encode_seconds(features):
            label, value = best_label(scores_of(h))
            labels.append(label)
            best.append(value)
    threshold = (
        0.0 if rule == "classifier" else threshold_by(rule, z_labels, dataset.texts, np.concatenate(best), outside)
    )
    predicted = [np.where(value > threshold, label, 0) for label, value in zip(labels, best, strict=True)]
    if rule == "margin":
        predicted = [majority_filter(p, window) for p in predicted]
    truth = [targets(record.segments, len(p)) for record, p in zip(records, predicted, strict=True)]
    result = score(predicted, truth, len(dataset.labels))
    examples = _examples(records, predicted, truth, best)
    names = ["Outside", *(f"{text} ({label})" for label, text in zip(dataset.labels, dataset.texts, strict=True))]
    recall = dict(zip(names, result.recall.tolist(), strict=True))
    details = {"rule": rule, "threshold": threshold, "recall": recall}
    shuffled = shuffled_baseline(predicted, truth, len(dataset.labels), seed)
    baselines = {"shuffled labels": shuffled, "chance": {"mean_recall": 1 / len(dataset.labels)}}
    return result.report(baselines) | {"unit": "seconds", "examples": examples, "details": details}


def _check_options(rule: str, outside: float, window: int) -> None:
    if rule not in (*RULES, "classifier"):
        raise ValueError(f"rule is one of classifier, {', '.join(RULES)}, not {rule!r}")
    if not 0 <= outside <= 1:
        raise ValueError(f"outside must be a fraction of the seconds, 0 to 1, got {outside}")
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window is an odd number of seconds, 1 or more, not {window}")


def _scorer(
    clip: DualEncoder, dataset: COIN, rule: Rule | Literal["classifier"], window: int
) -> tuple[Callable[[Float[np.ndarray, "T D"]], Float[np.ndarray, "T K"]], Float[np.ndarray, "K D"]]:
    """What gives the scores (T, K) of a video's states, and the labels' z_t, of which a classifier has none."""
    if rule == "classifier":
        _check_classifier(clip, dataset)
        return partial(_classifier_margins, clip), np.zeros((0, 0), np.float32)
    texts, text = once(dataset.texts)
    z_labels = clip.encode_texts(texts)[text]
    return lambda h: scores_by(rule, h, z_labels, window), z_labels


def _classifier_margins(clip: DualEncoder, h: Float[np.ndarray, "T D"]) -> Float[np.ndarray, "T K"]:
    """Each step's logit minus that of Outside (COINPredictor takes the argmax of all K + 1)."""
    logits = clip.class_logits(h)
    return logits[:, 1:] - logits[:, :1]


def _check_classifier(clip: DualEncoder, dataset: COIN) -> None:
    if clip.classes is None:
        raise ValueError(
            f"rule='classifier' needs a model fine-tuned for segmentation, which {clip.name or 'this one'} is not: "
            f"take one of {', '.join(RULES)}"
        )
    if len(clip.classes) != len(dataset.texts) + 1:
        raise ValueError(
            f"the model's classifier has {len(clip.classes)} classes, {dataset} has {len(dataset.texts)} steps "
            "and Outside: it was fine-tuned on other labels; take a zero-shot rule"
        )
    for label, text in enumerate(dataset.texts, 1):
        if (trained := clip.classes[label]) not in (text, f"LABEL_{label}"):
            raise ValueError(
                f"class {label} of the model's classifier is {trained!r}, of {dataset} {text!r}: it was fine-tuned on "
                "other labels; take a zero-shot rule"
            )


def _examples(records: Sequence, predicted: list, truth: list, best: list) -> pd.DataFrame:
    rows = [
        {
            "video_id": record.video_id,
            "task": record.task,
            "seconds": len(p),
            "frame_accuracy": float(np.mean(p == t)) if len(p) else math.nan,
            "predicted": p.tolist(),
            "truth": t.tolist(),
            "best": value.tolist(),
        }
        for record, p, t, value in zip(records, predicted, truth, best, strict=True)
    ]
    return pd.DataFrame(rows)
