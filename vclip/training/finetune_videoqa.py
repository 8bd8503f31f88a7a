"""Multiple-choice VideoQA: each video against the batch's sentences, the video-to-text term alone (vttqa_.yaml).

No question is trained on: the released recipe, too, learns from pairs of a video and its sentence.
"""

from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from vclip.data.corpus import Corpus
from vclip.datasets._records import Dataset, subset
from vclip.datasets.msrvtt import Question
from vclip.losses import info_nce
from vclip.models.videoclip import VideoCLIPModel
from vclip.training import finetune_pairs
from vclip.training.config import FinetuneConfig
from vclip.training.finetune_pairs import one_record_each, sentence_of


def items(dataset: Dataset, corpus: Corpus) -> list[finetune_pairs.ClipOfPairs]:
    """As `finetune_pairs.items`; TypeError also for clips of longer videos, about which no question can be asked."""
    if any(getattr(record, "end", None) is not None for record in dataset):
        raise TypeError(f"{dataset} has clips of longer videos; VideoQA asks about whole ones: take MSR-VTT")
    return finetune_pairs.items(dataset, corpus)


def loss(model: VideoCLIPModel, features: Tensor, seconds: Tensor, ids: Tensor, pieces: Tensor) -> Float[Tensor, ""]:
    """InfoNCE, "v2t": all other sentences of the batch are a video's negatives (MMPT losses/nce.py:59-73)."""
    return info_nce(*model.embed_packed(features, seconds, ids, pieces), direction="v2t")


def scored(dataset: Dataset, corpus: Corpus, config: FinetuneConfig, rng: np.random.Generator) -> Dataset:
    """What validation asks: of each video one of its sentences among `config.candidates`, the others of other videos.

    All are drawn. A video's own sentences are never a wrong answer. Questions that are there already stay as they are.
    Raises ValueError if a video has no sentence of another to be told from.
    """
    if all(isinstance(record, Question) for record in dataset):
        return dataset
    own: dict[str, set[str]] = {}
    for record in dataset:
        own.setdefault(record.video_id, set()).add(sentence_of(record, dataset))
    others = sorted(set().union(*own.values()))
    questions = []
    for record in one_record_each(dataset, corpus, rng):
        wrong = [sentence for sentence in others if sentence not in own[record.video_id]]
        if not wrong:
            raise ValueError(f"{dataset}: no video but {record.video_id!r} has another sentence to ask about")
        drawn = [wrong[i] for i in rng.choice(len(wrong), min(config.candidates - 1, len(wrong)), replace=False)]
        answer = int(rng.integers(len(drawn) + 1))
        drawn.insert(answer, sentence_of(record, dataset))
        questions.append(Question(record.video_id, tuple(drawn), answer))
    return subset(dataset, questions, f"{dataset.split}, as questions")


def options(config: FinetuneConfig) -> dict[str, Any]:
    """Of `vclip.tasks.videoqa.examine`."""
    return {}
