"""Step localization (CrossTask): the second of each of K steps in a video of T seconds; arrays (T, K) hold 0 and 1."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32, Float64, Real, UInt8
from torch.nn import functional as F

from vclip.data.corpus import Corpus
from vclip.datasets._records import Dataset
from vclip.models.dual_encoder import DualEncoder
from vclip.tasks.report import Score, covered, encoded_seconds
from vclip.tasks.ties import Array

Probability = Literal["softmax", "sigmoid"]


@dataclass(frozen=True, repr=False, kw_only=True)
class Recall(Score):
    """`recall` is the plain mean of `per_task`: found steps over steps that occur (NaN without any), `n` in all."""

    recall: float
    per_task: dict[str, float]

    def __getitem__(self, i: int) -> Any:
        return (self.recall, self.per_task)[i]


def assign_steps(logits: Real[Array, "T K"], probability: Probability = "softmax") -> UInt8[np.ndarray, "T K"]:
    """Assign every step one second (1, else 0), in the order of the steps, by the least sum of -log p(step | second).

    On ties a step takes the earliest second, but the last step takes second T - 1 if no earlier one is cheaper,
    as in CrossTask's own program (MMPT predictor.py:245-347).

    Args:
        logits: a score for each second and step. T <= K, where the original is undefined, is a ValueError.
        probability: "softmax" over a second's steps, as released; "sigmoid" of each step alone, as fine-tuning trains.

    Example:
        >>> assign_steps(np.array([[9, 0], [0, 0], [0, 9]])).argmax(axis=0)
        array([0, 2])
    """
    if probability not in get_args(Probability):
        raise ValueError(f"probability must be one of {', '.join(get_args(Probability))}, got {probability!r}")
    values = torch.as_tensor(logits).detach().cpu().float()
    seconds, steps = values.shape
    if seconds <= steps or not steps:
        raise ValueError(f"{seconds} seconds for {steps} steps: more seconds than steps, and a step, are needed")
    log_p = torch.log_softmax(values, dim=1) if probability == "softmax" else F.logsigmoid(values)
    cost = -log_p.double().numpy()
    if not np.isfinite(cost).all():
        second = int(np.argwhere(~np.isfinite(cost))[0, 0])
        raise ValueError(f"the logits of second {second} are not finite: {values[second].tolist()}")
    # total[t]: least cost of the steps so far with the last of them at second t
    total, earliest = cost[:, 0], []
    for k in range(1, steps):
        lowest = np.minimum.accumulate(total)
        improves = np.append(True, lowest[1:] < lowest[:-1])
        earliest.append(np.maximum.accumulate(np.where(improves, np.arange(seconds), 0)))
        total = np.append(np.inf, lowest[:-1]) + cost[:, k]
    second = int(np.argmin(total[:-1]))
    second = second if total[second] < total[-1] else seconds - 1
    assigned = np.zeros((seconds, steps), np.uint8)
    assigned[second, steps - 1] = 1
    for k in range(steps - 1, 0, -1):
        second = int(earliest[k - 1][second - 1])
        assigned[second, k - 1] = 1
    return assigned


def average_recall(assigned: Sequence, truth: Sequence, tasks: Sequence[str]) -> Recall:
    """Average over tasks the recall: steps assigned to a true second over steps that occur (MMPT metric.py:220-259).

    Args:
        assigned, truth: an array (T, K) for each video; probabilities in `assigned` give the expected recall.
        tasks: the task of each video.

    Example:
        >>> recall, per_task = average_recall([np.eye(3, 2)], [np.eye(3, 2)], ["make tea"])
        >>> recall
        1.0
    """
    if not len(assigned) == len(truth) == len(tasks) or not len(tasks):
        raise ValueError(f"{len(assigned)} assignments and {len(truth)} truths of {len(tasks)} videos")
    counts = []
    for i, (ours, true, task) in enumerate(zip(map(np.asarray, assigned), map(np.asarray, truth), tasks, strict=True)):
        if ours.shape != true.shape or ours.ndim != 2 or not ((ours >= 0) & (ours.sum(axis=0) < 1.001)).all():
            wrong = "not both (T, K), or a step's seconds add up to more than one"
            raise ValueError(f"video {i}: the assignment is {ours.shape}, the truth {true.shape}, {wrong}")
        counts.append((task, float(ours[true != 0].sum()), int((true != 0).any(axis=0).sum())))
    sums: Any = pd.DataFrame(counts, columns=["task", "found", "occur"]).groupby("task", sort=False, dropna=False).sum()
    per_task = sums["found"] / sums["occur"]  # NaN for 0 / 0
    return Recall(recall=float(per_task.mean()), per_task=per_task.to_dict(), n=int(sums["occur"].sum()))


def true_seconds(segments: Iterable[tuple[int, float, float]], seconds: int, steps: int) -> UInt8[np.ndarray, "T K"]:
    """Mark floor(start) to ceil(end) of each segment (step from 0, start, end) with 1, as far as the video goes."""
    truth = np.zeros((seconds, steps), np.uint8)
    for step, start, end in segments:
        truth[math.floor(start) : math.ceil(end), step] = 1
    return truth


def assign_uniform(seconds: int, steps: int) -> UInt8[np.ndarray, "T K"]:
    """Baseline: the video cut into K equal parts, each step in the middle of its own."""
    assigned = np.zeros((seconds, steps), np.uint8)
    assigned[((np.arange(steps) + 0.5) * seconds / steps).astype(int), np.arange(steps)] = 1
    return assigned


def random_probabilities(seconds: int, steps: int) -> Float64[np.ndarray, "T K"]:
    """Baseline: p(step k is at t) of K random seconds in order, C(t, k) C(T - 1 - t, K - 1 - k) / C(T, K)."""
    t, k = np.arange(seconds)[:, None], np.arange(steps)[None]
    import scipy.stats  # which takes a second

    return scipy.stats.hypergeom.pmf(k, seconds - 1, t, steps - 1) * steps / seconds


def step_logits(
    clip: DualEncoder, videos: Sequence, steps: Sequence[Sequence[str]]
) -> list[Float32[np.ndarray, "T K"]]:
    """h_v . z_t of every second of each video (T, F) with every step of the video's own task."""
    texts = list(dict.fromkeys(step for names in steps for step in names))
    z_t = dict(zip(texts, clip.encode_texts(texts), strict=True))
    states = encoded_seconds(clip, videos, "localization")
    return [h_v @ np.stack([z_t[name] for name in names]).T for h_v, names in zip(states, steps, strict=True)]


def examine(
    clip: DualEncoder, dataset: Dataset, corpus: Corpus, *, probability: Probability = "softmax"
) -> dict[str, Any]:
    """Localizes the steps of `datasets.crosstask` videos; for `vclip.evaluate`. `probability` as in `assign_steps`.

    One example a video: where each step was put (`assigned`, seconds in the order of the steps), how many `steps`
    occur in the truth and how many of them were found (`hits`). Videos without annotation or without more seconds than
    their task has steps cannot be scored: the details count them as `left_out`.
    """
    records = [dataset[i] for i in covered(dataset, corpus)]
    videos = [corpus.features(corpus.index(record.video_id)) for record in records]
    scored = [i for i, record in enumerate(records) if record.segments and len(videos[i]) > len(record.steps) > 0]
    if not scored:
        raise ValueError(f"no video of {dataset} is annotated and has more seconds than its task has steps")
    left_out = len(records) - len(scored)
    records, videos = [records[i] for i in scored], [videos[i] for i in scored]
    logits = step_logits(clip, videos, [record.steps for record in records])
    assigned = [assign_steps(rows, probability) for rows in logits]
    truth = [true_seconds(record.segments, *rows.shape) for record, rows in zip(records, assigned, strict=True)]
    tasks = [record.task for record in records]
    uniform = average_recall([assign_uniform(*rows.shape) for rows in truth], truth, tasks)
    random = average_recall([random_probabilities(*rows.shape) for rows in truth], truth, tasks)
    examples = pd.DataFrame([
        {
            "task": record.task, "video_id": record.video_id, "seconds": len(t), "hits": int(a[t != 0].sum()),
            "steps": int(t.any(axis=0).sum()), "assigned": a.argmax(axis=0).tolist(), "segments": list(record.segments),
        }
        for record, a, t in zip(records, assigned, truth, strict=True)
    ])  # fmt: skip
    got = average_recall(assigned, truth, tasks).report({"uniform": uniform.values(), "random": random.values()})
    return got | {"unit": "steps", "examples": examples, "details": {"left_out": left_out}}
