import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vclip.models.packing import Packing

LENGTHS = st.lists(st.integers(2, 6), min_size=1, max_size=9)


def rows_of(packing: Packing, rows: torch.Tensor, clip: int) -> torch.Tensor:
    """One clip's rows in order, found one at a time."""
    places = {int(packing.within[i]): i for i in range(len(rows)) if packing.clip[i] == clip}
    return rows[[places[place] for place in sorted(places)]]


@given(lengths=LENGTHS)
def test_every_row_of_every_clip_comes_once_in_blocks_of_one_length(lengths):
    packing = Packing(torch.tensor(lengths), torch.device("cpu"))
    pairs = zip(packing.clip.tolist(), packing.within.tolist(), strict=True)
    assert sorted(pairs) == [(clip, i) for clip, length in enumerate(lengths) for i in range(length)]
    assert packing.length.tolist() == [lengths[clip] for clip in packing.clip]
    order = list(dict.fromkeys(packing.clip.tolist()))
    assert packing.starts.tolist() == [0, *itertools.accumulate(lengths[clip] for clip in order)]
    assert packing.given.tolist() == [
        sum(lengths[:clip]) + i for clip, i in zip(packing.clip.tolist(), packing.within.tolist(), strict=True)
    ]
    assert packing.longest == max(lengths)
    assert packing.blocks == [(n, lengths.count(n)) for n in sorted(set(lengths))]
    blocks = packing.split(torch.arange(sum(lengths), dtype=torch.float32))
    assert torch.cat([block.flatten() for block in blocks]).tolist() == list(range(sum(lengths)))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@given(lengths=LENGTHS)
def test_pooling_equals_a_loop_over_clips(pooling, lengths):
    packing = Packing(torch.tensor(lengths), torch.device("cpu"))
    states = torch.randn(sum(lengths), 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    clips = [rows_of(packing, states, clip) for clip in range(len(lengths))]
    expected = torch.stack([rows[0] if pooling == "cls" else rows[1:].mean(0) for rows in clips])
    pooled = packing.pool(states, pooling)
    torch.testing.assert_close(pooled, expected)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    gradients = (torch.autograd.grad((z * weight).sum(), states)[0] for z in (pooled, expected))
    torch.testing.assert_close(*gradients)


def test_pooling_sums_half_precision_in_fp32():
    packing = Packing(torch.tensor([1025]), torch.device("cpu"))
    states = torch.ones(1025, 1, dtype=torch.bfloat16)  # which counts no further than 256 by ones
    assert packing.pool(states, "mean").item() == 1.0
