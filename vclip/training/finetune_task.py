"""What a task adds to fine-tuning: its model, its examples, its loss, and what validation scores."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from vclip.data.corpus import Corpus
from vclip.datasets._records import Dataset
from vclip.models.dual_encoder import VideoCLIP
from vclip.models.videoclip import VideoCLIPModel
from vclip.training.config import FinetuneConfig


class Task(ABC):
    """One of the tasks of `finetune`; the module of `vclip.tasks` of the same name scores it."""

    by_loss = False  # the released recipe keeps the epoch of the lowest loss

    def __init__(self, config: FinetuneConfig):
        self.config = config

    def new_model(self, checkpoint: str, dataset: Dataset) -> VideoCLIPModel:
        """The model that a run starts from."""
        return VideoCLIPModel.from_pretrained(checkpoint)

    @abstractmethod
    def items(self, dataset: Dataset, corpus: Corpus) -> list:
        """What a batch is made of. Raises TypeError for records that the task cannot learn from."""

    @abstractmethod
    def check(self, model: VideoCLIPModel, training: Sequence, validation: Sequence) -> None:
        """Refuse settings that do not suit the model or the items."""

    @abstractmethod
    def inputs(self, clip: VideoCLIP, corpus: Corpus, items: Sequence, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """The arguments of `loss` for these items."""

    @abstractmethod
    def loss(self, model: VideoCLIPModel, *inputs: Tensor) -> Tensor:
        """The loss of a batch."""

    def scored(self, dataset: Dataset, corpus: Corpus, rng: np.random.Generator) -> Dataset:
        """The records that validation scores."""
        return dataset

    def options(self) -> dict[str, Any]:
        """Keyword arguments of the scoring module's `examine`."""
        return {}

    @abstractmethod
    def traits(self, record: Any) -> tuple[Hashable, Iterable[Hashable]]:
        """The stratum of a record, from which videos are held out in proportion, and labels that training must show."""


def packed_texts(clip: VideoCLIP, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """`ids` and `text_lengths` for `embed_texts`."""
    rows = clip.processor(text=list(texts))
    mask = rows["attention_mask"].bool()
    return rows["input_ids"][mask].to(clip.model.device), mask.sum(dim=1)
