import builtins
import json
import pickle
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from transformers import (
    AutoImageProcessor,
    AutoModel,
    BertConfig,
    BertModel,
    CLIPConfig,
    CLIPModel,
    VideoMAEConfig,
    VideoMAEImageProcessorPil,
    VideoMAEModel,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
    ViTModel,
)
from videos import write_video

from vclip.data.spec import FeatureSpec
from vclip.data.video import read_seconds
from vclip.encoders import loading
from vclip.encoders.loading import from_spec
from vclip.encoders.networks import AutoModelEncoder, ConSE, EfficientNetLite0, S3DEncoder, processes
from vclip.encoders.s3d import S3D, fold

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
IMAGES = {"image_size": 32, "patch_size": 8}


def frames(n: int, spec: FeatureSpec) -> np.ndarray:
    rng = np.random.default_rng(n)
    return rng.integers(0, 256, (n, spec.fps, spec.size, spec.size, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder of tiny Hugging Face models of random weights."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    half = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    vit = ViTImageProcessorPil(size={"height": 32, "width": 32}, **half)
    cropped = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}
    video = VideoMAEImageProcessorPil(**cropped, **half)
    clip = CLIPConfig(
        text_config=SMALL | {"vocab_size": 99, "projection_dim": 16},
        vision_config=SMALL | IMAGES | {"projection_dim": 16},
        projection_dim=16,
    )
    for name, model, processor in (
        ("vit", ViTModel(ViTConfig(**SMALL, **IMAGES)), vit),
        ("classifier", ViTForImageClassification(ViTConfig(**SMALL, **IMAGES)), vit),
        ("clip", CLIPModel(clip), vit),
        ("videomae", VideoMAEModel(VideoMAEConfig(**SMALL, **IMAGES, num_frames=4)), video),
        ("bert", BertModel(BertConfig(**SMALL, vocab_size=99)), vit),
    ):
        model.save_pretrained(folder / name)
        processor.save_pretrained(folder / name)
    return folder


@pytest.fixture(scope="session")
def efficientnet():
    return EfficientNetLite0(size=32)


def test_efficientnet_pools_mean_and_deviation_over_the_seconds_frames(efficientnet):
    assert EfficientNetLite0().spec == replace(efficientnet.spec, size=128)
    assert efficientnet.spec == FeatureSpec(
        "efficientnet-lite0", efficientnet.spec.weights, 3, 32, "centre", "(x - 127) / 128", "mean+std", None, 2560
    )
    seconds = frames(2, efficientnet.spec)
    got = efficientnet(seconds)
    assert got.shape == (2, 2560) and got.dtype == np.float32
    for second, row in zip(seconds, got, strict=True):
        vectors = []
        for frame in second:
            x = (torch.from_numpy(frame).permute(2, 0, 1)[None].float() - 127) / 128
            with torch.inference_mode():
                vectors.append(efficientnet.network.extract_features(x)[0].mean((1, 2)).numpy())
        np.testing.assert_allclose(row[:1280], np.mean(vectors, 0), atol=1e-5)
        np.testing.assert_allclose(row[1280:], np.std(vectors, 0), atol=1e-5)


def test_efficientnet_knows_a_mug_of_coffee(shared, efficientnet):
    # the weights are real and the input is as they were trained: of 1000 classes, cup, espresso and coffee mug
    second = next(read_seconds(shared / "videos/sam2-coffee.mp4", 1, 224))
    network = EfficientNetLite0(1, 224).network
    with torch.inference_mode():
        x = (torch.from_numpy(second).permute(0, 3, 1, 2).float() - 127) / 128
        best = network(x)[0].topk(5).indices.tolist()
    assert set(best) & {968, 967, 504, 505, 550, 849, 899}


def test_a_second_is_encoded_alike_alone_and_among_others(efficientnet):
    seconds = frames(40, efficientnet.spec)
    alone = np.concatenate([efficientnet(seconds[i : i + 1]) for i in (0, 17, 39)])
    np.testing.assert_allclose(efficientnet(seconds)[[0, 17, 39]], alone, atol=1e-4)
    assert efficientnet(seconds[:0]).shape == (0, 2560)


@pytest.mark.long
def test_one_that_was_pickled_encodes_alike(models, efficientnet):
    """Processes of a pool get it so."""
    for encoder in (efficientnet, ConSE(size=64), AutoModelEncoder(str(models / "clip")), S3DEncoder(S3D())):
        sent, given = pickle.loads(pickle.dumps(encoder)), frames(1, encoder.spec)
        assert type(sent) is type(encoder) and sent.spec == encoder.spec
        np.testing.assert_array_equal(sent(given), encoder(given))
        assert {w.device for w in sent.network.parameters()} == {processes().device}


def test_frames_of_another_kind_are_refused(efficientnet):
    with pytest.raises(ValueError, match=r"\(3, 32, 32, 3\).*\(2, 32, 32, 3\)"):
        efficientnet(np.zeros((1, 2, 32, 32, 3), np.uint8))


def test_without_its_packages_efficientnet_says_what_to_install(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("efficientnet"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'vclip\[efficientnet\]'"):
        EfficientNetLite0()


def test_s3d_rows_have_length_one_and_equal_the_stored_features(shared):
    io = np.load(shared / "golden/s3d/io.npz")
    for i in range(3):
        ours = F.normalize(torch.from_numpy(io[f"video_embedding_{i}"]), dim=1).numpy().astype(np.float16)
        np.testing.assert_array_max_ulp(ours, io[f"stored_feature_{i}"], 1)


def test_s3d_sees_a_second_whole():
    torch.manual_seed(0)
    network = S3D().eval()
    encoder = S3DEncoder(network)
    assert (encoder.spec.fps, encoder.spec.size) == (30, 224)
    encoder.spec = replace(encoder.spec, fps=4, size=32)  # small, for speed
    seconds = frames(2, encoder.spec)
    got = encoder(seconds)
    assert encoder.spec.pooling == "none" and got.shape == (2, 512) and got.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(got, axis=1), 1, atol=1e-5)
    clip = torch.from_numpy(seconds[1]).permute(3, 0, 1, 2)[None] / 255
    with torch.inference_mode():
        expected = network(clip).video_embedding[0]
    np.testing.assert_allclose(got[1], expected / expected.norm(), atol=1e-5)


def test_s3d_input_equals_the_originals(shared, tmp_path, monkeypatch):
    spec = json.loads((shared / "golden/s3d/spec.json").read_text())["preprocess"]
    t, c, y, x = np.ogrid[: spec["T"], :3, : spec["H"], : spec["W"]]
    pixels = ((7 * t + 50 * c + 2 * y + x) % 256).astype(np.uint8).transpose(0, 2, 3, 1)
    times = [round(i * 1000 / 30) - (i % 3 == 2) for i in range(len(pixels))]  # ms, never after the sampled time
    path = write_video(tmp_path / "v.mkv", times, [np.ascontiguousarray(p) for p in pixels], "ffv1", "bgr0")
    encoder, seen = S3DEncoder(S3D()), []

    def record(clips):
        seen.append(clips)
        return S3D.forward(encoder.network, clips[..., :32, :32])

    monkeypatch.setattr(encoder.network, "forward", record)
    encoder(np.stack(list(read_seconds(path, encoder.spec.fps, encoder.spec.size))))
    clips = torch.cat(seen)
    assert list(clips.shape) == spec["out_shape"]
    for index, value in spec["samples"]:
        assert clips[tuple(index)].item() == pytest.approx(value, abs=1e-6)
    assert clips.sum(dtype=torch.float64).item() == pytest.approx(spec["sum"], rel=1e-6)


def test_any_image_model(models):
    encoder = AutoModelEncoder(str(models / "vit"), fps=2)
    assert (encoder.spec.fps, encoder.spec.size, encoder.spec.pooling, encoder.spec.dim) == (2, 32, "mean", 32)
    seconds = frames(3, encoder.spec)
    model = AutoModel.from_pretrained(models / "vit").eval()
    pixels = AutoImageProcessor.from_pretrained(models / "vit")(list(seconds[1]), return_tensors="pt").pixel_values
    with torch.inference_mode():
        expected = model(pixels).pooler_output.mean(0)
    np.testing.assert_allclose(encoder(seconds)[1], expected, atol=1e-5)


def test_an_image_and_text_model_gives_its_image_embedding(models):
    encoder = AutoModelEncoder(str(models / "clip"))
    assert (encoder.spec.fps, encoder.spec.dim) == (3, 16)
    assert encoder(frames(2, encoder.spec)).shape == (2, 16)


def test_any_video_model(models):
    encoder = AutoModelEncoder(str(models / "videomae"))
    assert (encoder.spec.fps, encoder.spec.size, encoder.spec.pooling) == (4, 32, "none")
    seconds = frames(3, encoder.spec)
    model = AutoModel.from_pretrained(models / "videomae").eval()
    pixels = (torch.from_numpy(seconds[1]) / 255 - torch.tensor([0.1, 0.2, 0.3])) / torch.tensor([0.4, 0.5, 0.6])
    with torch.inference_mode():
        expected = model(pixels.permute(0, 3, 1, 2)[None]).last_hidden_state[0].mean(0)
    np.testing.assert_allclose(encoder(seconds)[1], expected, atol=1e-5)
    with pytest.raises(ValueError, match="4 frames; fps is 8"):
        AutoModelEncoder(str(models / "videomae"), fps=8)


def test_a_pooler_without_weights_is_not_used(models):
    name = str(models / "classifier")
    once, again = AutoModelEncoder(name), AutoModelEncoder(name)
    assert once.spec == again.spec
    seconds = frames(2, once.spec)
    np.testing.assert_array_equal(once(seconds), again(seconds))


def test_a_model_of_text_is_refused(models):
    with pytest.raises(ValueError, match="bert takes input_ids, not pictures"):
        AutoModelEncoder(str(models / "bert"))


def test_from_spec_refuses_other_weights_and_names_both(models, efficientnet):
    stale = replace(efficientnet.spec, weights="0123456789abcdef")
    with pytest.raises(ValueError, match=f"weights: '0123456789abcdef' against '{efficientnet.spec.weights}'"):
        from_spec(stale, models)
    vit = AutoModelEncoder(str(models / "vit"), fps=5).spec
    assert from_spec(vit, models).spec == from_spec(asdict(vit), models).spec == vit


def test_from_spec_finds_s3d_beside_the_corpus(tmp_path):
    network = S3D()
    spec = S3DEncoder(network).spec
    with pytest.raises(FileNotFoundError, match=r"holds no s3d\.safetensors or s3d_howto100m\.pth: put it"):
        from_spec(spec, tmp_path)
    torch.save(network.state_dict(), tmp_path / "s3d_howto100m.pth")
    assert from_spec(spec, tmp_path).spec == spec
    (tmp_path / "converted").mkdir()
    save_file(network.state_dict(), tmp_path / "converted" / "s3d.safetensors")
    converted = from_spec(spec, tmp_path / "converted")
    assert converted.spec == spec
    torch.testing.assert_close(converted.network.state_dict(), fold(network).state_dict(), atol=0, rtol=0)
    torch.save(S3D().state_dict(), tmp_path / "s3d_howto100m.pth")
    with pytest.raises(ValueError, match="weights"):
        from_spec(spec, tmp_path)


def test_a_network_made_for_other_seconds_is_refused(models, tmp_path):
    torch.save(S3D().state_dict(), tmp_path / "s3d.pth")
    for name, weights, given, message in (
        ("s3d-g", tmp_path / "s3d.pth", {"fps": 4}, "s3d-g needs fps=30, got 4"),
        ("s3d-g", tmp_path / "s3d.pth", {"size": 128}, "s3d-g needs size=224, got 128"),
        (str(models / "vit"), None, {"size": 64}, "vit needs size=32, got 64"),
    ):
        with pytest.raises(ValueError, match=message):
            loading.load_encoder(name, weights, **given)


def test_a_still_second_has_no_deviation(efficientnet, tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    path = write_video(tmp_path / "v.mov", [0, 500], [picture] * 2)
    row = efficientnet(np.stack(list(read_seconds(path, 3, 32))))[0]
    assert np.abs(row[1280:]).max() < 1e-4 * np.abs(row[:1280]).max()
