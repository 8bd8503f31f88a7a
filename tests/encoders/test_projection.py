from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vclip.encoders.loading import from_spec
from vclip.encoders.networks import EfficientNetLite0
from vclip.encoders.projection import Projection, fit_projection, weights_hash


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
        from_spec(projection.spec, tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError, match="no projection.*: load the model from a folder .*put there the matrix"):
        from_spec(projection.spec, "someone/model")  # as a model of the hub gives its name
    with pytest.raises(ValueError, match="projected already"):
        Projection(projection, matrix[:4], offset)
    with pytest.raises(ValueError, match="takes 7 features"):
        Projection(efficientnet, matrix[:7], offset)
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors.*weight"):
        Projection.load(efficientnet, tmp_path / "other.safetensors")
    for shapes in (((7, 4), (4,)), ((2560, 4), (5,)), ((2560,), (4,))):
        tensors = {name: torch.zeros(shape) for name, shape in zip(("matrix", "offset"), shapes, strict=True)}
        save_file(tensors, tmp_path / "other.safetensors")
        with pytest.raises(ValueError, match=r"other\.safetensors.*makes 2560 features"):
            Projection.load(efficientnet, tmp_path / "other.safetensors")
    (tmp_path / "other.safetensors").write_bytes(b"x" * 20)
    with pytest.raises(ValueError, match=r"other\.safetensors is damaged"):
        Projection.load(efficientnet, tmp_path / "other.safetensors")


def test_fit_projection_is_a_pca():
    rng = np.random.default_rng(0)
    features = (rng.standard_normal((9000, 6)) * [9, 1, 5, 0.1, 3, 0.2] + 4).astype(np.float16)
    matrix, offset = fit_projection(features, 3)
    small = features.astype(np.float64) @ matrix + offset
    np.testing.assert_allclose(small.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(small.std(0), [9, 5, 3], rtol=0.05)
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(3), atol=1e-6)
    centred = features.astype(np.float64) - features.mean(0, dtype=np.float64)
    expected = np.linalg.svd(centred, full_matrices=False)[2][:3].T
    np.testing.assert_allclose(np.abs(matrix), np.abs(expected), atol=1e-5)
    assert (matrix[np.abs(matrix).argmax(0), range(3)] > 0).all()
    with pytest.raises(ValueError, match="at most 6"):
        fit_projection(features, 7)
    with pytest.raises(ValueError, match="at most 2"):
        fit_projection(features[:3], 3)
