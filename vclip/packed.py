"""Clips of different lengths laid end to end: no row is padding, attention stays inside each clip.

Shapes: B clips, S rows of all clips, D hidden size.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from transformers.models.bert.modeling_bert import BertSelfAttention


class Packing:
    """B clips of `lengths` rows, sorted by length so that clips of equal length form one dense block.

    `clip` (S,): the clip that each row belongs to; `within` (S,): its place there; `length` (S,): its clip's length.
    `blocks`: (length, number of clips) of each block, in row order.
    """

    def __init__(self, lengths: Int[Tensor, " B"], device: torch.device):
        lengths = lengths.cpu().long()
        order = torch.argsort(lengths, stable=True)
        in_order = lengths[order]
        distinct, counts = torch.unique_consecutive(in_order, return_counts=True)
        self.blocks = list(zip(distinct.tolist(), counts.tolist(), strict=True))
        self._back = torch.argsort(order).to(device)
        starts = in_order.cumsum(0) - in_order
        within = torch.arange(int(lengths.sum())) - torch.repeat_interleave(starts, in_order)
        self.within = within.to(device)
        self.clip = torch.repeat_interleave(order, in_order).to(device)
        self.length = torch.repeat_interleave(in_order, in_order).to(device)

    def split(self, rows: Float[Tensor, "S ..."]) -> list[Tensor]:
        """One tensor (clips, length, ...) a block."""
        # split, not slices: the backward of many slices would fill a whole gradient each
        parts = rows.split([length * count for length, count in self.blocks])
        return [p.unflatten(0, (count, length)) for p, (length, count) in zip(parts, self.blocks, strict=True)]

    def pool(self, states: Float[Tensor, "S D"], pooling: str) -> Float[Tensor, "B D"]:
        """One vector a clip, in the order of `lengths`: the mean without the first row, or ("cls") the first row."""
        blocks = self.split(states)
        pooled = [block[:, 0] if pooling == "cls" else block[:, 1:].mean(dim=1) for block in blocks]
        return torch.cat(pooled)[self._back]


class PackedSelfAttention(BertSelfAttention):
    """BERT's self-attention; with `packing`, hidden_states (1, S, D) hold many clips that do not see each other."""

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, *args, packing=None, **kwargs):
        """As BertSelfAttention; `packing` (a Packing) says which rows belong together."""
        if packing is None:
            return super().forward(hidden_states, attention_mask, *args, **kwargs)
        heads = (self.num_attention_heads, self.attention_head_size)
        query, key, value = (
            packing.split(layer(hidden_states)[0].unflatten(-1, heads)) for layer in (self.query, self.key, self.value)
        )
        dropout = self.dropout.p if self.training else 0.0
        attended = [
            F.scaled_dot_product_attention(
                q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), dropout_p=dropout, scale=self.scaling
            ).transpose(1, 2)
            for q, k, v in zip(query, key, value, strict=True)
        ]
        return torch.cat([block.flatten(2).flatten(0, 1) for block in attended])[None], None
