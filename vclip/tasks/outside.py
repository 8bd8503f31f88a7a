"""Rules for where no step is shown: T seconds, D hidden size, K labels; predictions are 0 = Outside or from 1."""

from collections.abc import Iterable, Sequence
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from vclip.tasks.ties import as_array, products

Rule = Literal["eq6", "eq6_keep", "quantile", "cosine", "margin"]
RULES: tuple[str, ...] = get_args(Rule)


def outside_threshold(
    z_labels: Float[np.ndarray, "K D"] | Float[Tensor, "K D"],
    texts: Sequence[str] | None = None,
    duplicates: Literal["drop", "keep"] = "drop",
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
    if not np.isfinite(rows).all():
        raise ValueError("a label's z_t holds NaN or infinity")
    if duplicates == "drop":
        if texts is not None:
            rows = rows[np.unique(np.array(texts), return_index=True)[1]]
        rows = np.unique(rows, axis=0)
    if len(rows) < 2:
        raise ValueError(f"eq. 6 needs two different labels, there are {len(rows)}: use rule='quantile'")
    pairs = rows @ rows.T
    np.fill_diagonal(pairs, -np.inf)
    return float(pairs.max())


def label_seconds(
    h: Float[np.ndarray, "T D"] | Float[Tensor, "T D"],
    z_labels: Float[np.ndarray, "K D"] | Float[Tensor, "K D"],
    threshold: float,
) -> Int[np.ndarray, " T"]:
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
    if not scores.shape[1] or np.isnan(scores).any():
        raise ValueError("there is no label" if not scores.shape[1] else "a second's score is NaN")
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
        states, z_labels = map(_unit, states), _unit(z_labels)
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


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(rows.dtype).tiny)
