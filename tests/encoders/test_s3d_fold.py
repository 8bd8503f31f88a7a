import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vclip.data.spec import weights_hash
from vclip.encoders.networks import S3DEncoder
from vclip.encoders.s3d import S3D, fold


@pytest.fixture(scope="module")
def network() -> S3D:
    """Random weights that keep the signal's size, and batch norms that shift and scale."""
    torch.manual_seed(0)
    network = S3D()
    for module in network.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.normal_(module.bias, 0, 0.1)
    return network.eval()


@torch.inference_mode()
@pytest.mark.parametrize("size", [(1, 30, 64, 64), (2, 6, 64, 32), (1, 10, 90, 50), (1, 2, 4, 16)])
def test_folded_equals_unfolded(network, size):
    x = torch.rand(size[0], 3, *size[1:])
    for ours, plain in zip(fold(network)(x), network(x), strict=True):
        assert ours.std() > 0.01
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-5 * plain.abs().max().item())


@torch.inference_mode()
def test_folded_equals_the_original(shared):
    from test_s3d import reference_input, reference_weights

    spec = json.loads((shared / "golden/s3d/spec.json").read_text())
    io, network = np.load(shared / "golden/s3d/io.npz"), S3D()
    network.load_state_dict(reference_weights(spec))
    fast = fold(network)
    for i, case in enumerate(spec["cases"]):
        out = fast(reference_input(case))
        np.testing.assert_allclose(out.video_embedding, io[f"video_embedding_{i}"], atol=1e-5, rtol=0)
        np.testing.assert_allclose(out.mixed_5c, io[f"mixed_5c_{i}"], atol=1e-5, rtol=0)
        ours = F.normalize(out.video_embedding, dim=1).numpy().astype(np.float16)
        np.testing.assert_array_max_ulp(ours, io[f"stored_feature_{i}"], 1)


def test_folding_leaves_the_network_and_the_hash_of_its_weights(network):
    before = {name: value.clone() for name, value in network.state_dict().items()}
    encoder = S3DEncoder(network)
    torch.testing.assert_close(dict(network.state_dict()), before, atol=0, rtol=0)
    assert network.fc.weight.requires_grad and encoder.spec.weights == weights_hash(before)


@torch.inference_mode()
def test_bfloat16_gives_almost_the_same_features(network):
    x = torch.rand(2, 3, 4, 32, 32)
    ours = fold(network).to(torch.bfloat16)(x).video_embedding.float()
    assert F.cosine_similarity(ours, network(x).video_embedding).min() > 0.9999


def test_odd_numbers_are_refused(network):
    with pytest.raises(ValueError, match="even numbers .* not 3 x 4 x 4"):
        fold(network)(torch.zeros(1, 3, 3, 4, 4))
