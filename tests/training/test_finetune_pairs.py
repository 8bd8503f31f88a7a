"""Retrieval and VideoQA: the loss beside a plain loop, what is visited, and what validation scores."""

import numpy as np
import pytest
import torch

from vclip.datasets._records import Dataset
from vclip.datasets.youcook2 import Clip
from vclip.training.config import FinetuneConfig
from vclip.training.finetune_pairs import Retrieval, VideoQA

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
    z_v = [model.get_video_features(rows_of(corpus, c.video_id)[None, :32]).pooler_output[0] for c in clips]
    said = [processor(text=c.sentences[rng.integers(3)]) for c in clips]
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
    assert len(clips) == labelled.N and clips[7].sentences == ("w7 w20", "w7 w30", "w7 w40")
    rng, seen = RNG(0), set()
    for _ in range(60):
        ids = RETRIEVAL.inputs(clip, corpus, clips[7:8], rng)[2]
        seen.add(clip.processor.tokenizer.decode(ids[1:-1]))
    assert seen == set(clips[7].sentences)


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
    alone = Dataset("MSR-VTT", "train", list(dataset)[:3])
    with pytest.raises(ValueError, match="no video but 'video 0' has another sentence"):
        VIDEOQA.scored(alone, corpus, RNG(0))


def test_questions_can_be_learnt_from_and_clips_of_longer_videos_cannot(small):
    corpus = small[1]
    questions = VIDEOQA.scored(labelled.dataset("videoqa"), corpus, RNG(0))
    clips = VIDEOQA.items(questions, corpus)
    assert [clip.sentences for clip in clips] == [(q.candidates[q.answer],) for q in questions]
    cut = Dataset("YouCook2", "training", [Clip("video 0", 0, 3, 9, "w1")])
    with pytest.raises(TypeError, match="VideoQA asks about whole ones"):
        VIDEOQA.items(cut, corpus)
    clip = RETRIEVAL.items(cut, corpus)[0]
    features, video_lengths, *_ = RETRIEVAL.inputs(small[0], corpus, [clip], RNG(0))
    assert video_lengths.tolist() == [6] and features.shape == (6, corpora.DIM)
    np.testing.assert_array_equal(features.numpy(), corpus.features(corpus.index("video 0"))[3:9])
