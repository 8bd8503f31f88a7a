import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig

import vclip
from vclip.data.extraction import encode_file
from vclip.datasets.minihowto import PROJECTION_HASH
from vclip.models.segmenter import VideoCLIPForSegmentation
from vclip.models.videoclip_encoder import VideoCLIP

import corpora


@pytest.fixture(scope="module")
def shipped() -> VideoCLIP:
    return vclip.load(vclip.minihowto() / "checkpoint")


def test_the_shipped_model_brings_what_it_needs(shipped):
    video = vclip.minihowto() / "videos" / "test0001.mp4"
    h_v = shipped.encode_video(video)
    features = encode_file(video, shipped.encoder)[0]
    np.testing.assert_array_equal(h_v, shipped.encode_seconds([features])[0])
    assert h_v.shape == (len(features), shipped.dim)
    corpus = vclip.Corpus.open(vclip.minihowto() / "test")
    shipped.check(corpus)
    # the corpus was encoded from the same video, elsewhere
    np.testing.assert_allclose(features, corpus.features(corpus.index("test0001")), atol=0.15)


def test_a_video_that_cannot_be_read_is_named(shipped, tmp_path):
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(ValueError, match=r"empty.mp4.*the file is empty"):
        shipped.encode_video(tmp_path / "empty.mp4")


def test_a_classifier_comes_back_with_its_classes(tmp_path):
    torch.manual_seed(0)
    config = vclip.VideoCLIPConfig(
        video_config=corpora.TOWER, text_config=corpora.TOWER, video_feature_dim=corpora.DIM, num_labels=3
    )
    model = VideoCLIPForSegmentation(config).eval()
    model.config.id2label = {0: "Outside", 1: "peel", 2: "chop"}
    model.save_pretrained(tmp_path)
    vclip.VideoCLIPProcessor(corpora.tokenizer()).save_pretrained(tmp_path)
    clip = vclip.load(tmp_path)
    assert clip.classes == ["Outside", "peel", "chop"] and clip.spec is None
    h_v = np.random.default_rng(0).standard_normal((5, clip.dim)).astype(np.float32)
    expected = model.classifier(torch.from_numpy(h_v)).detach().numpy()
    np.testing.assert_allclose(clip.class_logits(h_v), expected, atol=1e-6)
    with pytest.raises(ValueError, match="names no feature_spec"):
        clip.encoder  # noqa: B018


def test_what_is_no_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no config.json: name the folder of a model"):
        vclip.load(tmp_path)
    BertConfig().save_pretrained(tmp_path / "bert")
    with pytest.raises(ValueError, match="bert is a 'bert' model: a search needs one that embeds pictures and texts"):
        vclip.load(tmp_path / "bert")


@pytest.mark.parametrize("name", ["", "text.txt", "tokenizer"])
def test_a_place_without_a_config_is_named(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("a text")
    shutil.copytree(vclip.minihowto() / "tokenizer", tmp_path / "tokenizer")
    with pytest.raises(FileNotFoundError, match=f"^'{name}' holds no config.json"):
        vclip.load(name)


@pytest.mark.parametrize("config", ["", "{", "[]", "3", "null", "{}", '{"model_type": "none"}'])
def test_a_config_that_is_none_is_told_of(tmp_path, config):
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(FileNotFoundError, match=r"is no model here or on the hub \(\w[^\n]+\)$"):
        vclip.load(tmp_path)


@pytest.mark.parametrize("name", ["~/none", "/none/none", "http://none", "two words"])
def test_a_name_that_no_hub_could_know_is_told_of(name):
    with pytest.raises(FileNotFoundError, match="is no model here or on the hub"):
        vclip.load(name)


def test_a_folder_at_home_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "model").symlink_to(vclip.minihowto() / "checkpoint")
    assert vclip.load("~/model").dim == 128


def spoil(kind: str, file: Path) -> None:
    weights, name = load_file(file), "text_model.embeddings.LayerNorm.bias"
    if kind == "cut":
        file.write_bytes(file.read_bytes()[:1000])
    elif kind == "absent":
        file.unlink()
    else:
        changed = {"missing": {}, "NaN": {name: weights[name] * np.nan}, "narrow": {name: weights[name][:3]}}
        save_file({k: v for k, v in weights.items() if k != name} | changed[kind], file, {"format": "pt"})


@pytest.mark.parametrize("kind", ["cut", "absent", "missing", "NaN", "narrow"])
def test_weights_that_are_not_the_models_are_refused(tmp_path, kind):
    shutil.copytree(vclip.minihowto() / "checkpoint", tmp_path / "model")
    spoil(kind, tmp_path / "model" / "model.safetensors")
    with pytest.raises(ValueError, match=r"model cannot be loaded: [^\n]+$"):
        vclip.load(tmp_path / "model")


def test_a_zero_shot_model_has_no_classes(shipped):
    assert shipped.classes is None
    with pytest.raises(NotImplementedError, match="checkpoint has no classifier"):
        shipped.class_logits(np.zeros((1, shipped.dim), np.float32))


@pytest.mark.long
def test_a_model_of_the_hub_brings_its_frozen_encoder(tmp_path):
    """From the hub's cache, as a download leaves it."""
    cached = tmp_path / "hub" / "models--someone--model"
    shutil.copytree(vclip.minihowto() / "checkpoint", cached / "snapshots" / "abc")
    shutil.copy(vclip.minihowto() / "projection.safetensors", cached / "snapshots" / "abc")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("abc")
    code = "import vclip; c = vclip.load('someone/model'); print(c.name, c.encoder.spec == c.spec)"
    offline = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    offline = {name: value for name, value in offline.items() if name not in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")}
    done = subprocess.run([sys.executable, "-c", code], env=offline, capture_output=True, text=True)
    assert done.stdout == "someone/model True\n", done.stderr[-2000:]


def test_the_cartoon_model_says_once_that_it_knows_no_other_videos(shared, tmp_path):
    assert vclip.Corpus.open(vclip.minihowto() / "val").spec.projection == PROJECTION_HASH  # pyright: ignore
    clip = vclip.load(vclip.minihowto() / "checkpoint")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clip.encode_video(vclip.minihowto() / "videos" / "test0001.mp4")
    shutil.copy(shared / "videos" / "sam2-coffee.mp4", tmp_path)
    with pytest.warns(UserWarning, match=r"knows MiniHowTo's cartoons alone.*vclip.load\('offline'\)"):
        clip.index(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clip.encode_video(tmp_path / "sam2-coffee.mp4")
