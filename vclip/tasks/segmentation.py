"""Action segmentation: which of K steps (1 to K), or none (0), each of T seconds shows; D is the hidden size."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from jaxtyping import Float, Int, Integer

from vclip.data.corpus import Corpus
from vclip.data.text import refuse_unknown
from vclip.datasets.coin import COIN, Segment
from vclip.models.dual_encoder import DualEncoder
from vclip.models.hub import unit
from vclip.tasks.report import Score, covered, encoded_seconds
from vclip.tasks.ties import Array, as_array, once, products

SHUFFLES = 5
Rule = Literal["eq6", "eq6_keep", "quantile", "cosine", "margin"]
RULES: tuple[str, ...] = get_args(Rule)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SegmentationScore(Score):
    """Frame accuracy as published (Outside counts), the fraction of Outside predictions, and scores that ask for steps.

    `recall` (K + 1,) has a row a label, 0 = Outside, NaN where no second of the truth has it; `mean_recall` is its
    mean without Outside. Segmental F1 at IoU 0.10, 0.25, 0.50 and the edit score leave Outside out, but the edit score
    is 1 where neither side has a segment. `baselines`: "all Outside" and, if the truth has steps, "most frequent step".
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
    """Scores beside those of "all Outside" and "most frequent step" (MMPT metric.py:195).

    Frame accuracy and recall count the seconds of all videos, F1 their segments; edit is the mean over videos.

    Args:
        predicted, truth: labels from 0 (Outside) to `n_labels` (K) a second, an integer array (T,) for each video.

    Example:
        >>> score([[0, 1, 1]], [[0, 1, 2]], n_labels=2).frame_accuracy
        0.6666666666666666
    """
    predicted, truth = ([np.asarray(labels) for labels in videos] for videos in (predicted, truth))
    if [p.shape for p in predicted] != [(t.size,) for t in truth] or not sum(p.size for p in predicted):
        raise ValueError(f"predictions {[p.shape for p in predicted]} for seconds {[t.shape for t in truth]}"[:300])
    for i, labels in enumerate([*predicted, *truth]):
        if len(labels) and not (labels.dtype.kind in "iu" and 0 <= labels.min() <= labels.max() <= n_labels):
            raise ValueError(f"video {i % len(truth)} has labels that are not whole numbers from 0 to {n_labels}")
    predicted, truth = ([labels.astype(np.int64) for labels in videos] for videos in (predicted, truth))
    steps = np.bincount(np.concatenate(truth), minlength=n_labels + 1)[1:]
    everywhere = {"all Outside": 0} | ({"most frequent step": int(steps.argmax()) + 1} if steps.any() else {})
    constant = {name: [np.full_like(t, label) for t in truth] for name, label in everywhere.items()}
    baselines = {name: _score(answers, truth, n_labels, {}) for name, answers in constant.items()}
    return _score(predicted, truth, n_labels, baselines)


def _score(predicted: Sequence, truth: Sequence, n_labels: int, baselines: dict) -> SegmentationScore:
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
        baselines=baselines,
    )


def segments(labels: Integer[np.ndarray, " T"]) -> list[tuple[int, int, int]]:
    """The runs of equal labels (label, start, end) in order, Outside left out."""
    changes = np.flatnonzero(np.diff(labels)) + 1
    starts, ends = [0, *changes.tolist()], [*changes.tolist(), len(labels)]
    return [(int(labels[s]), s, e) for s, e in zip(starts, ends, strict=True) if s < e and labels[s] != 0]


def segment_hits(
    predicted: Integer[np.ndarray, " T"], truth: Integer[np.ndarray, " T"], overlap: float
) -> tuple[int, int]:
    """Hits of one video, and how many segments prediction and truth have together.

    A predicted segment is a hit if the best true one of its label reaches an IoU of `overlap` and was not hit before.
    """
    found, wanted = segments(predicted), segments(truth)
    hit = set()
    for segment in found:
        ious = [iou(segment, other) for other in wanted]
        if ious and max(ious) >= overlap:
            hit.add(int(np.argmax(ious)))
    return len(hit), len(found) + len(wanted)


def segmental_f1(predicted: Sequence[np.ndarray], truth: Sequence[np.ndarray], overlap: float) -> float:
    """F1 of predicted segments, counted over all videos (Lea et al. 2017); 0 where neither side has a segment."""
    counts = [segment_hits(p, t, overlap) for p, t in zip(predicted, truth, strict=True)]
    hits, total = np.sum(counts, axis=0).tolist()
    return 2 * hits / max(1, total)


def edit_score(predicted: Integer[np.ndarray, " T"], truth: Integer[np.ndarray, " S"]) -> float:
    """1 - edit distance between the segments' labels / the larger number of them (Lea et al. 2016); 1 without any."""
    found, wanted = ([label for label, _, _ in segments(labels)] for labels in (predicted, truth))
    row = list(range(len(wanted) + 1))
    for i, label in enumerate(found, 1):
        above, row = row, [i]
        for j, other in enumerate(wanted, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (label != other)))
    return 1 - row[-1] / max(1, len(found), len(wanted))


def iou(a: tuple[int, int, int], b: tuple[int, int, int]) -> float:
    """Intersection over union of (label, start, end), of other labels 0; the union includes a gap between the two."""
    if a[0] != b[0]:
        return 0.0
    return max(0, min(a[2], b[2]) - max(a[1], b[1])) / (max(a[2], b[2]) - min(a[1], b[1]))


def shuffled_baseline(predicted: Sequence, truth: Sequence, n_labels: int, seed: int = 0) -> dict[str, float]:
    """Baseline: the predicted segments with their labels shuffled across all videos, the mean of `SHUFFLES` draws."""
    rng = np.random.default_rng(seed)
    runs = [segments(p) for p in predicted]
    labels = np.array([label for video in runs for label, _, _ in video], np.int64)
    drawn = []
    for _ in range(SHUFFLES):
        order = iter(rng.permutation(labels))
        shuffled = [np.zeros(len(p), np.int64) for p in predicted]
        for video, found in zip(shuffled, runs, strict=True):
            for _, start, end in found:
                video[start:end] = next(order)
        drawn.append(_score(shuffled, truth, n_labels, {}).values())
    return pd.DataFrame(drawn).mean().to_dict()


def outside_threshold(
    z_labels: Float[Array, "K D"], texts: Sequence[str] | None = None, duplicates: Literal["drop", "keep"] = "drop"
) -> float:
    """Compute gamma, the largest dot product of two different labels' z_t (eq. 6; MMPT predictor.py:450-455).

    Args:
        z_labels: embeddings of K labels, whose texts are `texts`.
        duplicates: "keep" compares all ids, as published: two ids of one text give its squared norm, which few seconds
            exceed, so that nearly everything is Outside. "drop" counts equal texts, and equal rows, once.

    Example:
        >>> outside_threshold(np.eye(2)), outside_threshold(np.ones((2, 2)), duplicates="keep")
        (0.0, 2.0)
    """
    if duplicates not in ("drop", "keep"):
        raise ValueError(f"unknown duplicates {duplicates!r}: 'drop' or 'keep'")
    rows = as_array(z_labels)
    if not np.isfinite(rows).all() or len(rows) != len(rows if texts is None else texts):
        raise ValueError("a label's z_t holds NaN or infinity, or z_labels has not a row for each text")
    if duplicates == "drop":
        if texts is not None:
            rows = rows[np.unique(np.array(texts), return_index=True)[1]]
        rows = np.unique(rows, axis=0)
    if len(rows) < 2:
        raise ValueError(f"eq. 6 needs two different labels, there are {len(rows)}: use rule='quantile'")
    pairs = rows @ rows.T
    np.fill_diagonal(pairs, -np.inf)
    return float(pairs.max())


def label_seconds(h: Float[Array, "T D"], z_labels: Float[Array, "K D"], threshold: float) -> Int[np.ndarray, " T"]:
    """Label each second: the label (from 1) with the largest dot product if it exceeds `threshold`, else 0 = Outside.

    Args:
        h, z_labels: states of a video's seconds; embeddings of K labels, of which the first of tied ones counts.
        threshold: gamma, for instance of `outside_threshold`.

    Example:
        >>> label_seconds(np.array([[0.0, 2], [1, 0], [0, 0]]), np.eye(2), threshold=0.5)
        array([2, 1, 0])
    """
    return best_label(products(as_array(h), as_array(z_labels)), threshold)[0]


def best_label(
    scores: Float[np.ndarray, "T K"], threshold: float = -np.inf
) -> tuple[Int[np.ndarray, " T"], Float[np.ndarray, " T"]]:
    """The best label of each second or 0, as `label_seconds`, and its score."""
    if scores.ndim != 2 or not scores.shape[1] or np.isnan(scores).any() or np.isnan(threshold):
        raise ValueError(f"scores {scores.shape} and threshold {threshold}: a label (T, K) and no NaN are needed")
    best = scores.max(axis=1)
    return np.where(best > threshold, scores.argmax(axis=1) + 1, 0), best


def label_by(
    rule: Rule,
    states: Iterable[Float[np.ndarray, "T D"]],
    z_labels: Float[np.ndarray, "K D"],
    texts: Sequence[str],
    outside: float,
    window: int,
) -> tuple[list[np.ndarray], list[np.ndarray], float]:
    """Each video's labels by `rule` (`segmentation.examine`), its seconds' best scores, and the threshold for these."""
    if rule == "cosine":
        states, z_labels = map(unit, states), unit(z_labels)
    if rule == "margin":
        if (z_labels == z_labels[0]).all():
            raise ValueError("a margin needs two different labels: use rule='quantile'")
        # the score minus the mean label's is linear in the states: smoothing these smooths it
        states, z_labels = (smooth(h, window) for h in states), z_labels - z_labels.mean(axis=0)
    found = [best_label(products(h, z_labels)) for h in states]
    best = [scores for _, scores in found]
    if rule in ("quantile", "margin"):
        threshold = float(np.quantile(np.concatenate(best), outside))
    else:
        threshold = outside_threshold(z_labels, texts, "keep" if rule == "eq6_keep" else "drop")
    labels = [np.where(scores > threshold, label, 0) for label, scores in found]
    if rule == "margin":
        labels = [majority_filter(row, window) for row in labels]
    return labels, best, threshold


def smooth(rows: Float[np.ndarray, "T D"], window: int) -> Float[np.ndarray, "T D"]:
    """The mean of the `window` (odd) seconds around each; of those there are, at a video's ends."""
    half = window // 2
    around = [rows[max(0, t - half) : t + half + 1].mean(axis=0) for t in range(len(rows))]
    return np.stack(around) if around else rows


def majority_filter(labels: Int[np.ndarray, " T"], window: int) -> Int[np.ndarray, " T"]:
    """The most frequent label of the `window` (odd) seconds around each; on a tie its own, else the earliest."""
    half, filtered = window // 2, labels.copy()
    for t, own in enumerate(labels):
        around = labels[max(0, t - half) : t + half + 1].tolist()
        filtered[t] = max([int(own), *around], key=around.count)
    return filtered


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

    * "classifier": of a model fine-tuned for it, the step's logit minus that of Outside, above 0;
    * "eq6": the dot product, gamma by eq. 6 over distinct texts; "eq6_keep": over all ids, as published;
    * "cosine": the cosine, with eq. 6 over the cosines of distinct texts;
    * "quantile": the dot product, above its quantile `outside` over all seconds;
    * "margin": the dot product minus that with the mean label, averaged over `window` (odd) seconds, above its
      quantile `outside`; then the majority of `window` seconds. Both numbers were fixed on MiniHowTo (notebook 06).

    `seed` draws the baseline "shuffled labels". An example has the labels a second (`predicted`, `truth`) and the best
    label's score (`best`), to be drawn beside the threshold; the details hold the `recall` of each label by name.
    """
    rule = rule or ("eq6" if clip.classes is None else "classifier")
    refuse_unknown([rule], (*RULES, "classifier"), "rule")
    if not 0 <= outside <= 1 or window < 1 or window % 2 == 0:
        raise ValueError(f"outside is a fraction, 0 to 1, and window an odd number of seconds, not {outside}, {window}")
    records = [dataset[i] for i in covered(dataset, corpus)]
    videos = [corpus.features(corpus.index(record.video_id)) for record in records]
    states = encoded_seconds(clip, videos, "segmentation")
    if rule == "classifier":
        unnamed = [f"LABEL_{label}" for label in dataset.labels]
        if (clip.classes or [])[1:] not in (dataset.texts, unnamed):
            needs = f"a model fine-tuned for segmentation on the labels of {dataset}"
            raise ValueError(f"rule='classifier' needs {needs}: take one of {', '.join(RULES)}")
        logits = map(clip.class_logits, states)  # COINPredictor takes the argmax of all K + 1
        found = [best_label(rows[:, 1:] - rows[:, :1], 0.0) for rows in logits]
        predicted, best, threshold = [labels for labels, _ in found], [scores for _, scores in found], 0.0
    else:
        texts, text = once(dataset.texts)
        z_labels = clip.encode_texts(texts)[text]
        predicted, best, threshold = label_by(rule, states, z_labels, dataset.texts, outside, window)
    truth = [targets(record.segments, len(p)) for record, p in zip(records, predicted, strict=True)]
    result = score(predicted, truth, len(dataset.labels))
    examples = pd.DataFrame([
        {
            "video_id": record.video_id, "task": record.task, "seconds": len(p),
            "frame_accuracy": float(np.mean(p == t)) if len(p) else math.nan,
            "predicted": p.tolist(), "truth": t.tolist(), "best": value.tolist(),
        }
        for record, p, t, value in zip(records, predicted, truth, best, strict=True)
    ])  # fmt: skip
    names = ["Outside", *(f"{text} ({label})" for label, text in zip(dataset.labels, dataset.texts, strict=True))]
    details = {"rule": rule, "threshold": threshold, "recall": dict(zip(names, result.recall.tolist(), strict=True))}
    shuffled = shuffled_baseline(predicted, truth, len(dataset.labels), seed)
    baselines = {"shuffled labels": shuffled, "chance": {"mean_recall": 1 / len(dataset.labels)}}
    return result.report(baselines) | {"unit": "seconds", "examples": examples, "details": details}
