"""Segmental F1 and edit score: how well runs of equal labels match over T seconds; 0 = Outside is no segment."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Integer


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
        ious = [_iou(segment, other) for other in wanted]
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


def _iou(a: tuple[int, int, int], b: tuple[int, int, int]) -> float:
    if a[0] != b[0]:
        return 0.0
    return max(0, min(a[2], b[2]) - max(a[1], b[1])) / (max(a[2], b[2]) - min(a[1], b[1]))
