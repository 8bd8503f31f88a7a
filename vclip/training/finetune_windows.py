"""Segmentation and localization: long videos as overlapping windows, with the truth of every second.

W windows, S seconds of one, F feature size, K steps of all the batch's videos one after another.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from vclip.data.corpus import Corpus
from vclip.datasets import crosstask
from vclip.datasets._records import Dataset
from vclip.datasets.coin import COIN, Video
from vclip.models.dual_encoder import VideoCLIP
from vclip.models.segmenter import VideoCLIPForSegmentation
from vclip.models.videoclip import VideoCLIPModel
from vclip.models.windows import sliding_windows
from vclip.tasks.localization import true_seconds
from vclip.tasks.report import covered
from vclip.tasks.segmentation import targets
from vclip.training.finetune_task import Task, packed_texts

IGNORED = -100


class WindowedTask(Task):
    """Videos in windows of `config.window` seconds, one every `config.stride`; a second in two windows counts twice."""

    by_loss = True

    def check(self, model: VideoCLIPModel, training: Sequence, validation: Sequence) -> None:
        """The model must read a window at once."""
        if self.config.window > (longest := model.config.max_video_tokens):
            raise ValueError(
                f"the model reads {longest} seconds at a time: window is {self.config.window}, set it to {longest}"
            )

    def windows(self, clip: VideoCLIP, *values: tuple[Sequence[np.ndarray], float]) -> tuple[Tensor, ...]:
        """Arrays (T, ...), one for each video, and their padding, as windows on the model's device."""
        size, stride, device = self.config.window, self.config.stride, clip.model.device
        return tuple(in_windows(arrays, size, stride, padding).to(device) for arrays, padding in values)


class Segmentation(WindowedTask):
    """Action segmentation: a linear layer over each second's state says step or Outside (coin_videoclip.yaml)."""

    def new_model(self, checkpoint: str, dataset: Dataset) -> VideoCLIPForSegmentation:
        """The checkpoint with a fresh classifier of Outside and the data set's steps, its text tower frozen.

        Raises ValueError for a checkpoint with another classifier.
        """
        assert isinstance(dataset, COIN)
        classes = ["Outside", *dataset.texts]
        try:
            model = VideoCLIPForSegmentation.from_pretrained(checkpoint, num_labels=len(classes))
        except RuntimeError as error:
            raise ValueError(
                f"{checkpoint} already has a classifier, but not of {len(classes)} classes: start from a checkpoint "
                f"without one ({str(error).splitlines()[0]})"
            ) from None
        model.config.id2label = dict(enumerate(classes))
        if model.text_model is not None:
            model.text_model.requires_grad_(False)
        return model

    def items(self, dataset: Dataset, corpus: Corpus) -> list[Video]:
        """The videos that have features; their steps must be numbered."""
        if not isinstance(dataset, COIN):
            raise TypeError(f"segmentation learns from COIN or a data set of its format, not from {dataset}")
        return [dataset[i] for i in covered(dataset, corpus)]

    def inputs(
        self, clip: VideoCLIP, corpus: Corpus, items: Sequence[Video], rng: np.random.Generator
    ) -> tuple[Tensor, ...]:
        """Features, mask and the class of every second of every window; IGNORED behind a window's end."""
        features, seen = _seconds(corpus, items)
        truth = [targets(video.segments, len(rows)) for video, rows in zip(items, features, strict=True)]
        return self.windows(clip, (features, 0), (seen, False), (truth, IGNORED))

    def loss(self, model: VideoCLIPModel, *inputs: Tensor) -> Tensor:
        """Cross-entropy, the mean over all windows' seconds."""
        return model(*inputs).loss

    def traits(self, record: Video) -> tuple[Any, set[int]]:
        """Tasks are the strata; each step must be trained."""
        return record.task, {segment.label for segment in record.segments}


class Localization(WindowedTask):
    """Step localization: is each step of a video's task done at each second? (crosstask_videoclip.yaml)"""

    def items(self, dataset: Dataset, corpus: Corpus) -> list[crosstask.Video]:
        """The annotated videos that have features; their steps must have an order."""
        videos = [dataset[i] for i in covered(dataset, corpus)]
        if videos and not isinstance(videos[0], crosstask.Video):
            raise TypeError(f"localization learns from CrossTask or a data set of its format, not from {dataset}")
        return [video for video in videos if video.segments]

    def inputs(
        self, clip: VideoCLIP, corpus: Corpus, items: Sequence[crosstask.Video], rng: np.random.Generator
    ) -> tuple[Tensor, ...]:
        """Features and mask of every window, tokens of all videos' steps, and what `loss` compares."""
        features, seen = _seconds(corpus, items)
        first = np.cumsum([0, *(len(video.steps) for video in items)])
        true = [np.zeros((len(rows), first[-1]), np.float32) for rows in features]
        own = [np.zeros(each.shape, bool) for each in true]
        for v, video in enumerate(items):
            columns = slice(first[v], first[v + 1])
            true[v][:, columns] = true_seconds(video.segments, len(features[v]), len(video.steps))
            own[v][:, columns] = True
        texts = packed_texts(clip, [step for video in items for step in video.steps])
        return *self.windows(clip, (features, 0), (seen, False)), *texts, *self.windows(clip, (true, 0), (own, False))

    def loss(self, model: VideoCLIPModel, *inputs: Tensor) -> Tensor:
        """Binary cross-entropy of each second with each of its own video's steps, the mean over all windows."""
        *seconds_and_steps, truth, own = inputs
        found = logits(model, *seconds_and_steps)
        return F.binary_cross_entropy_with_logits(found[own], truth[own])

    def options(self) -> dict[str, Any]:
        return {"probability": self.config.probability}

    def traits(self, record: crosstask.Video) -> tuple[Any, set]:
        """Tasks are the strata; each of their steps must be trained."""
        return record.task, {(record.task, step) for step, _, _ in record.segments}


def logits(
    model: VideoCLIPModel,
    features: Float[Tensor, "W S F"],
    mask: Bool[Tensor, "W S"],
    ids: Tensor,
    text_lengths: Tensor,
) -> Float[Tensor, "W S K"]:
    """h_v of every second dot z_t of every step, in float32; [CLS] hidden as a key."""
    h_v = model.get_video_features(features, mask, attend_cls=False).last_hidden_state
    assert h_v is not None
    z_t = model.embed_texts(ids, text_lengths)
    with torch.autocast(h_v.device.type, enabled=False):
        return h_v.float() @ z_t.float().T


def _seconds(corpus: Corpus, videos: Sequence) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Features (T, F) of each video, and T times True."""
    features = [np.asarray(corpus.features(corpus.index(video.video_id)), np.float32) for video in videos]
    return features, [np.ones(len(rows), bool) for rows in features]


def in_windows(videos: Sequence[np.ndarray], size: int, stride: int, padding: float = 0) -> Tensor:
    """Values of each second, (T, ...) for each video, in windows (W, size, ...) as `sliding_windows` has them."""
    windows = [
        torch.from_numpy(video[start:end])
        for video in videos
        for start, end in sliding_windows(len(video), size, stride)
    ]
    out = torch.full((len(windows), size, *windows[0].shape[1:]), padding, dtype=windows[0].dtype)
    for row, window in zip(out, windows, strict=True):
        row[: len(window)] = window
    return out
