"""Clips of different lengths laid end to end: no row is padding.

Shapes: B clips, S rows of all clips, D hidden size.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def on_device(rows: Tensor, device: torch.device) -> Tensor:
    """`rows` on `device`; from the CPU to CUDA through pinned memory, so that nobody waits for what is queued there."""
    if device.type == "cuda" and rows.device.type == "cpu":
        return rows.pin_memory().to(device, non_blocking=True)
    return rows.to(device)


class Packing:
    """B clips of `lengths` rows, sorted by length so that clips of equal length form one dense block.

    `clip` (S,): the clip that each row belongs to; `within` (S,): its place there; `length` (S,): its clip's length;
    `given` (S,): its place among the rows of all clips in the order of `lengths`.
    `starts` (B+1,) int32: where each clip begins and the last ends, in row order; `longest`: rows of the longest.
    `blocks`: (length, number of clips) of each block, in row order.
    Planned once a batch, from `lengths` on the CPU, so that nothing has to wait for the device; only they go there.
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
