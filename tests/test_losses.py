import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from jaxtyping import TypeCheckError

from vclip.losses import info_nce, mil_nce


def loop_info_nce(z_v, z_t, temperature, direction):
    total = {"v2t": 0.0, "t2v": 0.0}
    for i in range(len(z_v)):
        truth = torch.exp(z_v[i] @ z_t[i] / temperature)
        total["v2t"] = total["v2t"] - torch.log(truth / sum(torch.exp(z_v[i] @ t / temperature) for t in z_t))
        total["t2v"] = total["t2v"] - torch.log(truth / sum(torch.exp(v @ z_t[i] / temperature) for v in z_v))
    total["both"] = total["v2t"] + total["t2v"]
    return total[direction] / len(z_v)


def loop_mil_nce(z_v, z_t, owner):
    total = 0.0
    for i in range(len(z_v)):
        positive = [j for j in range(len(z_t)) if owner[j] == i]
        numerator = sum(torch.exp(z_v[i] @ z_t[j]) for j in positive)
        denominator = sum(torch.exp(z_v[i] @ t) for t in z_t)
        denominator = denominator + sum(torch.exp(z_v[k] @ z_t[j]) for k in range(len(z_v)) for j in positive if k != i)
        total = total - torch.log(numerator / denominator)
    return total / len(z_v)


def gradients(loss, *tensors):
    return torch.autograd.grad(loss, tensors)


def vectors(seed, *shape):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 7), st.integers(0, 1000), st.sampled_from(["both", "v2t", "t2v"]), st.floats(0.2, 3.0))
def test_info_nce_equals_the_loop(b, seed, direction, temperature):
    z_v, z_t = vectors(seed, b, 5), vectors(seed + 1, b, 5)
    ours, loop = info_nce(z_v, z_t, temperature, direction), loop_info_nce(z_v, z_t, temperature, direction)
    torch.testing.assert_close(ours, loop)
    torch.testing.assert_close(gradients(ours, z_v, z_t), gradients(loop, z_v, z_t))


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(0, 1000), st.data())
def test_mil_nce_equals_the_loop(b, seed, data):
    extra = data.draw(st.lists(st.integers(0, b - 1), max_size=6))
    owner = torch.tensor(data.draw(st.permutations([*range(b), *extra])))
    z_v, z_t = vectors(seed, b, 4), vectors(seed + 1, len(owner), 4)
    ours, loop = mil_nce(z_v, z_t, owner), loop_mil_nce(z_v, z_t, owner)
    torch.testing.assert_close(ours, loop)
    torch.testing.assert_close(gradients(ours, z_v, z_t), gradients(loop, z_v, z_t))


def test_large_logits_stay_finite():
    z = torch.full((3, 4), 300.0, requires_grad=True)
    for loss in (info_nce(z, z.detach()), mil_nce(z, z.detach(), torch.arange(3))):
        assert torch.isfinite(loss)
        assert torch.isfinite(gradients(loss, z)[0]).all()


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_mixed_precision_leaves_the_dot_products_alone(kind):
    generator = torch.Generator().manual_seed(0)
    # far from the origin, as the towers' outputs are: the dot products are near 250 and differ by tenths
    z_v, z_t = (4 + torch.randn(2, 8, 16, generator=generator) / 40).to(kind)
    for loss in (info_nce, lambda a, b: mil_nce(a, b, torch.arange(8))):
        expected = loss(z_v.double(), z_t.double())
        with torch.autocast("cpu", kind):
            torch.testing.assert_close(loss(z_v.float(), z_t.float()).double(), expected, atol=1e-3, rtol=0)
        torch.testing.assert_close(loss(z_v, z_t).double(), expected, atol=1e-3, rtol=0)


def test_equal_vectors_score_chance():
    z = torch.ones(8, 4)
    assert info_nce(z, z, direction="v2t").item() == pytest.approx(math.log(8), abs=1e-6)


def test_wrong_arguments_are_refused():
    z = torch.ones(3, 2)
    with pytest.raises(ValueError, match="'up'"):
        info_nce(z, z, direction="up")
    with pytest.raises(ValueError, match="each of the 3 clips needs a text"):
        mil_nce(z, z, torch.tensor([0, 0, 1]))
    with pytest.raises(ValueError, match="an owner among them"):
        mil_nce(z, torch.ones(4, 2), torch.tensor([0, 1, 2, 3]))


def test_the_test_run_enforces_shapes():
    with pytest.raises(TypeCheckError):
        info_nce(torch.zeros(3, 4), torch.zeros(3, 5))


def test_what_no_loss_can_mean_is_refused():
    z = torch.ones(2, 3)
    for z_v, z_t, direction in ((z, torch.ones(3, 3), "v2t"), (torch.ones(3, 3), z, "t2v"), (z[:0], z[:0], "both")):
        with pytest.raises((ValueError, TypeCheckError), match="need equally many rows|not empty|z_t"):
            info_nce(z_v, z_t, direction=direction)
    for temperature in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="temperature must be a number above 0"):
            info_nce(z, z, temperature)
    with pytest.raises(ValueError, match="not empty"):
        mil_nce(z[:0], z[:0], torch.zeros(0, dtype=torch.long))


SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)


@given(SHAPES, SHAPES)
def test_vectors_of_any_shapes_give_a_number_or_one_sentence(shape_v, shape_t):
    z_v, z_t = torch.ones(shape_v), torch.ones(shape_t)
    for loss in (lambda: info_nce(z_v, z_t), lambda: mil_nce(z_v, z_t, torch.arange(shape_t[0] if shape_t else 0))):
        try:
            assert loss().isfinite()
        except (ValueError, TypeCheckError) as error:
            assert isinstance(error, TypeCheckError) or str(error).count("\n") == 0


def test_an_owner_is_one_row_a_text():
    z = torch.eye(2)
    for owner in (torch.arange(2)[:, None], torch.arange(3), torch.arange(2) - 1):
        with pytest.raises((ValueError, TypeCheckError)):
            mil_nce(z, z, owner)
