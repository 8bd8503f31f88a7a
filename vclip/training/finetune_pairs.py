"""Pairs of a clip and one of its sentences: what retrieval and VideoQA are fine-tuned on (MMPT dsprocessor.py)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vclip.data.corpus import Corpus
from vclip.datasets._records import Dataset
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.videoclip import VideoCLIPModel
from vclip.tasks.report import covered
from vclip.tasks.retrieval import clip_features
from vclip.training.config import FinetuneConfig


@dataclass(frozen=True)
class ClipOfPairs:
    """A clip, seconds `start`:`end` of its video (None: to its end), and every sentence about it."""

    video_id: str
    start: int
    end: int | None
    sentences: tuple[str, ...]


def items(dataset: Dataset, corpus: Corpus) -> list[ClipOfPairs]:
    """The clips that have features, each once, with all their sentences.

    Of a question the sentence is the true answer. Raises TypeError for records that have neither.
    """
    return [
        ClipOfPairs(video_id, start, end, tuple(sentence_of(record, dataset) for record in records))
        for (video_id, start, end), records in _by_clip(dataset, corpus).items()
    ]


def one_record_each(dataset: Dataset, corpus: Corpus, rng: np.random.Generator) -> list:
    """One record of each clip that has features, drawn: two sentences of one clip would tie in any ranking."""
    return [records[rng.integers(len(records))] for records in _by_clip(dataset, corpus).values()]


def inputs(
    model: VideoCLIPModel,
    processor: VideoCLIPProcessor,
    corpus: Corpus,
    clips: Sequence[ClipOfPairs],
    config: FinetuneConfig,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """For `embed_packed`: each clip's first max_video_tokens seconds, and a sentence drawn from the clip's."""
    features = [np.asarray(clip_features(clip, corpus)[: model.config.max_video_tokens]) for clip in clips]
    sentences = [clip.sentences[rng.integers(len(clip.sentences))] for clip in clips]
    rows = torch.from_numpy(np.concatenate(features)).to(model.device)
    return rows, torch.tensor([len(clip) for clip in features]), *packed_texts(model, processor, sentences)


def packed_texts(model: VideoCLIPModel, processor: VideoCLIPProcessor, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """`ids` and `pieces` for `embed_texts`."""
    rows = processor(text=list(texts))
    mask = rows["attention_mask"].bool()
    return rows["input_ids"][mask].to(model.device), mask.sum(dim=1)


def new_model(checkpoint: str, dataset: Dataset) -> VideoCLIPModel:
    """The checkpoint as it is: nothing is added to it."""
    return VideoCLIPModel.from_pretrained(checkpoint)


def traits(record: Any) -> tuple[Any, tuple]:
    """Recipes are the strata, where there are any."""
    return getattr(record, "recipe_type", None), ()


def _by_clip(dataset: Dataset, corpus: Corpus) -> dict[tuple, list]:
    clips: dict[tuple, list] = {}
    for record in (dataset[i] for i in covered(dataset, corpus)):
        place = record.video_id, getattr(record, "start", 0), getattr(record, "end", None)
        clips.setdefault(place, []).append(record)
    return clips


def sentence_of(record: Any, dataset: Dataset) -> str:
    """A record's sentence, or the true answer of a question; TypeError if it has neither."""
    if hasattr(record, "sentence"):
        return record.sentence
    if hasattr(record, "candidates"):
        return record.candidates[record.answer]
    raise TypeError(
        f"{dataset} has records without a sentence, {type(record).__name__}: take YouCook2 or MSR-VTT, and put "
        "MSRVTT_data.json beside MSR-VTT's lists of ids"
    )
