"""Released files, made here in their layout, into our classes; the golden ones are loaded in test_model.py."""

import pytest
import torch

from vclip.checkpoints import load_s3d, load_videoclip
from vclip.model import VideoCLIPConfig, VideoCLIPModel
from vclip.s3d import S3D

import corpora

SEPARATE = {
    "video_mlp.layer_norm.": "video_encoder.videomlp.LayerNorm.",
    "video_mlp.": "video_encoder.videomlp.",
    "video_model.": "video_encoder.bert.",
    "text_model.": "text_encoder.",
}
SHARED = {ours: theirs.replace("video_encoder", "mm_encoder") for ours, theirs in SEPARATE.items()}


def model(shared: bool) -> VideoCLIPModel:
    torch.manual_seed(0)
    towers = {"video_config": corpora.TOWER} | ({} if shared else {"text_config": corpora.TOWER})
    return VideoCLIPModel(VideoCLIPConfig(**towers, share_towers=shared, video_feature_dim=16))


def released(model: VideoCLIPModel) -> dict[str, torch.Tensor]:
    """The model's weights as the original names them, with what its trunks carry unused."""
    weights = {}
    for key, value in model.state_dict().items():
        names = SHARED if model.config.share_towers else SEPARATE
        ours = next(prefix for prefix in names if key.startswith(prefix))
        if key == "video_model.embeddings.word_embeddings.weight" and not model.config.share_towers:
            table = torch.full((corpora.TOWER["vocab_size"], value.shape[1]), 7.0)
            table[[101, 102]] = value
            value = table
        weights["mmmodel." + names[ours] + key.removeprefix(ours)] = value
    trunk = "mm_encoder.bert" if model.config.share_towers else "video_encoder.bert"
    weights[f"mmmodel.{trunk}.pooler.dense.weight"] = torch.zeros(32, 32)
    weights[f"mmmodel.{trunk}.embeddings.position_ids"] = torch.arange(512)[None]
    return weights


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("place", ["model", "state_dict"])
def test_a_trainers_checkpoint_becomes_the_model(tmp_path, shared, place):
    expected = model(shared)
    torch.save({place: released(expected), "epoch": 3}, tmp_path / "c.pt")
    loaded = load_videoclip(tmp_path / "c.pt", expected.config)
    torch.testing.assert_close(loaded.state_dict(), expected.state_dict(), atol=0, rtol=0)
    assert not loaded.training


def test_half_precision_weights_become_float32(tmp_path):
    torch.save({"model": {k: v.half() for k, v in released(model(False)).items()}}, tmp_path / "c.pt")
    assert {p.dtype for p in load_videoclip(tmp_path / "c.pt", model(False).config).parameters()} == {torch.float32}


def test_what_does_not_fit_is_listed(tmp_path):
    weights = released(model(False))
    del weights["mmmodel.text_encoder.encoder.layer.1.output.dense.bias"]
    weights["mmmodel.extra"] = torch.zeros(1)
    weights["mmmodel.video_encoder.videomlp.linear1.bias"] = torch.zeros(5)
    torch.save({"model": weights}, tmp_path / "c.pt")
    with pytest.raises(ValueError) as error:
        load_videoclip(tmp_path / "c.pt", model(False).config)
    for part in (
        "c.pt does not fit",
        "missing ['text_model.encoder.layer.1.output.dense.bias']",
        "unexpected ['extra']",
        "video_mlp.linear1.bias is (5,), expected (32,)",
    ):
        assert part in str(error.value)


def test_other_files_are_refused(tmp_path):
    for content, message in (
        ([1, 2], "holds a list, not a checkpoint"),
        ({"epoch": 3}, r"no 'model' or 'state_dict' of tensors; it has \['epoch'\]"),
        ({"model": {"a": 1}}, "no 'model' or 'state_dict' of tensors"),
    ):
        torch.save(content, tmp_path / "c.pt")
        with pytest.raises(ValueError, match=message):
            load_videoclip(tmp_path / "c.pt")
    torch.save({"model": released(model(True))}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match="holds shared towers, but share_towers is False"):
        load_videoclip(tmp_path / "c.pt", model(False).config)


def test_s3d_without_its_text_model(tmp_path):
    network = S3D()
    weights = network.state_dict()
    torch.save(weights | {"text_module.fc1.weight": torch.zeros(2)}, tmp_path / "s3d.pth")
    loaded = load_s3d(tmp_path / "s3d.pth")
    torch.testing.assert_close(loaded.state_dict(), weights, atol=0, rtol=0)
    assert not loaded.training
    torch.save({k: v for k, v in weights.items() if k != "fc.bias"}, tmp_path / "s3d.pth")
    with pytest.raises(ValueError, match=r"missing \['fc\.bias'\]"):
        load_s3d(tmp_path / "s3d.pth")
