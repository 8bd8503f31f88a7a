"""Retrieval and VideoQA: pairs of a clip and one of its sentences, contrasted one way (MMPT dsprocessor.py)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vclip.data.corpus import Corpus
from vclip.datasets._records import Dataset, subset
from vclip.datasets.msrvtt import Question
from vclip.losses import info_nce
from vclip.models.dual_encoder import VideoCLIP
from vclip.models.videoclip import VideoCLIPModel
from vclip.tasks.report import covered
from vclip.tasks.retrieval import clip_features
from vclip.training.finetune_task import Task, packed_texts


@dataclass(frozen=True)
class ClipOfPairs:
    """A clip, seconds `start`:`end` of its video (None: to its end), and every sentence about it."""

    video_id: str
    start: int
    end: int | None
    sentences: tuple[str, ...]


class Pairs(Task):
    """Clips with their sentences; all other pairs of a batch are negatives in one direction of InfoNCE."""

    direction: str

    def items(self, dataset: Dataset, corpus: Corpus) -> list[ClipOfPairs]:
        """The clips that have features, each once with all its sentences; of a question, the right answer."""
        return [
            ClipOfPairs(video_id, start, end, tuple(_sentence(record, dataset) for record in records))
            for (video_id, start, end), records in _by_clip(dataset, corpus).items()
        ]

    def check(self, model: VideoCLIPModel, training: Sequence, validation: Sequence) -> None:
        """A batch and the validation data need two clips, or there is nothing to tell apart."""
        if min(self.config.batch_size, len(training), len(validation)) < 2:
            raise ValueError(
                f"{self.config.task} contrasts clips, so a batch and the validation data need at least two; batch_size "
                f"is {self.config.batch_size}, with {len(training)} clips to train on and {len(validation)} to validate"
            )

    def inputs(
        self, clip: VideoCLIP, corpus: Corpus, items: Sequence[ClipOfPairs], rng: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """For `embed_packed`: each clip's first seconds, and a sentence drawn from the clip's."""
        features = [np.asarray(clip_features(item, corpus)[: clip.longest_clip]) for item in items]
        sentences = [item.sentences[rng.integers(len(item.sentences))] for item in items]
        rows = torch.from_numpy(np.concatenate(features)).to(clip.model.device)
        return rows, torch.tensor([len(each) for each in features]), *packed_texts(clip, sentences)

    def loss(self, model: VideoCLIPModel, *inputs: Tensor) -> Tensor:
        """InfoNCE in one direction."""
        return info_nce(*model.embed_packed(*inputs), direction=self.direction)

    def traits(self, record: Any) -> tuple[Any, tuple]:
        """Recipes are the strata, where there are any."""
        return getattr(record, "recipe_type", None), ()


class Retrieval(Pairs):
    """Text-to-video retrieval: a sentence against the batch's clips (vtt_, youcook_videoclip.yaml, losses/nce.py)."""

    direction = "t2v"

    def scored(self, dataset: Dataset, corpus: Corpus, rng: np.random.Generator) -> Dataset:
        """One sentence of each clip, drawn; it is ranked among all clips."""
        return subset(dataset, _one_record_each(dataset, corpus, rng))


class VideoQA(Pairs):
    """Multiple-choice VideoQA: a video against the batch's sentences (vttqa_videoclip.yaml, losses/nce.py).

    No question is trained on: the released recipe also learns from pairs of a video and its sentence.
    """

    direction = "v2t"

    def items(self, dataset: Dataset, corpus: Corpus) -> list[ClipOfPairs]:
        """As of all pairs; TypeError also for clips of longer videos, about which no question can be asked."""
        if any(getattr(record, "end", None) is not None for record in dataset):
            raise TypeError(f"{dataset} has clips of longer videos, but VideoQA asks about whole ones: use MSR-VTT")
        return super().items(dataset, corpus)

    def scored(self, dataset: Dataset, corpus: Corpus, rng: np.random.Generator) -> Dataset:
        """A question for each video: one of its sentences among `candidates`, the others drawn from other videos.

        A video's own sentences are never a wrong answer. Questions that are there already stay as they are.
        Raises ValueError if no other video has another sentence.
        """
        if all(isinstance(record, Question) for record in dataset):
            return dataset
        own: dict[str, set[str]] = {}
        for record in dataset:
            own.setdefault(record.video_id, set()).add(_sentence(record, dataset))
        others = sorted(set().union(*own.values()))
        questions = []
        for record in _one_record_each(dataset, corpus, rng):
            wrong = [sentence for sentence in others if sentence not in own[record.video_id]]
            if not wrong:
                raise ValueError(f"{dataset}: no video but {record.video_id!r} has another sentence to ask about")
            drawn = [
                wrong[i] for i in rng.choice(len(wrong), min(self.config.candidates - 1, len(wrong)), replace=False)
            ]
            answer = int(rng.integers(len(drawn) + 1))
            drawn.insert(answer, _sentence(record, dataset))
            questions.append(Question(record.video_id, tuple(drawn), answer))
        return subset(dataset, questions, f"{dataset.split}, as questions")


def _one_record_each(dataset: Dataset, corpus: Corpus, rng: np.random.Generator) -> list:
    """One record of each clip that has features, drawn: two sentences of one clip would tie in any ranking."""
    return [records[rng.integers(len(records))] for records in _by_clip(dataset, corpus).values()]


def _by_clip(dataset: Dataset, corpus: Corpus) -> dict[tuple, list]:
    clips: dict[tuple, list] = {}
    for record in (dataset[i] for i in covered(dataset, corpus)):
        place = record.video_id, getattr(record, "start", 0), getattr(record, "end", None)
        clips.setdefault(place, []).append(record)
    return clips


def _sentence(record: Any, dataset: Dataset) -> str:
    """A record's sentence, or the right answer of a question; TypeError if it has neither."""
    if hasattr(record, "sentence"):
        return record.sentence
    if hasattr(record, "candidates"):
        return record.candidates[record.answer]
    raise TypeError(
        f"{dataset} has records without a sentence, {type(record).__name__}: use YouCook2 or MSR-VTT, and put "
        "MSRVTT_data.json beside MSR-VTT's lists of ids"
    )
