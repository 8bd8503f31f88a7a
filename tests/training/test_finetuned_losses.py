"""Each task's batch and loss: the original's numbers, and a plain loop over unpadded windows, in value and gradient."""

import json

import numpy as np
import pytest
import torch
from transformers import BertTokenizerFast

from vclip.data.corpus import Corpus
from vclip.datasets import coin, crosstask
from vclip.datasets._records import Dataset
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.released import load_videoclip
from vclip.models.segmenter import VideoCLIPForSegmentation
from vclip.models.videoclip import VideoCLIPModel
from vclip.models.windows import sliding_windows
from vclip.tasks.localization import true_seconds
from vclip.tasks.segmentation import targets
from vclip.training import (
    finetune_localization,
    finetune_pairs,
    finetune_retrieval,
    finetune_segmentation,
    finetune_videoqa,
)
from vclip.training.config import FinetuneConfig

import corpora
import labelled
import reference

RNG = np.random.default_rng


@pytest.fixture(scope="module")
def golden(shared, tmp_path_factory):
    """The golden model, a processor of its vocabulary, the tiny data sets, and heads.npz with what it is about."""
    folder = shared / "golden"
    model = load_videoclip(folder / "model_separate" / "checkpoint.pt", reference.config(folder / "model_separate"))
    processor = VideoCLIPProcessor(BertTokenizerFast(vocab=str(folder / "zero_shot" / "vocab.txt")))
    features = tmp_path_factory.mktemp("features")
    for video_id, rows in np.load(folder / "zero_shot" / "features.npz", allow_pickle=False).items():
        np.save(features / f"{video_id}.npy", rows)
    numbers = np.load(folder / "finetune" / "heads.npz", allow_pickle=False)
    numbers = {name: torch.from_numpy(numbers[name]) for name in numbers}
    about = json.loads((folder / "finetune" / "heads.json").read_text())
    return model.eval(), processor, Corpus.open(features), folder / "zero_shot", numbers, about


def test_coin_is_golden(golden):
    backbone, processor, corpus, folder, expected, about = golden
    config = backbone.config.__class__.from_dict(backbone.config.to_dict())
    config.num_labels = len(expected["coin_classifier_bias"])
    model = VideoCLIPForSegmentation(config).eval()
    head = {f"classifier.{name}": expected[f"coin_classifier_{name}"] for name in ("weight", "bias")}
    model.load_state_dict(backbone.state_dict() | head)
    video = next(video for video in coin.load(folder / "coin") if video.video_id == about["coin_video"])
    settings = FinetuneConfig.paper("segmentation")
    assert (settings.window, settings.stride) == (about["window"], about["coin_train_stride"])
    inputs = finetune_segmentation.inputs(model, processor, corpus, [video], settings, RNG(0))
    assert torch.equal(inputs[1], expected["coin_vmasks"].bool())
    assert torch.equal(inputs[2], expected["coin_targets"])
    with torch.no_grad():
        logits = model(*inputs[:2]).logits[inputs[1]]
        loss = finetune_segmentation.loss(model, *inputs)
    torch.testing.assert_close(logits[:, :40], expected["coin_logits_first40classes"][inputs[1]], atol=5e-5, rtol=0)
    torch.testing.assert_close(logits.logsumexp(-1), expected["coin_logits_logsumexp"][inputs[1]], atol=5e-5, rtol=0)
    torch.testing.assert_close(loss, expected["coin_loss"], atol=5e-5, rtol=0)


def test_crosstask_is_golden(golden):
    model, processor, corpus, folder, expected, about = golden
    records = crosstask.load(folder / "crosstask" / "crosstask_release", split="all")
    task, video_id = about["crosstask_task_video"]
    video = next(video for video in records if (video.task, video.video_id) == (task, video_id))
    settings = FinetuneConfig.paper("localization")
    assert settings.stride == about["crosstask_stride"]
    inputs = finetune_localization.inputs(model, processor, corpus, [video], settings, RNG(0))
    mask, truth, counted = inputs[1], inputs[4], inputs[5]
    assert torch.equal(counted, mask[..., None].expand_as(counted))
    torch.testing.assert_close(truth[mask], expected["crosstask_targets"].float(), atol=0, rtol=0)
    with torch.no_grad():
        logits, loss = finetune_localization.logits(model, *inputs[:4]), finetune_localization.loss(model, *inputs)
    torch.testing.assert_close(logits[mask], expected["crosstask_logits"], atol=5e-5, rtol=0)
    torch.testing.assert_close(loss, expected["crosstask_bce"], atol=5e-5, rtol=0)


# plain loops


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The folder of `labelled.data`, its features and processor."""
    folder = labelled.data(tmp_path_factory.mktemp("data"))
    return folder, labelled.corpus(folder), VideoCLIPProcessor.from_pretrained(folder / "checkpoint")


def assert_equal_in_value_and_gradient(model, ours, plain) -> None:
    gradients = []
    for loss in (ours, plain):
        model.zero_grad()
        loss.backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(ours, plain, atol=1e-6, rtol=1e-5)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-6, rtol=1e-4, msg=name)


def rows_of(corpus, video_id) -> torch.Tensor:
    return torch.from_numpy(corpus.features(corpus.index(video_id)).astype(np.float32))


def test_segmentation_equals_a_loop(small):
    folder, corpus, processor = small
    dataset = labelled.dataset("segmentation")
    model = finetune_segmentation.new_model(str(folder / "checkpoint"), dataset).eval()
    videos = finetune_segmentation.items(dataset, corpus)[:3]
    settings = FinetuneConfig(window=16, stride=5)
    terms = []
    for video in videos:
        rows, truth = rows_of(corpus, video.video_id), targets(video.segments, len(rows_of(corpus, video.video_id)))
        for start, end in sliding_windows(len(rows), 16, 5):
            state = model.get_video_features(rows[None, start:end], attend_cls=False).last_hidden_state[0]
            log_p = model.classifier(state).log_softmax(-1)
            terms += [-log_p[t - start, truth[t]] for t in range(start, end)]
    ours = finetune_segmentation.loss(
        model, *finetune_segmentation.inputs(model, processor, corpus, videos, settings, RNG(0))
    )
    assert_equal_in_value_and_gradient(model, ours, torch.stack(terms).mean())


def test_localization_equals_a_loop(small):
    folder, corpus, processor = small
    model = VideoCLIPModel.from_pretrained(folder / "checkpoint").eval()
    videos = finetune_localization.items(labelled.dataset("localization"), corpus)[:3]
    settings = FinetuneConfig(window=16, stride=5)
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
    ours = finetune_localization.loss(
        model, *finetune_localization.inputs(model, processor, corpus, videos, settings, RNG(0))
    )
    assert_equal_in_value_and_gradient(model, ours, torch.stack(terms).mean())


@pytest.mark.parametrize("task", [finetune_retrieval, finetune_videoqa])
def test_pairs_are_contrasted_one_way(small, task):
    folder, corpus, processor = small
    model = VideoCLIPModel.from_pretrained(folder / "checkpoint").eval()
    clips = task.items(labelled.dataset("retrieval"), corpus)[:4]
    rng = RNG(3)
    z_v = [model.get_video_features(rows_of(corpus, c.video_id)[None, :32]).pooler_output[0] for c in clips]
    said = [processor(text=c.sentences[rng.integers(3)]) for c in clips]
    z_t = [model.get_text_features(**text).pooler_output[0] for text in said]
    terms = []
    for i in range(4):
        rivals = [z_v[j] @ z_t[i] if task is finetune_retrieval else z_v[i] @ z_t[j] for j in range(4)]
        terms.append(torch.stack(rivals).logsumexp(0) - z_v[i] @ z_t[i])
    inputs = task.inputs(model, processor, corpus, clips, FinetuneConfig(), RNG(3))
    assert_equal_in_value_and_gradient(model, task.loss(model, *inputs), torch.stack(terms).mean())


# what is visited, and what validation scores


def test_a_clip_is_visited_with_each_of_its_sentences(small):
    _, corpus, processor = small
    clips = finetune_retrieval.items(labelled.dataset("retrieval"), corpus)
    assert len(clips) == labelled.N and clips[7].sentences == ("w7 w20", "w7 w30", "w7 w40")
    model = VideoCLIPModel.from_pretrained(small[0] / "checkpoint")
    rng, seen = RNG(0), set()
    for _ in range(60):
        ids = finetune_pairs.inputs(model, processor, corpus, clips[7:8], FinetuneConfig(), rng)[2]
        seen.add(processor.tokenizer.decode(ids[1:-1]))
    assert seen == set(clips[7].sentences)


def test_validation_ranks_one_sentence_a_clip(small):
    dataset, corpus = labelled.dataset("retrieval"), small[1]
    drawn = finetune_retrieval.scored(dataset, corpus, FinetuneConfig(), RNG(0))
    assert drawn.video_ids == dataset.video_ids and len(drawn) == labelled.N
    assert all(record in list(dataset) for record in drawn) and len(dataset) == 3 * labelled.N


def test_validation_asks_with_sentences_of_other_videos(small):
    dataset, corpus = labelled.dataset("videoqa"), small[1]
    questions = finetune_videoqa.scored(dataset, corpus, FinetuneConfig(), RNG(0))
    own = {v: {r.sentence for r in dataset if r.video_id == v} for v in dataset.video_ids}
    assert questions.video_ids == dataset.video_ids and len(questions) == labelled.N
    for question in questions:
        assert len(set(question.candidates)) == 5
        assert [c in own[question.video_id] for c in question.candidates].index(True) == question.answer
        assert sum(c in own[question.video_id] for c in question.candidates) == 1
    assert len({question.answer for question in questions}) == 5
    assert list(finetune_videoqa.scored(dataset, corpus, FinetuneConfig(), RNG(0))) == list(questions)
    assert finetune_videoqa.scored(questions, corpus, FinetuneConfig(), RNG(0)) is questions
    many = finetune_videoqa.scored(dataset, corpus, FinetuneConfig(candidates=1000), RNG(0))
    assert {len(question.candidates) for question in many} == {1 + 3 * (labelled.N - 1)}
    alone = Dataset("MSR-VTT", "train", list(dataset)[:3])
    with pytest.raises(ValueError, match="no video but 'video 0' has another sentence"):
        finetune_videoqa.scored(alone, corpus, FinetuneConfig(), RNG(0))


def test_questions_can_be_learnt_from_and_clips_of_longer_videos_cannot(small):
    corpus = small[1]
    questions = finetune_videoqa.scored(labelled.dataset("videoqa"), corpus, FinetuneConfig(), RNG(0))
    clips = finetune_videoqa.items(questions, corpus)
    assert [clip.sentences for clip in clips] == [(q.candidates[q.answer],) for q in questions]
    from vclip.datasets.youcook2 import Clip

    cut = Dataset("YouCook2", "training", [Clip("video 0", 0, 3, 9, "w1")])
    with pytest.raises(TypeError, match="VideoQA asks about whole ones"):
        finetune_videoqa.items(cut, corpus)
    clip = finetune_retrieval.items(cut, corpus)[0]
    model, processor = VideoCLIPModel.from_pretrained(small[0] / "checkpoint"), small[2]
    features, seconds, *_ = finetune_retrieval.inputs(model, processor, corpus, [clip], FinetuneConfig(), RNG(0))
    assert seconds.tolist() == [6] and features.shape == (6, corpora.DIM)
    np.testing.assert_array_equal(features.numpy(), corpus.features(corpus.index("video 0"))[3:9])
