"""Self-attention over packed rows: which kernel, on which device.

Shapes: S rows of all clips, H heads, E size of a head.
"""

from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from transformers.models.bert.modeling_bert import BertSelfAttention

from vclip.packed import Packing


def attend(
    query: Float[Tensor, "S H E"],
    key: Float[Tensor, "S H E"],
    value: Float[Tensor, "S H E"],
    packing: Packing,
    scale: float,
    dropout: float = 0.0,
) -> Float[Tensor, "S H E"]:
    """softmax(scale query key^T) value, each clip for itself; `dropout` is the share of weights that are dropped.

    On CUDA in half precision, one variable-length flash attention. Elsewhere one attention for each distinct length.
    """
    half, fits = query.dtype in (torch.float16, torch.bfloat16), query.shape[-1] in range(8, 257, 8)
    if half and fits and _has_flash(query.device):
        return flash(query, key, value, packing, scale, dropout)
    return by_length(query, key, value, packing, scale, dropout)


def flash(query: Tensor, key: Tensor, value: Tensor, packing: Packing, scale: float, dropout: float) -> Tensor:
    """`attend` by FlashAttention-2 (Dao 2023, arXiv:2307.08691) for clips laid end to end."""
    starts, longest = packing.starts, packing.longest
    # PyTorch's public ways to this kernel: `varlen_attn` knows no dropout, and nested tensors cost the host a
    # millisecond a layer
    return torch.ops.aten._flash_attention_forward(
        query, key, value, starts, starts, longest, longest, dropout, False, False, scale=scale
    )[0]


def by_length(query: Tensor, key: Tensor, value: Tensor, packing: Packing, scale: float, dropout: float) -> Tensor:
    """`attend`, one dense attention for each block of equally long clips.

    On a CPU masked attention over padded rows takes 1.3 times as long or more (`bench_attention`).
    """
    attended = []
    blocks = zip(packing.split(query * scale), packing.split(key), packing.split(value), strict=True)
    for block in blocks:
        q, k, v = (rows.transpose(1, 2) for rows in block)
        if dropout and q.device.type == "cpu":
            # PyTorch's fused kernel for CPUs knows no dropout, and what it falls back on is slower than this
            out = F.dropout((q @ k.transpose(-1, -2)).softmax(-1), dropout) @ v
        else:
            out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=1.0)
        attended.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat(attended)


@cache
def _has_flash(device: torch.device) -> bool:
    return (
        device.type == "cuda"
        and torch.backends.cuda.is_flash_attention_available()
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )


class PackedSelfAttention(BertSelfAttention):
    """BERT's self-attention; with `packing`, hidden_states (1, S, D) hold many clips that do not see each other."""

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, *args, packing=None, **kwargs):
        """As BertSelfAttention; `packing` (a Packing) says which rows belong together."""
        if packing is None:
            return super().forward(hidden_states, attention_mask, *args, **kwargs)
        heads = (self.num_attention_heads, self.attention_head_size)
        query, key, value = (
            layer(hidden_states)[0].unflatten(-1, heads) for layer in (self.query, self.key, self.value)
        )
        attended = attend(query, key, value, packing, self.scaling, self.dropout.p if self.training else 0.0)
        return attended.flatten(1)[None], None
