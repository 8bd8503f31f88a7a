"""Packed batches: V videos, B clips of T seconds (F features), M text rows of L tokens, hidden size D, P processes."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float, Float16, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vclip.data.corpus import Corpus
from vclip.data.samplers import Clips, PerClip, Videos, ranges
from vclip.models.config import VideoCLIPConfig
from vclip.models.locked_text import LockedTextModel
from vclip.models.packing import on_device
from vclip.models.videoclip import VideoCLIPModel
from vclip.models.videoclip_encoder import CLIPS_AT_ONCE, evaluating


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
    """`pack` as tensors: rows on the model's device, lengths on the CPU for planning; a locked text is its vector."""
    batch = pack(corpus, videos, clips, model.config, separate_captions)
    if isinstance(model, LockedTextModel):
        begin = corpus.caption_offsets[np.repeat(videos, len(clips.video_start) // np.size(videos))]
        spans = zip(begin + clips.caption_first, begin + clips.caption_last, strict=True)
        z_t = model.encode_texts([" ".join(corpus.caption_text[slice(*span)].to_pylist()) for span in spans])
        batch = batch._replace(ids=z_t, text_lengths=np.ones(len(z_t), np.int64))
    features, video_lengths, ids, text_lengths = (torch.from_numpy(array) for array in batch[:4])
    owner = None if batch.owner is None else on_device(torch.from_numpy(batch.owner), model.device)
    return on_device(features, model.device), video_lengths, on_device(ids, model.device), text_lengths, owner


def embed_clips(
    model: VideoCLIPModel, corpus: Corpus, videos: np.ndarray, clips: Clips
) -> tuple[np.ndarray, np.ndarray]:
    """z_v and z_t (B, D) float32 of any number of clips that a sampler drew from `videos`."""
    with evaluating(model):
        z_v, z_t = embed_in_mini_batches(model, *packed_tensors(model, corpus, videos, clips)[:4], size=CLIPS_AT_ONCE)
    return z_v.float().cpu().numpy(), z_t.float().cpu().numpy()


def embed_in_mini_batches(
    model: VideoCLIPModel,
    features: Float[Tensor, "sum_T F"],
    video_lengths: Int[Tensor, " B"],
    ids: Int[Tensor, " sum_L"] | Float[Tensor, "sum_L D"],
    text_lengths: Int[Tensor, " M"],
    size: int | None,
) -> tuple[Float[Tensor, "B D"], Float[Tensor, "M D"]]:
    """`model.embed_packed` with cached gradients (GradCache, Gao et al. 2021, arXiv:2101.06983, section 3.2).

    Clips and texts are embedded `size` at a time (None: all at once), keeping no activations, and once more, with the
    same dropout, in the backward pass. Value and gradient are the whole batch's.
    """
    z_v = _embed_in_groups(model.embed_videos, features, video_lengths, size)
    return z_v, _embed_in_groups(model.embed_texts, ids, text_lengths, size)


def _embed_in_groups(embed: Callable, rows: Tensor, lengths: Tensor, size: int | None) -> Tensor:
    if size is None or len(lengths) <= size:
        return embed(rows, lengths)
    groups = lengths.split(size)
    parts = rows.split([int(group.sum()) for group in groups])
    vectors: list[Any] = [checkpoint(embed, *pair, use_reentrant=False) for pair in zip(parts, groups, strict=True)]
    return torch.cat(vectors)


def gather_embeddings(
    z_v: Float[Tensor, "B D"], z_t: Float[Tensor, "B D"]
) -> tuple[Float[Tensor, "PB D"], Float[Tensor, "PB D"]]:
    """The embeddings of all P processes in their order, with gradients to every process.

    The average of gradients that distributed training takes over processes is then the gradient of the same loss on one
    process that holds the whole batch. Every process needs the same number of clips.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return z_v, z_t
    from torch.distributed.nn.functional import all_gather  # some builds of PyTorch have no `distributed`

    return torch.cat(all_gather(z_v)), torch.cat(all_gather(z_t))
