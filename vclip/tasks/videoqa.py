"""Multiple-choice VideoQA: which of a question's candidate sentences describes the video (sections 4 and 5.2).

N questions, C candidates of each, D hidden size.
"""

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float64, Int64, Integer, Real
from torch import Tensor

from vclip.data.corpus import Corpus
from vclip.datasets._records import Dataset
from vclip.models.dual_encoder import DualEncoder
from vclip.tasks.report import Score, covered
from vclip.tasks.ties import once


@dataclass(frozen=True, repr=False, eq=False, kw_only=True)
class VideoQAScore(Score):
    """Fraction of N questions answered right; `chance`: the mean of 1/C, for a candidate drawn at random."""

    accuracy: float
    predictions: Int64[np.ndarray, " N"]
    chance: "float | None" = None


def score(
    z_v: Real[np.ndarray, "N D"] | Real[Tensor, "N D"],
    z_t: Real[np.ndarray, "N C D"] | Real[Tensor, "N C D"] | Sequence,
    answers: Sequence | Integer[np.ndarray, " N"] | Integer[Tensor, " N"],
) -> VideoQAScore:
    """Predict the candidate whose z_t has the largest dot product with z_v (MMPT predictor.py:186-242).

    Args:
        z_v: one video for each question.
        z_t: its candidates, the first wins a tie; a list of arrays (C_i, D) where their numbers differ.
        answers: the true candidate, from 0.

    Raises:
        ValueError: names the question (from 0) whose answer is not one of its candidates or whose score is NaN; also
            for no question, or unequal numbers of videos, questions and answers.
    """
    if not len(z_v) == len(z_t) == len(answers):
        raise ValueError(f"{len(z_v)} videos, {len(z_t)} questions and {len(answers)} answers: one of each is needed")
    return choose(candidate_scores(z_v, z_t), answers)


def candidate_scores(z_v: Iterable, z_t: Iterable) -> list[Float64[np.ndarray, " _"]]:
    """The dot products of each video (D,) with its candidates (C, D), in float64; equal candidates have equal ones."""
    return [(_float64(texts) * _float64(video)).sum(axis=1) for video, texts in zip(z_v, z_t, strict=True)]


def choose(
    scores: Sequence[Real[np.ndarray, " _"]], answers: Sequence | Integer[np.ndarray, " N"] | Integer[Tensor, " N"]
) -> VideoQAScore:
    """`score` of N questions whose candidates' scores, an array a question, are known."""
    if not len(scores):
        raise ValueError("there is no question to score")
    truth = []
    for i, (row, answer) in enumerate(zip(scores, answers, strict=True)):
        try:
            truth.append(operator.index(answer))
        except TypeError:
            raise ValueError(f"question {i}: the answer {answer!r} is not a whole number") from None
        if not 0 <= truth[i] < len(row):
            raise ValueError(f"question {i}: answer {truth[i]} is out of range, it has {len(row)} candidates from 0")
        if np.isnan(row).any():
            raise ValueError(f"question {i}: the score of candidate {np.isnan(row).argmax()} is NaN")
    predictions = np.array([row.argmax() for row in scores], dtype=np.int64)
    chance = float(np.mean([1 / len(row) for row in scores]))
    accuracy = float(np.mean(predictions == truth))
    return VideoQAScore(accuracy=accuracy, predictions=predictions, n=len(truth), chance=chance)


def examine(clip: DualEncoder, dataset: Dataset, corpus: Corpus) -> dict[str, Any]:
    """Answer the questions of `dataset` (records with `video_id`, `candidates`, `answer`); see `vclip.evaluate`.

    A video is its first `max_video_tokens` seconds. The baselines are chance and the answer index most frequent in
    this data set; far above chance, it shows that the answers are not evenly spread.
    """
    questions = [dataset[i] for i in covered(dataset, corpus)]
    # sentences and videos return in many questions; each is embedded once
    videos, video = once(q.video_id for q in questions)
    texts, text = once(candidate for q in questions for candidate in q.candidates)
    z_v = clip.encode_clips([corpus.features(corpus.index(video_id)) for video_id in videos])
    z_t = clip.encode_texts(texts)
    answers = [q.answer for q in questions]
    ends = np.cumsum([len(q.candidates) for q in questions])
    scores = candidate_scores(z_v[video], [z_t[rows] for rows in np.split(text, ends[:-1])])
    got = choose(scores, answers)
    examples = pd.DataFrame(
        {
            "video_id": [q.video_id for q in questions],
            "candidates": [list(q.candidates) for q in questions],
            "answer": answers,
            "prediction": got.predictions,
            "scores": [row.tolist() for row in scores],
        }
    )
    most_frequent = {"accuracy": float(np.bincount(answers).max() / len(answers))}
    return got.report({"most frequent answer": most_frequent}) | {"unit": "questions", "examples": examples}


def _float64(array: np.ndarray | Tensor) -> np.ndarray:
    return array.detach().cpu().double().numpy() if isinstance(array, Tensor) else np.asarray(array, dtype=np.float64)
