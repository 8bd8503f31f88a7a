import json
import zlib

import numpy as np
import pytest
import torch

from vclip.encoders import s3d
from vclip.encoders.s3d import S3D


@pytest.fixture(scope="module")
def golden(shared):
    return json.loads((shared / "golden/s3d/spec.json").read_text()), np.load(shared / "golden/s3d/io.npz")


@pytest.fixture(scope="module")
def net(golden):
    """S3D with the weights that the reference numbers were made with (golden/README.md)."""
    net = S3D()
    net.load_state_dict(reference_weights(golden[0]), strict=True)
    return net.eval()


def reference_weights(spec) -> dict[str, torch.Tensor]:
    def fill(key, shape):
        rng = np.random.default_rng([zlib.crc32(key.encode()), spec["salt"]])
        if key.endswith("num_batches_tracked"):
            return np.zeros(shape)
        if key.endswith("running_var"):
            return 0.5 + rng.random(shape)
        if key.endswith("running_mean"):
            return 0.1 * rng.standard_normal(shape)
        if len(shape) == 1:
            return 0.8 + 0.4 * rng.random(shape) if key.endswith("weight") else 0.1 * rng.standard_normal(shape)
        return rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))

    return {key: torch.tensor(fill(key, shape), dtype=getattr(torch, dtype)) for key, shape, dtype in spec["keys"]}


def reference_input(case) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(case["input_seed"]).random(case["shape"]).astype(np.float32))


def test_state_dict_has_the_released_keys_in_order(golden):
    ours = [
        [key, list(value.shape), str(value.dtype).removeprefix("torch.")] for key, value in S3D().state_dict().items()
    ]
    assert ours == golden[0]["keys"]


@pytest.mark.parametrize("case", range(3))
def test_equals_the_original(golden, net, case):
    spec, io = golden
    with torch.inference_mode():
        out = net(reference_input(spec["cases"][case]))
    np.testing.assert_allclose(out.video_embedding, io[f"video_embedding_{case}"], atol=1e-5, rtol=0)
    np.testing.assert_allclose(out.mixed_5c, io[f"mixed_5c_{case}"], atol=1e-5, rtol=0)


def test_every_stage_has_the_originals_mean_and_deviation(golden, net):
    spec, _ = golden
    seen = {}
    names = [name for name in spec["cases"][0]["stages"] if not name.startswith("maxpool")]
    hooks = [
        net.get_submodule(name).register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
        for name in names
    ]
    with torch.inference_mode():
        net(reference_input(spec["cases"][0]))
    for hook in hooks:
        hook.remove()
    for name in names:
        shape, mean, deviation = spec["cases"][0]["stages"][name]
        assert list(seen[name].shape) == shape, name
        assert seen[name].mean() == pytest.approx(mean, abs=1e-5), name
        assert seen[name].std() == pytest.approx(deviation, abs=1e-4), name


def test_space_to_depth_orders_channels_by_time_row_column_colour():
    x = torch.arange(2 * 3 * 4 * 6 * 8.0).view(2, 3, 4, 6, 8)
    out = s3d.space_to_depth(x)
    assert out.shape == (2, 24, 2, 3, 4)
    for t, h, w, colour in np.ndindex(2, 2, 2, 3):
        channel = ((t * 2 + h) * 2 + w) * 3 + colour
        assert torch.equal(out[:, channel], x[:, colour, t::2, h::2, w::2])
    with pytest.raises(ValueError, match="even"):
        s3d.space_to_depth(x[:, :, :3])


@pytest.mark.parametrize("size", [4, 5, 6, 7])
def test_max_pool_against_a_loop(size):
    x = torch.randn(1, 1, 1, size, size) - 1.0
    out = s3d.max_pool(x, (1, 3, 3), (1, 2, 2))[0, 0, 0]
    padded = np.zeros((size + 1, size + 1))
    padded[:size, :size] = x[0, 0, 0]
    for row, column in np.ndindex(*out.shape):
        window = padded[2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
        assert out[row, column] == pytest.approx(window.max(), abs=1e-6)
    assert out.shape == (-(-(size - 2) // 2) + 1,) * 2
