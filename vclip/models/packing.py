"""Clips of different lengths laid end to end, no row padding: B clips, S rows of all clips, D hidden size."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from transformers.models.bert.modeling_bert import BertSelfAttention


def on_device(rows: Tensor, device: torch.device) -> Tensor:
    """`rows` on `device`; from the CPU to CUDA through pinned memory, so that nobody waits for what is queued there."""
    if device.type == "cuda" and rows.device.type == "cpu":
        return rows.pin_memory().to(device, non_blocking=True)
    return rows.to(device)


class Packing:
    """B clips of `lengths` rows, sorted by length so that clips of equal length form one dense block.

    Of each sorted row, (S,): `clip`, the clip it belongs to; `within`, its place in the clip; `length`, the clip's;
    `given`, its place before sorting. Lengths [3, 1] put clip 1 first: clip [1, 0, 0, 0], within [0, 0, 1, 2], given
    [3, 0, 1, 2]. `starts` (B+1,) int32: where each sorted clip begins, and the last ends; `longest`: rows of the
    longest. `blocks`: (length, number of clips) of each block. Planned once a batch, from `lengths` on the CPU, so
    that nothing has to wait for the device.
    """

    def __init__(self, lengths: Int[Tensor, " B"], device: torch.device):
        lengths = lengths.cpu().long()
        distinct, counts = torch.unique(lengths, return_counts=True)
        self.blocks = list(zip(distinct.tolist(), counts.tolist(), strict=True))
        self.longest = self.blocks[-1][0]
        total = sum(length * count for length, count in self.blocks)
        lengths = on_device(lengths, device)
        order = torch.argsort(lengths, stable=True)
        in_order = lengths[order]
        self._back = torch.argsort(order)
        starts = torch.cat([in_order.new_zeros(1), in_order.cumsum(0)])
        self.clip = torch.repeat_interleave(order, in_order, output_size=total)
        self.length = lengths[self.clip]
        self.within = torch.arange(total, device=device) - starts[self._back[self.clip]]
        self.given = (lengths.cumsum(0) - lengths)[self.clip] + self.within
        self.starts = starts.int()

    def split(self, rows: Float[Tensor, "S ..."]) -> list[Tensor]:
        """One tensor (clips, length, ...) a block."""
        # split, not slices: the backward of many slices would fill a whole gradient each
        parts = rows.split([length * count for length, count in self.blocks])
        return [p.unflatten(0, (count, length)) for p, (length, count) in zip(parts, self.blocks, strict=True)]

    def pool(self, states: Float[Tensor, "S D"], pooling: str) -> Float[Tensor, "B D"]:
        """One vector a clip, in the order of `lengths`: the mean without the first row, or ("cls") the first row."""
        first = self.starts[:-1]
        if pooling == "cls":
            return states[first[self._back]]
        # summed in fp32 at least; `unsafe` leaves out checks that wait for the device
        rows = states.masked_fill((self.within == 0)[:, None], 0).to(torch.promote_types(states.dtype, torch.float32))
        sums = torch.segment_reduce(rows, "sum", offsets=self.starts, unsafe=True)
        return (sums / (self.starts[1:] - first - 1)[:, None])[self._back].to(states.dtype)


def attend(
    query: Float[Tensor, "S H E"],
    key: Float[Tensor, "S H E"],
    value: Float[Tensor, "S H E"],
    packing: Packing,
    scale: float,
    dropout: float = 0.0,
) -> Float[Tensor, "S H E"]:
    """softmax(scale query key^T) value, each clip for itself; `dropout` is the fraction of weights that are dropped."""
    has_flash = (
        query.is_cuda
        and query.dtype in (torch.float16, torch.bfloat16)
        and query.shape[-1] in range(8, 257, 8)
        and torch.backends.cuda.is_flash_attention_available()
        and torch.cuda.get_device_capability(query.device) >= (8, 0)
    )
    return (flash if has_flash else by_length)(query, key, value, packing, scale, dropout)


def flash(query: Tensor, key: Tensor, value: Tensor, packing: Packing, scale: float, dropout: float) -> Tensor:
    """`attend` by FlashAttention-2 (Dao 2023, arXiv:2307.08691) for clips laid end to end."""
    starts, longest = packing.starts, packing.longest
    # PyTorch's public ways to this kernel: `varlen_attn` has no dropout, nested tensors cost the host 1 ms a layer
    return torch.ops.aten._flash_attention_forward(
        query, key, value, starts, starts, longest, longest, dropout, False, False, scale=scale
    )[0]


def by_length(query: Tensor, key: Tensor, value: Tensor, packing: Packing, scale: float, dropout: float) -> Tensor:
    """`attend`, dense, block by block; on a CPU masked padding takes as long or 1.3 times as long (bench_attention)."""
    attended = []
    for block in zip(*map(packing.split, (query * scale, key, value)), strict=True):
        q, k, v = (rows.transpose(1, 2) for rows in block)
        if dropout and q.device.type == "cpu":
            # PyTorch's fused kernel for CPUs knows no dropout, and what it falls back on is slower than this
            out = F.dropout((q @ k.transpose(-1, -2)).softmax(-1), dropout) @ v
        else:
            out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=1.0)
        attended.append(out.transpose(1, 2).flatten(0, 1))
    return torch.cat(attended)


class PackedSelfAttention(BertSelfAttention):
    """BERT's self-attention; with `packing`, hidden_states (1, S, D) hold many clips that do not see each other."""

    def forward(self, hidden_states: Tensor, attention_mask: Tensor | None = None, *args, packing=None, **kwargs):
        if packing is None:
            return super().forward(hidden_states, attention_mask, *args, **kwargs)
        heads = (self.num_attention_heads, self.attention_head_size)
        query, key, value = (part(hidden_states)[0].unflatten(-1, heads) for part in (self.query, self.key, self.value))
        attended = attend(query, key, value, packing, self.scaling, self.dropout.p if self.training else 0.0)
        return attended.flatten(1)[None], None
