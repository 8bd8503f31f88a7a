"""Text-to-video retrieval: each sentence against the batch's clips, the text-to-video term alone (vtt_, youcook_.yaml).

N clips, T seconds, F feature size.
"""

from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from vclip.data.corpus import Corpus
from vclip.datasets._records import Dataset, subset
from vclip.losses import info_nce
from vclip.models.videoclip import VideoCLIPModel
from vclip.training.config import FinetuneConfig
from vclip.training.finetune_pairs import one_record_each


def loss(model: VideoCLIPModel, features: Tensor, seconds: Tensor, ids: Tensor, pieces: Tensor) -> Float[Tensor, ""]:
    """InfoNCE, "t2v": all other clips of the batch are a sentence's negatives (MMPT losses/nce.py:42-56)."""
    return info_nce(*model.embed_packed(features, seconds, ids, pieces), direction="t2v")


def scored(dataset: Dataset, corpus: Corpus, config: FinetuneConfig, rng: np.random.Generator) -> Dataset:
    """What validation ranks: one sentence of each clip, drawn, among all clips."""
    return subset(dataset, one_record_each(dataset, corpus, rng))


def options(config: FinetuneConfig) -> dict[str, Any]:
    """Of `vclip.tasks.retrieval.examine`."""
    return {}
