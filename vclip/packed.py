"""Clips of different lengths laid end to end: no row is padding.

Shapes: B clips, S rows of all clips, D hidden size.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Packing:
    """B clips of `lengths` rows, sorted by length so that clips of equal length form one dense block.

    `clip` (S,): the clip that each row belongs to; `within` (S,): its place there; `length` (S,): its clip's length.
    `starts` (B+1,) int32: where each clip begins and the last ends, in row order; `longest`: rows of the longest.
    `blocks`: (length, number of clips) of each block, in row order.
    Planned once a batch, on the CPU, so that no layer has to wait for the device.
    """

    def __init__(self, lengths: Int[Tensor, " B"], device: torch.device):
        lengths = lengths.cpu().long()
        order = torch.argsort(lengths, stable=True)
        in_order = lengths[order]
        distinct, counts = torch.unique_consecutive(in_order, return_counts=True)
        self.blocks = list(zip(distinct.tolist(), counts.tolist(), strict=True))
        self.longest = int(in_order[-1])
        self._back = torch.argsort(order).to(device)
        starts = torch.cat([torch.zeros(1, dtype=torch.int64), in_order.cumsum(0)])
        within = torch.arange(int(starts[-1])) - torch.repeat_interleave(starts[:-1], in_order)
        self.starts = starts.int().to(device)
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
        first = self.starts[:-1]
        if pooling == "cls":
            return states[first[self._back]]
        # summed in fp32 at least; `unsafe` leaves out checks that wait for the device
        rows = states.masked_fill((self.within == 0)[:, None], 0).to(torch.promote_types(states.dtype, torch.float32))
        sums = torch.segment_reduce(rows, "sum", offsets=self.starts, unsafe=True)
        return (sums / (self.starts[1:] - first - 1)[:, None])[self._back].to(states.dtype)
