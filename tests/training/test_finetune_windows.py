"""Segmentation and localization: the original's numbers, and a loop over unpadded windows, in value and gradient."""

import json

import numpy as np
import pytest
import torch

from vclip.data.corpus import Corpus
from vclip.datasets import coin, crosstask
from vclip.models.dual_encoder import VideoCLIP
from vclip.models.segmenter import VideoCLIPForSegmentation
from vclip.models.windows import sliding_windows
from vclip.tasks.localization import true_seconds
from vclip.tasks.segmentation import targets
from vclip.training.config import FinetuneConfig
from vclip.training.finetune_windows import Localization, Segmentation, logits

import labelled
from labelled import assert_equal_in_value_and_gradient, rows_of

RNG = np.random.default_rng


@pytest.fixture(scope="module")
def golden(zero_shot):
    """The golden model, its features, the tiny data sets, and heads.npz with what it is about."""
    folder = zero_shot.folder.parent
    numbers = np.load(folder / "finetune" / "heads.npz", allow_pickle=False)
    numbers = {name: torch.from_numpy(numbers[name]) for name in numbers}
    about = json.loads((folder / "finetune" / "heads.json").read_text())
    zero_shot.model.eval()
    return zero_shot.clip, Corpus.open(zero_shot.features), zero_shot.folder, numbers, about


def test_coin_is_golden(golden):
    clip, corpus, folder, expected, about = golden
    backbone = clip.model
    config = backbone.config.__class__.from_dict(backbone.config.to_dict())
    config.num_labels = len(expected["coin_classifier_bias"])
    model = VideoCLIPForSegmentation(config).eval()
    head = {f"classifier.{name}": expected[f"coin_classifier_{name}"] for name in ("weight", "bias")}
    model.load_state_dict(backbone.state_dict() | head)
    video = next(video for video in coin.load(folder / "coin") if video.video_id == about["coin_video"])
    settings = FinetuneConfig.paper("segmentation")
    task = Segmentation(settings)
    assert (settings.window, settings.stride) == (about["window"], about["coin_train_stride"])
    inputs = task.inputs(VideoCLIP(model, clip.processor), corpus, [video], RNG(0))
    assert torch.equal(inputs[1], expected["coin_vmasks"].bool())
    assert torch.equal(inputs[2], expected["coin_targets"])
    with torch.no_grad():
        logits = model(*inputs[:2]).logits[inputs[1]]
        loss = task.loss(model, *inputs)
    torch.testing.assert_close(logits[:, :40], expected["coin_logits_first40classes"][inputs[1]], atol=5e-5, rtol=0)
    torch.testing.assert_close(logits.logsumexp(-1), expected["coin_logits_logsumexp"][inputs[1]], atol=5e-5, rtol=0)
    torch.testing.assert_close(loss, expected["coin_loss"], atol=5e-5, rtol=0)


def test_crosstask_is_golden(golden):
    clip, corpus, folder, expected, about = golden
    records = crosstask.load(folder / "crosstask" / "crosstask_release", split="all")
    task, video_id = about["crosstask_task_video"]
    video = next(video for video in records if (video.task, video.video_id) == (task, video_id))
    settings = FinetuneConfig.paper("localization")
    localization = Localization(settings)
    assert settings.stride == about["crosstask_stride"]
    inputs = localization.inputs(clip, corpus, [video], RNG(0))
    mask, truth, counted = inputs[1], inputs[4], inputs[5]
    assert torch.equal(counted, mask[..., None].expand_as(counted))
    torch.testing.assert_close(truth[mask], expected["crosstask_targets"].float(), atol=0, rtol=0)
    with torch.no_grad():
        found, loss = logits(clip.model, *inputs[:4]), localization.loss(clip.model, *inputs)
    torch.testing.assert_close(found[mask], expected["crosstask_logits"], atol=5e-5, rtol=0)
    torch.testing.assert_close(loss, expected["crosstask_bce"], atol=5e-5, rtol=0)


def test_segmentation_equals_a_loop(small):
    clip, corpus = small
    dataset = labelled.dataset("segmentation")
    task = Segmentation(FinetuneConfig(task="segmentation", window=16, stride=5))
    model = task.new_model(str(clip.model.name_or_path), dataset).eval()
    videos = task.items(dataset, corpus)[:3]
    terms = []
    for video in videos:
        rows, truth = rows_of(corpus, video.video_id), targets(video.segments, len(rows_of(corpus, video.video_id)))
        for start, end in sliding_windows(len(rows), 16, 5):
            state = model.get_video_features(rows[None, start:end], attend_cls=False).last_hidden_state[0]
            log_p = model.classifier(state).log_softmax(-1)
            terms += [-log_p[t - start, truth[t]] for t in range(start, end)]
    ours = task.loss(model, *task.inputs(VideoCLIP(model, clip.processor), corpus, videos, RNG(0)))
    assert_equal_in_value_and_gradient(model, ours, torch.stack(terms).mean())


def test_localization_equals_a_loop(small):
    clip, corpus = small
    model, processor = clip.model, clip.processor
    task = Localization(FinetuneConfig(task="localization", window=16, stride=5))
    videos = task.items(labelled.dataset("localization"), corpus)[:3]
    terms = []
    for video in videos:
        rows = rows_of(corpus, video.video_id)
        truth = true_seconds(video.segments, len(rows), 3)
        z_t = torch.cat([model.get_text_features(**processor(text=step)).pooler_output for step in video.steps])
        for start, end in sliding_windows(len(rows), 16, 5):
            state = model.get_video_features(rows[None, start:end], attend_cls=False).last_hidden_state[0]
            for t in range(start, end):
                for k in range(3):
                    p = torch.sigmoid(state[t - start] @ z_t[k])
                    terms.append(-torch.log(p if truth[t, k] else 1 - p))
    ours = task.loss(model, *task.inputs(clip, corpus, videos, RNG(0)))
    assert_equal_in_value_and_gradient(model, ours, torch.stack(terms).mean())
