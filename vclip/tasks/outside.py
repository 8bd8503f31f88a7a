"""Where no step is shown: thresholds below which a second is Outside, and a rule that needs no labels either.

T seconds of a video, D hidden size, K labels. A prediction is 0 = Outside or the label's place from 1.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from vclip.tasks.ties import as_array, distinct, products

Rule = Literal["eq6", "eq6_keep", "quantile", "cosine", "margin"]
RULES: tuple[str, ...] = get_args(Rule)


def outside_threshold(
    z_labels: Float[np.ndarray, "K D"] | Float[Tensor, "K D"],
    texts: Sequence[str] | None = None,
    duplicates: Literal["drop", "keep"] = "drop",
) -> float:
    """Compute gamma, the largest dot product of two different labels' z_t (eq. 6; MMPT predictor.py:450-455).

    Args:
        z_labels: embeddings of K labels.
        texts: their texts.
        duplicates: "keep" compares all ids, as published: two ids of one text give its squared norm, which few seconds
            exceed, so that nearly everything is Outside. "drop" counts equal texts, and equal rows, once.

    Raises:
        ValueError: for NaN or infinity, fewer than two labels to compare, or another number of texts than labels.
    """
    if duplicates not in ("drop", "keep"):
        raise ValueError(f"unknown duplicates {duplicates!r}: 'drop' or 'keep'")
    rows = as_array(z_labels)
    if texts is not None and len(texts) != len(rows):
        raise ValueError(f"{len(texts)} texts for {len(rows)} labels")
    if not np.isfinite(rows).all():
        raise ValueError("a label's z_t holds NaN or infinity")
    if duplicates == "drop":
        if texts is not None:
            rows = rows[list({text: i for i, text in reversed([*enumerate(texts)])}.values())]
        rows = rows[distinct(rows)[0]]
    if len(rows) < 2:
        there = "there is one" if len(rows) else "there is none"
        raise ValueError(f"eq. 6 needs two different labels, {there}: use rule='quantile'")
    pairs = rows @ rows.T
    np.fill_diagonal(pairs, -np.inf)
    return float(pairs.max())


def label_seconds(
    h: Float[np.ndarray, "T D"] | Float[Tensor, "T D"],
    z_labels: Float[np.ndarray, "K D"] | Float[Tensor, "K D"],
    threshold: float,
) -> Int[np.ndarray, " T"]:
    """Label each second: the label (from 1) with the largest dot product if it exceeds `threshold`, else 0 = Outside.

    The first of tied labels counts.

    Raises:
        ValueError: if there is no label or a product is NaN.
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


def scores_by(
    rule: Rule, h: Float[np.ndarray, "T D"], z_labels: Float[np.ndarray, "K D"], window: int
) -> Float[np.ndarray, "T K"]:
    """What `rule` compares with its threshold: dot products, cosines, or smoothed margins.

    A margin is a label's score minus the mean label's. Smoothing the states smooths it, as it is linear in them.
    Equal labels have equal scores. Raises ValueError for margins of labels that are all equal.
    """
    if rule == "margin":
        if len(distinct(z_labels)[0]) < 2:
            raise ValueError("a margin needs two different labels, there is one at most: use rule='quantile'")
        return products(smooth(h, window), z_labels - z_labels.mean(axis=0))
    return products(_unit(h), _unit(z_labels)) if rule == "cosine" else products(h, z_labels)


def threshold_by(
    rule: Rule,
    z_labels: Float[np.ndarray, "K D"],
    texts: Sequence[str],
    best: Float[np.ndarray, " seconds"],
    outside: float,
) -> float:
    """The threshold of `rule`: eq. 6, or the quantile `outside` of all seconds' `best` scores."""
    if rule in ("quantile", "margin"):
        return float(np.quantile(best, outside))
    return outside_threshold(
        _unit(z_labels) if rule == "cosine" else z_labels, texts, "keep" if rule == "eq6_keep" else "drop"
    )


def smooth(rows: Float[np.ndarray, "T D"], window: int) -> Float[np.ndarray, "T D"]:
    """The mean of the `window` (odd) seconds around each; of those there are, at a video's ends."""
    sums = np.concatenate([np.zeros((1, rows.shape[1])), rows.cumsum(axis=0, dtype=np.float64)])
    t, half = np.arange(len(rows)), window // 2
    first, last = np.maximum(t - half, 0), np.minimum(t + half + 1, len(rows))
    return ((sums[last] - sums[first]) / (last - first)[:, None]).astype(rows.dtype)


def majority_filter(labels: Int[np.ndarray, " T"], window: int) -> Int[np.ndarray, " T"]:
    """The most frequent label of the `window` (odd) seconds around each; on a tie its own, else the earliest."""
    if not len(labels):
        return labels
    half = window // 2
    around = np.lib.stride_tricks.sliding_window_view(np.pad(labels, half, constant_values=-1), window)
    around = around[:, [half, *range(half), *range(half + 1, window)]]
    votes = (around[:, :, None] == around[:, None, :]).sum(axis=2) * (around >= 0)
    return around[np.arange(len(labels)), votes.argmax(axis=1)]


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(rows.dtype).tiny)
