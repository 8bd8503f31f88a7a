"""The head fine-tuned on COIN, equal to the original; transformers' contract is in tests/contract."""

import json

import numpy as np
import pytest
import torch

from vclip.models.config import VideoCLIPConfig
from vclip.models.convert import load_videoclip
from vclip.models.segmenter import VideoCLIPForSegmentation
from vclip.models.videoclip import VideoCLIPModel
from vclip.models.windows import sliding_windows

import corpora
import reference


@pytest.fixture(scope="module")
def golden(shared, tmp_path_factory):
    """(the model with the original's classifier, its numbers, the windows of its video)."""
    folder, heads = shared / "golden" / "model_separate", shared / "golden" / "finetune"
    numbers = np.load(heads / "heads.npz", allow_pickle=False)
    about = json.loads((heads / "heads.json").read_text())
    backbone = load_videoclip(folder / "checkpoint.pt", reference.config(folder))
    config = reference.config(folder)
    config.num_labels = len(numbers["coin_classifier_bias"])
    model = VideoCLIPForSegmentation(config).eval()
    head = {f"classifier.{name}": torch.from_numpy(numbers[f"coin_classifier_{name}"]) for name in ("weight", "bias")}
    model.load_state_dict(backbone.state_dict() | head)
    features = np.load(shared / "golden" / "zero_shot" / "features.npz", allow_pickle=False)[about["coin_video"]]
    windows = sliding_windows(len(features), about["window"], about["coin_train_stride"])
    video = torch.zeros(len(windows), about["window"], features.shape[1])
    for w, (start, end) in enumerate(windows):
        video[w, : end - start] = torch.from_numpy(features[start:end].astype(np.float32))
    return model, {name: torch.from_numpy(numbers[name]) for name in numbers}, video


def test_logits_and_loss_equal_the_original(golden):
    model, expected, video = golden
    mask = expected["coin_vmasks"]
    with torch.no_grad():
        output = model(video, mask, labels=expected["coin_targets"])
    logits = output.logits
    assert logits.shape == (*mask.shape, 779)
    torch.testing.assert_close(logits[..., :40][mask], expected["coin_logits_first40classes"][mask], atol=5e-5, rtol=0)
    torch.testing.assert_close(logits.logsumexp(-1)[mask], expected["coin_logits_logsumexp"][mask], atol=5e-5, rtol=0)
    torch.testing.assert_close(output.loss, expected["coin_loss"], atol=5e-5, rtol=0)


def test_the_loss_is_a_mean_over_labelled_seconds(golden):
    model, expected, video = golden
    labels = expected["coin_targets"]
    with torch.no_grad():
        loss, logits = model(video, expected["coin_vmasks"], labels, return_dict=False)
    terms = [-logits[b, t].log_softmax(0)[labels[b, t]] for b, t in np.ndindex(*labels.shape) if labels[b, t] != -100]
    torch.testing.assert_close(loss, torch.stack(terms).mean())


def test_it_starts_from_a_model_without_a_head(tmp_path):
    towers = {"video_config": corpora.TOWER, "text_config": corpora.TOWER}
    backbone = VideoCLIPModel(VideoCLIPConfig(**towers, video_feature_dim=16))
    backbone.save_pretrained(tmp_path)
    model = VideoCLIPForSegmentation.from_pretrained(tmp_path, num_labels=5)
    assert model.classifier.weight.shape == (5, 32) and model.classifier.weight.std() > 0
    for name, value in backbone.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
