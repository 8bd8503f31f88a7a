from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vclip.encoders.loading import from_spec
from vclip.encoders.networks import EfficientNetLite0, Projection, weights_hash


@pytest.fixture(scope="module")
def efficientnet():
    return EfficientNetLite0(size=32)


def test_weights_hash_reads_every_tensor_in_the_order_of_names():
    tensors = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor(3, dtype=torch.bfloat16)}
    value = weights_hash(tensors)
    assert len(value) == 16 and int(value, 16) >= 0
    assert value == weights_hash(dict(reversed(tensors.items())))
    assert value == weights_hash({**tensors, "b": tensors["b"].T.contiguous().T})
    assert value != weights_hash({**tensors, "b": tensors["b"] + 1})


def test_projection_multiplies_and_travels_in_a_file(efficientnet, tmp_path):
    rng = np.random.default_rng(0)
    matrix, offset = rng.standard_normal((2560, 4)).astype(np.float32), rng.standard_normal(4).astype(np.float32)
    projection = Projection(efficientnet, matrix, offset)
    seconds = rng.integers(0, 256, (2, 3, 32, 32, 3), dtype=np.uint8)
    np.testing.assert_allclose(projection(seconds), efficientnet(seconds) @ matrix + offset, rtol=1e-5)
    assert projection.spec == replace(efficientnet.spec, dim=4, projection=projection.spec.projection)
    projection.save(tmp_path / "projection.safetensors")
    again = from_spec(projection.spec, tmp_path)
    assert again.spec == projection.spec
    np.testing.assert_array_equal(again(seconds), projection(seconds))
    other = Projection(efficientnet, matrix + 1, offset)
    assert other.spec.projection != projection.spec.projection
    with pytest.raises(ValueError, match="projection.*" + other.spec.projection + ".*" + projection.spec.projection):
        from_spec(other.spec, tmp_path)
    with pytest.raises(FileNotFoundError, match=r"projection\.safetensors"):
        from_spec(projection.spec, tmp_path / "else" / "where")
    with pytest.raises(ValueError, match="projected already"):
        Projection(projection, matrix[:4], offset)
    with pytest.raises(ValueError, match=r"matrix is \(7, 4\), .* makes 2560 features"):
        Projection(efficientnet, matrix[:7], offset)
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors does not fit"):
        Projection.load(efficientnet, tmp_path / "other.safetensors")
    (tmp_path / "other.safetensors").write_bytes(b"x" * 20)
    with pytest.raises(ValueError, match=r"other\.safetensors .* is damaged"):
        Projection.load(efficientnet, tmp_path / "other.safetensors")
