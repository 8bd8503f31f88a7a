"""Action segmentation: a linear layer over each second's state says step or Outside (coin_videoclip.yaml).

W windows, S seconds of one, F feature size.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vclip.data.corpus import Corpus
from vclip.datasets._records import Dataset
from vclip.datasets.coin import COIN, Video
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.segmenter import VideoCLIPForSegmentation
from vclip.models.videoclip import VideoCLIPModel
from vclip.tasks.report import covered
from vclip.tasks.segmentation import targets
from vclip.training.config import FinetuneConfig
from vclip.training.finetune_windows import cut, spread

IGNORED = -100


def new_model(checkpoint: str, dataset: Dataset) -> VideoCLIPForSegmentation:
    """The checkpoint with a fresh classifier of Outside and the data set's steps, its text tower frozen.

    Raises ValueError for a checkpoint with another classifier.
    """
    assert isinstance(dataset, COIN)
    classes = ["Outside", *dataset.texts]
    try:
        model = VideoCLIPForSegmentation.from_pretrained(checkpoint, num_labels=len(classes))
    except RuntimeError as error:
        raise ValueError(
            f"{checkpoint} has a classifier already, for other than {len(classes)} classes: start from a checkpoint "
            f"without one ({str(error).splitlines()[0]})"
        ) from None
    model.config.id2label = dict(enumerate(classes))
    if model.text_model is not None:
        model.text_model.requires_grad_(False)
    return model


def items(dataset: Dataset, corpus: Corpus) -> list[Video]:
    """The videos that have features. Raises TypeError for records without numbered steps."""
    if not isinstance(dataset, COIN):
        raise TypeError(f"segmentation learns from the labels of COIN or a data set of its format, not from {dataset}")
    return [dataset[i] for i in covered(dataset, corpus)]


def inputs(
    model: VideoCLIPModel,
    processor: VideoCLIPProcessor,
    corpus: Corpus,
    videos: Sequence[Video],
    config: FinetuneConfig,
    rng: np.random.Generator,
) -> tuple[Float[Tensor, "W S F"], Bool[Tensor, "W S"], Int[Tensor, "W S"]]:
    """Features, mask and the class of every second of every window; -100 behind a window's end."""
    features = [corpus.features(corpus.index(video.video_id)) for video in videos]
    windows = cut(features, config.window, config.stride)
    truth = [targets(video.segments, len(rows)) for video, rows in zip(videos, features, strict=True)]
    batch = windows.features, windows.mask, spread(windows, truth, IGNORED)
    return batch[0].to(model.device), batch[1].to(model.device), batch[2].to(model.device)


def loss(
    model: VideoCLIPForSegmentation,
    features: Float[Tensor, "W S F"],
    mask: Bool[Tensor, "W S"],
    labels: Int[Tensor, "W S"],
) -> Float[Tensor, ""]:
    """Cross-entropy, the mean over all windows' seconds: those in two windows count twice."""
    return model(features, mask, labels).loss


def scored(dataset: Dataset, corpus: Corpus, config: FinetuneConfig, rng: np.random.Generator) -> Dataset:
    """Validation labels every second of every video."""
    return dataset


def traits(video: Video) -> tuple[Any, set[int]]:
    """Tasks are the strata, steps the labels of which each must be trained."""
    return video.task, {segment.label for segment in video.segments}


def options(config: FinetuneConfig) -> dict[str, Any]:
    """Of `vclip.tasks.segmentation.examine`."""
    return {}
