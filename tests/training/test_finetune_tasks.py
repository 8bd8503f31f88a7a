"""Each task's loss beside the original's numbers and a plain loop, what is visited, and what validation scores."""

import json

import numpy as np
import pytest
import torch

from vclip.data.corpus import Corpus
from vclip.datasets import coin, crosstask
from vclip.datasets._records import Dataset
from vclip.datasets.youcook2 import Clip
from vclip.models.segmenter import VideoCLIPForSegmentation
from vclip.models.videoclip_encoder import VideoCLIP
from vclip.models.windows import sliding_windows
from vclip.tasks.localization import true_seconds
from vclip.tasks.segmentation import targets
from vclip.training.config import FinetuneConfig
from vclip.training.finetune_tasks import IGNORED, Localization, Retrieval, Segmentation, VideoQA

import corpora
import labelled
from labelled import assert_equal_in_value_and_gradient, rows_of

RNG = np.random.default_rng
RETRIEVAL, VIDEOQA = Retrieval(FinetuneConfig.paper("retrieval")), VideoQA(FinetuneConfig.paper("videoqa"))


@pytest.mark.parametrize("task", [RETRIEVAL, VIDEOQA])
def test_pairs_are_contrasted_one_way(small, task):
    clip, corpus = small
    model, processor = clip.model, clip.processor
    clips = task.items(labelled.dataset("retrieval"), corpus)[:4]
    rng = RNG(3)
    z_v = [
        model.get_video_features(rows_of(corpus, record.video_id)[None, :32]).pooler_output[0] for record, _ in clips
    ]
    said = [processor(text=sentences[rng.integers(3)]) for _, sentences in clips]
    z_t = [model.get_text_features(**text).pooler_output[0] for text in said]
    terms = []
    for i in range(4):
        rivals = [z_v[j] @ z_t[i] if task is RETRIEVAL else z_v[i] @ z_t[j] for j in range(4)]
        terms.append(torch.stack(rivals).logsumexp(0) - z_v[i] @ z_t[i])
    inputs = task.inputs(clip, corpus, clips, RNG(3))
    assert_equal_in_value_and_gradient(model, task.loss(model, *inputs), torch.stack(terms).mean())


def test_a_clip_is_visited_with_each_of_its_sentences(small):
    clip, corpus = small
    clips = RETRIEVAL.items(labelled.dataset("retrieval"), corpus)
    assert len(clips) == labelled.N and clips[7][1] == ["w7 w20", "w7 w30", "w7 w40"]
    rng, seen = RNG(0), set()
    for _ in range(60):
        ids = RETRIEVAL.inputs(clip, corpus, clips[7:8], rng)[2]
        seen.add(clip.processor.tokenizer.decode(ids[1:-1]))
    assert seen == set(clips[7][1])


def test_validation_ranks_one_sentence_a_clip(small):
    dataset, corpus = labelled.dataset("retrieval"), small[1]
    drawn = RETRIEVAL.scored(dataset, corpus, RNG(0))
    assert drawn.video_ids == dataset.video_ids and len(drawn) == labelled.N
    assert all(record in list(dataset) for record in drawn) and len(dataset) == 3 * labelled.N


def test_validation_asks_with_sentences_of_other_videos(small):
    dataset, corpus = labelled.dataset("videoqa"), small[1]
    questions = VIDEOQA.scored(dataset, corpus, RNG(0))
    own = {v: {r.sentence for r in dataset if r.video_id == v} for v in dataset.video_ids}
    assert questions.video_ids == dataset.video_ids and len(questions) == labelled.N
    for question in questions:
        assert len(set(question.candidates)) == 5
        assert [c in own[question.video_id] for c in question.candidates].index(True) == question.answer
        assert sum(c in own[question.video_id] for c in question.candidates) == 1
    assert len({question.answer for question in questions}) == 5
    assert list(VIDEOQA.scored(dataset, corpus, RNG(0))) == list(questions)
    assert VIDEOQA.scored(questions, corpus, RNG(0)) is questions
    many = VideoQA(FinetuneConfig(task="videoqa", candidates=1000)).scored(dataset, corpus, RNG(0))
    assert {len(question.candidates) for question in many} == {1 + 3 * (labelled.N - 1)}


def test_questions_can_be_learnt_from_and_clips_of_longer_videos_cannot(small):
    corpus = small[1]
    questions = VIDEOQA.scored(labelled.dataset("videoqa"), corpus, RNG(0))
    clips = VIDEOQA.items(questions, corpus)
    assert [sentences for _, sentences in clips] == [[q.candidates[q.answer]] for q in questions]
    cut = Dataset("YouCook2", "training", [Clip("video 0", 0, 3, 9, "w1"), Clip("video 0", 1, 9, 12, "w2")])
    with pytest.raises(TypeError, match="VideoQA asks about whole ones"):
        VIDEOQA.items(cut, corpus)
    clip = RETRIEVAL.items(cut, corpus)[0]
    features, video_lengths, *_ = RETRIEVAL.inputs(small[0], corpus, [clip], RNG(0))
    assert video_lengths.tolist() == [6] and features.shape == (6, corpora.DIM)
    np.testing.assert_array_equal(features.numpy(), corpus.features(corpus.index("video 0"))[3:9])


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
    mask = inputs[1] != IGNORED
    assert torch.equal(mask, expected["coin_vmasks"].bool())
    assert torch.equal(inputs[1], expected["coin_targets"])
    with torch.no_grad():
        logits = model(inputs[0], mask).logits[mask]
        loss = task.loss(model, *inputs)
    torch.testing.assert_close(logits[:, :40], expected["coin_logits_first40classes"][mask], atol=5e-5, rtol=0)
    torch.testing.assert_close(logits.logsumexp(-1), expected["coin_logits_logsumexp"][mask], atol=5e-5, rtol=0)
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
    features, *texts, truth, counted = inputs
    mask = counted.any(dim=-1)
    assert torch.equal(counted, mask[..., None].expand_as(counted))
    torch.testing.assert_close(truth[mask], expected["crosstask_targets"].float(), atol=0, rtol=0)
    with torch.no_grad():
        h_v = clip.model.get_video_features(features, mask, attend_cls=False).last_hidden_state
        found, loss = h_v @ clip.model.embed_texts(*texts).T, localization.loss(clip.model, *inputs)
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
