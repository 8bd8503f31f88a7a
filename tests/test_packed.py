import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig

from vclip.packed import PackedSelfAttention, Packing

import corpora

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
    assert packing.blocks == [(n, lengths.count(n)) for n in sorted(set(lengths))]
    blocks = packing.split(torch.arange(sum(lengths), dtype=torch.float32))
    assert torch.cat([block.flatten() for block in blocks]).tolist() == list(range(sum(lengths)))


@pytest.mark.parametrize("pooling", ["mean", "cls"])
@given(lengths=LENGTHS)
def test_pooling_equals_a_loop_over_clips(pooling, lengths):
    packing = Packing(torch.tensor(lengths), torch.device("cpu"))
    states = torch.randn(sum(lengths), 3, generator=torch.Generator().manual_seed(0))
    clips = [rows_of(packing, states, clip) for clip in range(len(lengths))]
    expected = torch.stack([rows[0] if pooling == "cls" else rows[1:].mean(0) for rows in clips])
    torch.testing.assert_close(packing.pool(states, pooling), expected)


def test_attention_stays_inside_each_clip():
    torch.manual_seed(0)
    attention = PackedSelfAttention(BertConfig(**corpora.TOWER, attn_implementation="sdpa")).eval()
    lengths = [4, 2, 4, 3]
    packing = Packing(torch.tensor(lengths), torch.device("cpu"))
    rows = torch.randn(sum(lengths), 32)
    packed = attention(rows[None], packing=packing)[0][0]
    for clip in range(len(lengths)):
        alone = attention(rows_of(packing, rows, clip)[None])[0][0]
        torch.testing.assert_close(rows_of(packing, packed, clip), alone)
