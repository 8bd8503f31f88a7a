"""Clips and captions -> z_v and z_t, in packed batches, without dropout or gradient.

Shapes: B video clips, M texts (B, or one a candidate caption), T seconds of a clip, F feature size, D hidden size.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from vclip.models.processor import VideoCLIPProcessor
from vclip.models.videoclip import VideoCLIPModel

AT_ONCE = 512


def embed_videos(model: VideoCLIPModel, clips: Sequence[np.ndarray]) -> np.ndarray:
    """z_v (B, D) float32 of clips (T, F): the first `max_video_tokens` seconds of each, as the released code does."""
    out = [torch.zeros(0, model.config.video_config.hidden_size)]
    with evaluating(model):
        for group in _groups(clips):
            cut = [np.asarray(clip[: model.config.max_video_tokens]) for clip in group]
            features = torch.from_numpy(np.concatenate(cut))  # a copy: torch warns of maps it cannot write to
            seconds = torch.tensor([len(clip) for clip in cut])
            out.append(model.embed_videos(features.to(model.device), seconds).float().cpu())
    return torch.cat(out).numpy()


def embed_texts(model: VideoCLIPModel, processor: VideoCLIPProcessor, texts: Sequence[str]) -> np.ndarray:
    """z_t (M, D) float32 of texts, cut to `max_text_tokens` word pieces."""
    out = [torch.zeros(0, model.config.text_config.hidden_size)]
    with evaluating(model):
        for group in _groups(texts):
            rows = processor(text=list(group))
            mask = rows["attention_mask"].bool()
            ids, pieces = rows["input_ids"][mask].to(model.device), mask.sum(dim=1)
            out.append(model.embed_texts(ids, pieces).float().cpu())
    return torch.cat(out).numpy()


@contextmanager
def evaluating(model: VideoCLIPModel) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)


def _groups(items: Sequence) -> Iterator[Sequence]:
    for first in range(0, len(items), AT_ONCE):
        yield items[first : first + AT_ONCE]
