"""Contrastive batches larger than the memory of a GPU, or than a process.

Shapes: B video clips, M texts (B, or one for each candidate caption), F feature size, D hidden size, P processes.
"""

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

    Clips and texts are embedded `size` at a time, and no activations are kept. `loss(z_v, z_t).backward()` first
    computes the gradients of all z, then embeds one mini-batch after another again, with the dropout it had, and adds
    up the parameters' gradients. Value and gradient are the whole batch's; memory holds all z and the activations of
    one mini-batch; the towers' forward pass is computed twice.

    Args:
        model: the towers.
        features: seconds of all clips, laid end to end.
        video_lengths: seconds of each clip.
        ids: tokens of all texts, laid end to end.
        text_lengths: tokens of each text.
        size: clips or texts of a mini-batch; None: all at once, computed once.

    Returns:
        z_v, shape (B, D), and z_t, shape (M, D).

    Raises:
        ValueError: for `size` below 1, and as `embed_packed` does.
    """
    if size is None:
        return model.embed_packed(features, video_lengths, ids, text_lengths)
    if size < 1:
        raise ValueError(f"a mini-batch must hold at least one clip, got {size}")
    z_v = _embed_in_groups(model.embed_videos, features, video_lengths, size)
    return z_v, _embed_in_groups(model.embed_texts, ids, text_lengths, size)


def _embed_in_groups(embed: Callable[[Tensor, Tensor], Tensor], rows: Tensor, lengths: Tensor, size: int) -> Tensor:
    if len(lengths) <= size or int(lengths.sum()) != len(rows) or int(lengths.min()) < 0:
        return embed(rows, lengths)  # which refuses lengths that do not add up
    groups = lengths.split(size)
    parts = rows.split([int(group.sum()) for group in groups])
    vectors: list[Any] = [checkpoint(embed, *pair, use_reentrant=False) for pair in zip(parts, groups, strict=True)]
    return torch.cat(vectors)


def gather_embeddings(
    z_v: Float[Tensor, "B D"], z_t: Float[Tensor, "B D"]
) -> tuple[Float[Tensor, "PB D"], Float[Tensor, "PB D"]]:
    """Gather the embeddings of all P processes, so that each contrasts its clips with those of all.

    Only this process's rows carry a graph. Distributed training averages the gradients of P processes, each of which
    holds only the part of its own rows, so these are multiplied by P here: the averaged gradient is then that of the
    same loss, a mean over all P B clips, on one process that holds the whole batch. The paper contrasts with the clips
    of one process.

    Args:
        z_v: video embeddings of this process, shape (B, D).
        z_t: text embeddings of this process, shape (B, D).

    Returns:
        Those of all processes in their order, shape (P B, D); with one process, z_v and z_t themselves.

    Raises:
        ValueError: if the processes hold different numbers of clips.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return z_v, z_t
    shapes = [other.tolist() for other in _gather(torch.tensor([*z_v.shape, *z_t.shape], device=z_v.device))]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"every process needs the same number of clips; (B, D, B, D) of z_v and z_t are {shapes}")
    return _gather_rows(z_v), _gather_rows(z_t)


def _gather_rows(z: Tensor) -> Tensor:
    rows = _gather(z.detach())
    own = z.clone()
    if own.requires_grad:
        own.register_hook(lambda gradient: gradient * len(rows))
    rows[dist.get_rank()] = own
    return torch.cat(rows)


def _gather(tensor: Tensor) -> list[Tensor]:
    tensor = tensor.contiguous()
    gathered = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, tensor)
    return gathered
