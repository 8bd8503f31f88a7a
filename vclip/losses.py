"""Contrastive losses by plain dot products, as in the paper: B video clips, M text clips, D hidden size."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def info_nce(
    z_v: Float[Tensor, "B D"], z_t: Float[Tensor, "B D"], temperature: float = 1.0, direction: str = "both"
) -> Float[Tensor, ""]:
    """Symmetric InfoNCE over a batch of aligned clips (eq. 4 and 5; mmpt/losses/nce.py).

    Row i of `z_v` and row i of `z_t` belong together; all other rows are negatives.

    Args:
        z_v, z_t: embeddings of video and text, shape (B, D).
        temperature: tau; 1.0 in the paper.
        direction: "v2t" contrasts each video with all texts, "t2v" each text with all videos, "both" adds the two.

    Returns:
        Scalar loss: for each direction the cross-entropy averaged over B (the paper sums over the batch instead).

    Raises:
        ValueError: for shapes that do not fit, a temperature that is not above 0 or another direction.

    Example:
        >>> info_nce(torch.eye(2), torch.eye(2)).round(decimals=4)
        tensor(0.6265)
    """
    similarity = _dot_products(z_v, z_t, temperature)
    if len(z_v) != len(z_t):
        raise ValueError(f"z_v and z_t need equally many rows, got {len(z_v)} and {len(z_t)}")
    sides = {"v2t": [similarity], "t2v": [similarity.T], "both": [similarity, similarity.T]}
    if direction not in sides:
        raise ValueError(f'direction is "both", "v2t" or "t2v", not {direction!r}')
    truth = torch.arange(len(z_v), device=z_v.device)
    return torch.stack([F.cross_entropy(side, truth) for side in sides[direction]]).sum()


def mil_nce(z_v: Float[Tensor, "B D"], z_t: Float[Tensor, "M D"], owner: Int[Tensor, " M"]) -> Float[Tensor, ""]:
    """MIL-NCE: each video clip has several candidate texts (Miech et al. 2020, eq. 1).

    With s = z_v z_t^T and P_i = {j : owner[j] = i} the loss is the mean over i of

        -log  sum_{j in P_i} e^s[i, j]  /  ( sum_{all j} e^s[i, j] + sum_{k != i, j in P_i} e^s[k, j] ).

    The denominator counts the positives once, as the published equation does; the code released with that paper
    counts them twice.

    Args:
        z_v, z_t: embeddings of video, shape (B, D), and text, shape (M, D).
        owner: the row of `z_v` that each text belongs to, shape (M,).

    Returns:
        Scalar loss.

    Raises:
        ValueError: for widths that differ, or a clip without a text.

    Example:
        >>> mil_nce(torch.eye(2), torch.eye(2), torch.arange(2)).round(decimals=4)
        tensor(0.5514)
    """
    similarity = _dot_products(z_v, z_t)
    positive = owner[None, :] == torch.arange(len(z_v), device=z_v.device)[:, None]
    if positive.shape != similarity.shape or not bool(positive.any(dim=1).all() and positive.any(dim=0).all()):
        raise ValueError(f"each of the {len(z_v)} clips needs a text of its own, and each text an owner among them")
    # the least finite number instead of -inf: the gradient of logsumexp over nothing but -inf is NaN
    least = torch.finfo(similarity.dtype).min
    agreeing = similarity.masked_fill(~positive, least).logsumexp(dim=1)
    all_texts = similarity.logsumexp(dim=1)
    other_videos = similarity.masked_fill(positive, least).logsumexp(dim=0)
    other_videos = other_videos.expand_as(similarity).masked_fill(~positive, least).logsumexp(dim=1)
    return (torch.logaddexp(all_texts, other_videos) - agreeing).mean()


def _dot_products(z_v: Float[Tensor, "B D"], z_t: Float[Tensor, "M D"], tau: float = 1.0) -> Float[Tensor, "B M"]:
    if not 0 < tau < float("inf"):
        raise ValueError(f"temperature must be a number above 0, got {tau}")
    if [z_v.ndim, z_t.ndim] != [2, 2] or z_v.shape[1] != z_t.shape[1] or not min(z_v.numel(), z_t.numel()):
        raise ValueError(f"z_v and z_t must be (clips, D), not empty; got {tuple(z_v.shape)} and {tuple(z_t.shape)}")
    # plain dot products reach hundreds, where bfloat16 has steps of 2: at least float32, under autocast too
    with torch.autocast(z_v.device.type, enabled=False):
        wide = torch.promote_types(z_v.dtype, torch.float32)
        return z_v.to(wide) @ z_t.to(wide).T / tau
