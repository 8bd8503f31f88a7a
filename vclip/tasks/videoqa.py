"""Multiple-choice VideoQA (sections 4 and 5.2): N questions, C candidate sentences of each, D hidden size."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64, Integer, Real

from vclip.data.corpus import Corpus
from vclip.datasets._records import Dataset
from vclip.models.dual_encoder import DualEncoder
from vclip.tasks.report import Score, covered
from vclip.tasks.ties import Array, as_array, once


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class VideoQAScore(Score):
    """Fraction of N questions answered right; `chance`: the mean of 1/C, for a candidate drawn at random.

    `scores` are the dot products of each question's candidates, of which the largest is the prediction.
    """

    accuracy: float
    predictions: Int64[np.ndarray, " N"]
    scores: list[Float64[np.ndarray, " C"]]


def score(
    z_v: Real[Array, "N D"], z_t: Real[Array, "N C D"] | Sequence, answers: Sequence | Integer[Array, " N"]
) -> VideoQAScore:
    """Predict the candidate of the largest dot product with z_v: accuracy beside chance (MMPT predictor.py:186-242).

    Args:
        z_v: one video for each question.
        z_t: its candidates, the first wins a tie; a list of arrays (C_i, D) where their numbers differ.
        answers: the true candidate, from 0.

    Raises:
        ValueError: names the question (from 0) whose answer is not one of its candidates or whose score is NaN.

    Example:
        >>> score(np.ones((1, 2)), np.array([[[0, 1], [1, 1], [1, 0]]]), [1])
        VideoQAScore(accuracy 1 (chance 0.3333), n 1)
    """
    truth = np.asarray(answers)
    if not len(z_v) == len(z_t) == truth.size > 0 or truth.ndim != 1 or truth.dtype.kind not in "iu":
        given = f"{len(z_v)} videos, {len(z_t)} questions, {truth.size} answers of type {truth.dtype}"
        raise ValueError(f"{given}: one of each is needed, answers as whole numbers")
    pairs = [(as_array(video).astype(np.float64), as_array(texts)) for video, texts in zip(z_v, z_t, strict=True)]
    # summed, not multiplied as matrices: equal candidates have equal scores
    scores = [(texts * video).sum(axis=-1) for video, texts in pairs]
    for i, ((video, texts), row, answer) in enumerate(zip(pairs, scores, truth, strict=True)):
        if texts.shape[1:] != video.shape or not 0 <= answer < len(row) or np.isnan(row).any():
            raise ValueError(f"question {i}: answer {answer} of {len(texts)} candidates {texts.shape}, scored {row}")
    predictions = np.array([row.argmax() for row in scores], dtype=np.int64)
    chance = float(np.mean([1 / len(row) for row in scores]))
    accuracy = float(np.mean(predictions == truth))
    return VideoQAScore(accuracy=accuracy, predictions=predictions, scores=scores, n=len(truth), chance=chance)


def examine(clip: DualEncoder, dataset: Dataset, corpus: Corpus) -> dict[str, Any]:
    """Answer the questions of `dataset` (records with `video_id`, `candidates`, `answer`); see `vclip.evaluate`.

    A video is its first `max_video_tokens` seconds. The baselines are chance and the most frequent answer index.
    """
    questions = [dataset[i] for i in covered(dataset, corpus)]
    # sentences and videos return in many questions; each is embedded once
    videos, video = once(q.video_id for q in questions)
    texts, text = once(candidate for q in questions for candidate in q.candidates)
    z_v = clip.encode_clips([corpus.features(corpus.index(video_id)) for video_id in videos])
    z_t = clip.encode_texts(texts)
    answers = [q.answer for q in questions]
    ends = np.cumsum([len(q.candidates) for q in questions])
    got = score(z_v[video], [z_t[rows] for rows in np.split(text, ends[:-1])], answers)
    examples = pd.DataFrame({
        "video_id": [q.video_id for q in questions], "candidates": [list(q.candidates) for q in questions],
        "answer": answers, "prediction": got.predictions, "scores": [row.tolist() for row in got.scores],
    })  # fmt: skip
    most_frequent = {"accuracy": float(np.bincount(answers).max() / len(answers))}
    return got.report({"most frequent answer": most_frequent}) | {"unit": "questions", "examples": examples}
