"""Step localization: is each step of a video's task done at each second? (crosstask_videoclip.yaml)

W windows, S seconds of one, F feature size, K steps of all the batch's videos one after another.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from vclip.data.corpus import Corpus
from vclip.datasets._records import Dataset
from vclip.datasets.crosstask import Video
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.videoclip import VideoCLIPModel
from vclip.tasks.localization import true_seconds
from vclip.tasks.report import covered
from vclip.training.config import FinetuneConfig
from vclip.training.finetune_pairs import packed_texts
from vclip.training.finetune_windows import cut, spread


def items(dataset: Dataset, corpus: Corpus) -> list[Video]:
    """The annotated videos that have features. Raises TypeError for records without an order of steps."""
    videos = [dataset[i] for i in covered(dataset, corpus)]
    if videos and not isinstance(videos[0], Video):
        raise TypeError(f"localization learns from CrossTask or a data set of its format, not from {dataset}")
    return [video for video in videos if video.segments]


def inputs(
    model: VideoCLIPModel,
    processor: VideoCLIPProcessor,
    corpus: Corpus,
    videos: Sequence[Video],
    config: FinetuneConfig,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Features and mask of every window, word pieces of all videos' steps, and what `loss` compares."""
    features = [corpus.features(corpus.index(video.video_id)) for video in videos]
    windows = cut(features, config.window, config.stride)
    steps = [len(video.steps) for video in videos]
    first = np.cumsum([0, *steps])
    true, own = [], []
    for v, (video, rows) in enumerate(zip(videos, features, strict=True)):
        columns = slice(first[v], first[v + 1])
        true.append(np.zeros((len(rows), first[-1]), np.float32))
        true[v][:, columns] = true_seconds(video.segments, len(rows), steps[v])
        own.append(np.zeros((len(rows), first[-1]), bool))
        own[v][:, columns] = True
    texts = packed_texts(model, processor, [step for video in videos for step in video.steps])
    batch = windows.features, windows.mask, *texts, spread(windows, true, 0), spread(windows, own, False)
    features, mask, ids, pieces, targets, counted = batch
    device = model.device
    return features.to(device), mask.to(device), ids, pieces, targets.to(device), counted.to(device)


def logits(
    model: VideoCLIPModel, features: Float[Tensor, "W S F"], mask: Bool[Tensor, "W S"], ids: Tensor, pieces: Tensor
) -> Float[Tensor, "W S K"]:
    """h_v of every second dot z_t of every step, in float32; [CLS] hidden as a key."""
    h_v = model.get_video_features(features, mask, attend_cls=False).last_hidden_state
    assert h_v is not None
    z_t = model.embed_texts(ids, pieces)
    with torch.autocast(h_v.device.type, enabled=False):
        return h_v.float() @ z_t.float().T


def loss(
    model: VideoCLIPModel,
    features: Float[Tensor, "W S F"],
    mask: Bool[Tensor, "W S"],
    ids: Int[Tensor, " pieces"],
    pieces: Int[Tensor, " K"],
    targets: Float[Tensor, "W S K"],
    counted: Bool[Tensor, "W S K"],
) -> Float[Tensor, ""]:
    """Binary cross-entropy of each second with each of its own video's steps, `counted`; the mean over all windows.

    A second in two windows counts twice, as in the released code.
    """
    found = logits(model, features, mask, ids, pieces)
    return F.binary_cross_entropy_with_logits(found[counted], targets[counted])


def scored(dataset: Dataset, corpus: Corpus, config: FinetuneConfig, rng: np.random.Generator) -> Dataset:
    """Validation puts every step of every video."""
    return dataset


def traits(video: Video) -> tuple[Any, set]:
    """Tasks are the strata, their steps the labels of which each must be trained."""
    return video.task, {(video.task, step) for step, _, _ in video.segments}


def options(config: FinetuneConfig) -> dict[str, Any]:
    """Of `vclip.tasks.localization.examine`."""
    return {"probability": config.probability}
