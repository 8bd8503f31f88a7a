"""Batches larger than a GPU's memory or a process: B clips, M texts, F feature size, D hidden size, P processes."""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vclip.models.videoclip import VideoCLIPModel


def embed_in_mini_batches(
    model: VideoCLIPModel,
    features: Float[Tensor, "sum_T F"],
    video_lengths: Int[Tensor, " B"],
    ids: Int[Tensor, " sum_L"],
    text_lengths: Int[Tensor, " M"],
    size: int | None,
) -> tuple[Float[Tensor, "B D"], Float[Tensor, "M D"]]:
    """`model.embed_packed` with cached gradients (GradCache, Gao et al. 2021, arXiv:2101.06983, section 3.2).

    Clips and texts are embedded `size` at a time (None: all at once), keeping no activations, and once more, with the
    same dropout, in the backward pass. Value and gradient are the whole batch's, memory holds one mini-batch's
    activations.
    """
    if size is None:
        return model.embed_packed(features, video_lengths, ids, text_lengths)
    z_v = _embed_in_groups(model.embed_videos, features, video_lengths, size)
    return z_v, _embed_in_groups(model.embed_texts, ids, text_lengths, size)


def _embed_in_groups(embed: Callable[[Tensor, Tensor], Tensor], rows: Tensor, lengths: Tensor, size: int) -> Tensor:
    if len(lengths) <= size:
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
