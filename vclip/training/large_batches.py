"""Contrastive batches larger than a card's memory, or than a process.

Shapes: B video clips, M texts (B, or one a candidate caption), F feature size, D hidden size, P processes.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from vclip.models.videoclip import VideoCLIPModel


def embed_in_micro_batches(
    model: VideoCLIPModel,
    features: Float[Tensor, "sum_T F"],
    seconds: Int[Tensor, " B"],
    ids: Int[Tensor, " sum_L"],
    pieces: Int[Tensor, " M"],
    size: int | None,
) -> tuple[Float[Tensor, "B D"], Float[Tensor, "M D"]]:
    """`model.embed_packed`, `size` clips or texts at a time, keeping the activations of none (GradCache, Gao et al.
    2021, arXiv:2101.06983, section 3.2).

    `loss(z_v, z_t).backward()` first computes the gradients of all z, which stay, then embeds micro-batch after
    micro-batch again, with the dropout it had (the state of the CPU's and the device's generator is kept for each),
    and adds up the gradients of the parameters. Value and gradient are the whole batch's; in memory are the z of all
    and the activations of one micro-batch; the towers' forward pass is computed twice.
    `size` None is all at once, once. Raises ValueError for `size` below 1 and as `embed_packed` does.
    """
    if size is None:
        return model.embed_packed(features, seconds, ids, pieces)
    if size < 1:
        raise ValueError(f"a micro-batch holds at least one clip, not {size}")
    z_v = _embed_in_groups(model.embed_videos, features, seconds, size)
    return z_v, _embed_in_groups(model.embed_texts, ids, pieces, size)


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
    """The z_v and z_t of all P processes in their order, so that each contrasts its clips with those of all.

    Only this process's rows carry a graph. Distributed training averages the gradients of P processes, each of which
    holds the share of its own rows alone, so these are multiplied by P here: the averaged gradient is then that of the
    same loss, as a mean over all P B clips, on one process that holds the whole batch. One process: z_v and z_t.
    The paper contrasts with the clips of one process. Raises ValueError if the processes hold different numbers.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return z_v, z_t
    shapes = [other.tolist() for other in _gather(torch.tensor([*z_v.shape, *z_t.shape], device=z_v.device))]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"every process needs as many clips as the others; (B, D, B, D) of z_v and z_t are {shapes}")
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
