"""Packed batches: V videos, B clips of T seconds (F features), M text rows of L tokens, hidden size D."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float16, Int
from torch import Tensor

from vclip.data.corpus import Corpus
from vclip.data.samplers import Clips, PerClip, Videos, ranges
from vclip.models.config import VideoCLIPConfig
from vclip.models.dual_encoder import evaluating
from vclip.models.packing import on_device
from vclip.models.videoclip import VideoCLIPModel


class Batch(NamedTuple):
    """B video clips and M text rows [CLS] tokens [SEP] without padding, laid end to end, as `embed_packed` takes them.

    `owner` is the clip that each text row belongs to; None where M = B and row j belongs to clip j.
    """

    features: Float16[np.ndarray, "sum_T F"]
    video_lengths: PerClip
    ids: Int[np.ndarray, " sum_L"]
    text_lengths: Int[np.ndarray, " M"]
    owner: Int[np.ndarray, " M"] | None


def pack(
    corpus: Corpus, videos: Videos, clips: Clips, config: VideoCLIPConfig, separate_captions: bool = False
) -> Batch:
    """The packed batch of `clips`, drawn from `videos` (V,), cut to the limits of a model's `config`.

    With `separate_captions` every caption of a clip is a text row of its own, else a clip's captions are one row.
    """
    given = np.atleast_1d(videos)
    video = np.repeat(given, len(clips.video_start) // len(given))
    ends = np.minimum(clips.video_end, clips.video_start + config.max_video_tokens)
    features, video_lengths = corpus.gather_features(video, clips.video_start, ends)
    first, last = (corpus.caption_offsets[video] + c for c in (clips.caption_first, clips.caption_last))
    owner = None
    if separate_captions:
        owner = np.repeat(np.arange(len(video)), last - first)
        first = ranges(first, last - first)
        last = first + 1
    # captions of one video lie end to end, so the tokens of a text clip are one range
    begin = corpus.token_offsets[first]
    tokens = np.minimum(corpus.token_offsets[last] - begin, config.max_text_tokens)
    text_lengths = tokens + 2
    row_end = np.cumsum(text_lengths)
    ids = np.empty(text_lengths.sum(), dtype=np.int64)
    is_token = np.ones(len(ids), dtype=bool)
    for at, special in ((row_end - text_lengths, config.cls_token_id), (row_end - 1, config.sep_token_id)):
        ids[at], is_token[at] = special, False
    ids[is_token] = corpus.token_ids[ranges(begin, tokens)]
    return Batch(features, video_lengths, ids, text_lengths, owner)


def packed_tensors(
    model: VideoCLIPModel, corpus: Corpus, videos: np.ndarray, clips: Clips, separate_captions: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """`pack` as tensors: rows on the model's device; lengths on the CPU, where the packing is planned."""
    batch = pack(corpus, videos, clips, model.config, separate_captions)
    features, video_lengths, ids, text_lengths = (torch.from_numpy(array) for array in batch[:4])
    owner = None if batch.owner is None else on_device(torch.from_numpy(batch.owner), model.device)
    return on_device(features, model.device), video_lengths, on_device(ids, model.device), text_lengths, owner


def embed_clips(
    model: VideoCLIPModel, corpus: Corpus, videos: np.ndarray, clips: Clips
) -> tuple[np.ndarray, np.ndarray]:
    """z_v and z_t (B, D) float32 of clips that a sampler drew from `videos`."""
    with evaluating(model):
        z_v, z_t = model.embed_packed(*packed_tensors(model, corpus, videos, clips)[:4])
    return z_v.float().cpu().numpy(), z_t.float().cpu().numpy()
