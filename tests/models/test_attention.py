import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig

from vclip.models.packing import PackedSelfAttention, Packing, attend, by_length, flash

import corpora

HEADS, SIZE = 2, 8
SCALE = SIZE**-0.5


def made(lengths: list[int], dtype=torch.float64, device="cpu") -> tuple[Packing, list[torch.Tensor]]:
    """Query, key and value, with gradient."""
    generator = torch.Generator().manual_seed(0)
    shape = (sum(lengths), HEADS, SIZE)
    rows = [torch.randn(shape, generator=generator, dtype=torch.float64).to(device, dtype) for _ in range(3)]
    return Packing(torch.tensor(lengths), torch.device(device)), [r.requires_grad_() for r in rows]


def one_by_one(query, key, value, packing: Packing) -> torch.Tensor:
    """Each row against the rows of its own clip."""
    out = []
    for i, clip in enumerate(packing.clip.tolist()):
        own = packing.clip == clip
        weights = (SCALE * torch.einsum("he,jhe->hj", query[i], key[own])).exp()
        out.append(torch.einsum("hj,jhe->he", weights / weights.sum(1, keepdim=True), value[own]))
    return torch.stack(out)


def with_gradients(attended: torch.Tensor, rows: list[torch.Tensor]) -> list[torch.Tensor]:
    weight = torch.randn(attended.shape, generator=torch.Generator().manual_seed(1)).to(attended)
    return [attended, *torch.autograd.grad((attended * weight).sum(), rows)]


def gradients_of_ones(attended: torch.Tensor, rows: list[torch.Tensor]) -> list[torch.Tensor]:
    return [attended, *torch.autograd.grad(attended, rows, torch.ones_like(attended))]


def identity(length: int, clips: int, heads: int, device: str) -> tuple[Packing, list[torch.Tensor]]:
    """Rows that weigh all alike, and values that show the weights: (clip and row, head, weight)."""
    zeros = torch.zeros(clips * length, heads, length, device=device)
    value = torch.eye(length, device=device)[:, None].repeat(clips, heads, 1)
    return Packing(torch.full((clips,), length), torch.device(device)), [zeros, zeros, value]


def check_dropout(weights: torch.Tensor, length: int, clips: int, dropout: float) -> None:
    """Each weight is dropped with probability `dropout`, independent of any other, and else divided by the rest."""
    kept = weights != 0
    expected = kept / (length * (1 - dropout))
    torch.testing.assert_close(weights, expected.to(weights))
    n = kept.numel()
    share = kept.float().mean().item()
    assert abs(share - (1 - dropout)) < 5 * (dropout * (1 - dropout) / n) ** 0.5
    both = (1 - dropout) ** 2
    kept = kept.unflatten(0, (clips, length))
    for axis in range(kept.ndim):  # of clips, rows, heads, weights
        first, second = kept.narrow(axis, 1, kept.shape[axis] - 1), kept.narrow(axis, 0, kept.shape[axis] - 1)
        pairs = (first & second).float()
        # neighbouring pairs share a weight, which makes their mean vary at most three times as much
        assert abs(pairs.mean().item() - both) < 5 * (3 * both * (1 - both) / pairs.numel()) ** 0.5


@given(lengths=st.lists(st.integers(2, 6), min_size=1, max_size=7))
def test_value_and_gradient_equal_a_loop_over_rows(lengths):
    packing, rows = made(lengths)
    ours, loop = (with_gradients(out, rows) for out in (attend(*rows, packing, SCALE), one_by_one(*rows, packing)))
    torch.testing.assert_close(ours, loop)


def test_gradient_is_of_the_weights_that_dropout_left():
    packing, rows = made([3, 2, 3])

    def attended(*rows: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(0)
        return attend(*rows, packing, SCALE, 0.5)

    assert not torch.allclose(attended(*rows), attend(*rows, packing, SCALE))
    assert torch.autograd.gradcheck(attended, rows, fast_mode=True)


def test_dropout_drops_each_weight_alone():
    torch.manual_seed(0)
    packing, rows = identity(length=16, clips=32, heads=4, device="cpu")
    check_dropout(attend(*rows, packing, 1.0, 0.1), 16, 32, 0.1)


def test_attention_stays_inside_each_clip_and_drops_nothing_in_evaluation():
    torch.manual_seed(0)
    config = BertConfig(**corpora.TOWER, attn_implementation="sdpa", attention_probs_dropout_prob=0.5)
    attention = PackedSelfAttention(config).eval()
    lengths = [4, 2, 4, 3]
    packing = Packing(torch.tensor(lengths), torch.device("cpu"))
    rows = torch.randn(sum(lengths), 32)
    packed = attention(rows[None], packing=packing)[0][0]
    for clip in range(len(lengths)):
        own = packing.clip == clip
        torch.testing.assert_close(packed[own], attention(rows[own][None])[0][0])
    assert not torch.allclose(packed, attention.train()(rows[None], packing=packing)[0][0])


def test_flash_attention_is_called_as_the_kernel_declares_it():
    packing, rows = made([3, 5, 3], torch.bfloat16, "meta")
    attended, *gradients = gradients_of_ones(flash(*rows, packing, SCALE, 0.1), rows)
    assert [r.shape for r in (attended, *gradients)] == [rows[0].shape] * 4
    assert packing.starts.dtype == torch.int32


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@cuda
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_flash_attention_equals_one_attention_a_length(dtype):
    lengths = [34, 5, 18, 5, 63, 2]
    packing, half = made(lengths, dtype, "cuda")
    rows = [r.detach().float().requires_grad_() for r in half]
    expected = with_gradients(by_length(*rows, packing, SCALE, 0.0), rows)
    ours = with_gradients(attend(*half, packing, SCALE), half)
    torch.testing.assert_close(ours[0], with_gradients(flash(*half, packing, SCALE, 0.0), half)[0])
    torch.testing.assert_close([r.float() for r in ours], expected, atol=2e-2, rtol=2e-2)


@cuda
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_on_cuda_drops_each_weight_alone(dtype):
    torch.manual_seed(0)
    packing, rows = identity(length=16, clips=32, heads=4, device="cuda")
    weights = attend(*(r.to(dtype) for r in rows), packing, 1.0, 0.125)
    check_dropout(weights, 16, 32, 0.125)


@cuda
def test_half_precision_on_cuda_waits_for_nothing():
    packing, rows = made([3, 5, 3], torch.bfloat16, "cuda")
    attend(*rows, packing, SCALE, 0.1)
    torch.cuda.set_sync_debug_mode("error")
    try:
        gradients_of_ones(attend(*rows, packing, SCALE, 0.1), rows)
        packing.pool(rows[0].flatten(1), "mean").sum().backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
