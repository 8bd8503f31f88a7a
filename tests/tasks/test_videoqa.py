import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from vclip import evaluate
from vclip.data.corpus import Corpus
from vclip.datasets import msrvtt
from vclip.datasets._records import Dataset
from vclip.datasets.msrvtt import Question
from vclip.models.videoclip_encoder import VideoCLIP
from vclip.tasks import videoqa
from vclip.tasks.retrieval import text_to_video
from vclip.tasks.videoqa import score


def loop(z_v, z_t, answers):
    """One question, one candidate, one dimension at a time."""
    predictions, chances = [], []
    for video, texts in zip(z_v, z_t, strict=True):
        best, largest = 0, -np.inf
        for c, text in enumerate(texts):
            dot = sum(float(a) * float(b) for a, b in zip(text, video, strict=True))
            if dot > largest:
                best, largest = c, dot
        predictions.append(best)
        chances.append(1 / len(texts))
    hits = [prediction == int(answer) for prediction, answer in zip(predictions, answers, strict=True)]
    return sum(hits) / len(hits), predictions, sum(chances) / len(chances)


def values(got):
    return got.accuracy, got.predictions.tolist(), pytest.approx(got.chance)


@given(st.data(), st.integers(1, 9), st.integers(1, 4))
def test_score_equals_loop(data, n, dim):
    counts = data.draw(st.lists(st.integers(1, 6), min_size=n, max_size=n))
    if data.draw(st.booleans()):
        counts = [counts[0]] * n
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    # few values: ties occur
    z_v = rng.integers(-2, 3, (n, dim)).astype(np.float32)
    z_t = [rng.integers(-2, 3, (c, dim)).astype(np.float32) for c in counts]
    answers = [int(rng.integers(c)) for c in counts]
    expected = loop(z_v, z_t, answers)
    assert values(score(z_v, z_t, answers)) == expected
    assert values(score(torch.from_numpy(z_v), [torch.from_numpy(t) for t in z_t], answers)) == expected
    if len(set(counts)) == 1:
        assert values(score(z_v, np.stack(z_t), np.array(answers))) == expected
        half = torch.from_numpy(np.stack(z_t)).bfloat16().requires_grad_()
        assert values(score(torch.from_numpy(z_v), half, torch.tensor(answers))) == expected


def test_of_candidates_that_are_one_the_first_is_chosen():
    """A matrix product rounds equal rows differently."""
    rng = np.random.default_rng(0)
    z_v, z_t = rng.standard_normal((200, 768)), rng.standard_normal((200, 7, 768))
    z_t[:, 2] += z_v
    z_t[:, 6] = z_t[:, 2]
    for layout in (z_t, np.asfortranarray(z_t), torch.from_numpy(z_t)):
        assert score(z_v, layout, [2] * 200).accuracy == 1


@pytest.mark.parametrize("kind", [np.uint8, np.int16, torch.uint8, list])
def test_answers_of_any_whole_kind(kind):
    z_v, z_t, answers = np.ones((2, 3)), np.ones((2, 4, 3)), [0, 3]
    if kind is not list:
        answers = torch.tensor(answers, dtype=kind) if isinstance(kind, torch.dtype) else np.array(answers, kind)
    assert score(z_v, z_t, answers).accuracy == 0.5


def test_golden_score(shared):
    folder = shared / "golden" / "metrics"
    arrays = np.load(folder / "qa.npz", allow_pickle=False)
    expected = json.loads((folder / "qa.json").read_text())
    got = score(arrays["pooled_video"], arrays["pooled_text"], arrays["answers"])
    assert got.predictions.tolist() == arrays["pred"].tolist()
    assert got.accuracy == pytest.approx(expected["acc"], abs=1e-12)
    assert (got.n, got.chance) == (len(arrays["answers"]), pytest.approx(0.2))
    assert "accuracy 0.1562 (chance 0.2), n 64" in repr(got)


@given(st.integers(0, 99), st.integers(2, 6))
def test_the_order_of_candidates_does_not_matter(seed, candidates):
    rng = np.random.default_rng(seed)
    z_v, z_t = rng.standard_normal((5, 3)), rng.standard_normal((5, candidates, 3))
    answers, order = rng.integers(candidates, size=5), rng.permutation(candidates)
    moved = np.argsort(order)[answers]  # where each answer now stands
    before, after = score(z_v, z_t, answers), score(z_v, z_t[:, order], moved)
    assert order[after.predictions].tolist() == before.predictions.tolist() and after.accuracy == before.accuracy


def test_chance_is_what_random_vectors_score():
    rng = np.random.default_rng(0)
    n, counts = 4000, [2, 5] * 2000
    got = score(
        rng.standard_normal((n, 8)),
        [rng.standard_normal((c, 8)) for c in counts],
        [int(rng.integers(c)) for c in counts],
    )
    assert got.chance == pytest.approx(0.35)
    assert abs(got.accuracy - got.chance) < 4 * np.sqrt(0.35 * 0.65 / n)


ONES = np.ones((3, 5, 2))


@pytest.mark.parametrize(
    ("z_t", "answers", "error"),
    [
        (ONES, [0, 5, 0], "question 1: answer 5 of 5 candidates"),
        (ONES, [0, 0, -1], "question 2: answer -1 of 5 candidates"),
        (ONES, [0, 1.0, 0], "3 questions, 3 answers of type float64"),
        (ONES, [0, 0], "3 questions, 2 answers of type int64"),
        ([*ONES, ONES[0]], [0, 0, 0], "3 videos, 4 questions"),
        ([ONES[0], ONES[0][:2], ONES[0]], [4, 2, 4], "question 1: answer 2 of 2 candidates"),
        (np.where(np.arange(30).reshape(3, 5, 2) == 13, np.nan, 1), [0, 0, 0], "question 1: .*scored .*nan"),
    ],
)
def test_score_refuses(z_t, answers, error):
    with pytest.raises(ValueError, match=error):
        score(np.ones((3, 2)), z_t, answers)
    with pytest.raises(ValueError, match="0 questions"):
        score(np.ones((0, 2)), np.ones((0, 5, 2)), [])


# from annotations and features


@pytest.fixture(scope="module")
def golden(zero_shot):
    """The original's small model, its processor, the features as <id>.npy files, and zero_shot/."""
    return zero_shot.model, zero_shot.processor, zero_shot.features, zero_shot.folder


def test_golden_questions(golden):
    model, processor, features, folder = golden
    expected = json.loads((folder / "msrvtt_qa" / "expected.json").read_text())
    questions = msrvtt.load(folder / "msrvtt_qa", split="multiple_choice")
    report = evaluate(VideoCLIP(model, processor), questions, features)
    assert report.examples["prediction"].tolist() == expected["pred"]
    assert report.examples["answer"].tolist() == expected["answers"]
    assert report.scores == pytest.approx({"accuracy": expected["metrics"]["acc"]}, abs=1e-9)
    most = max(expected["answers"].count(a) for a in range(5)) / len(questions)
    assert report.baselines["chance"] == {"accuracy": pytest.approx(0.2)}
    assert report.baselines["most frequent answer"] == {"accuracy": pytest.approx(most)}
    assert (report.task, report.n, report.unit) == ("videoqa", len(questions), "questions")
    assert report.coverage["missing"] == []


def test_golden_retrieval(golden):
    model, processor, features, folder = golden
    expected = json.loads((folder / "msrvtt" / "expected.json").read_text())["metrics"]
    clips = msrvtt.load(folder / "msrvtt")
    similarity, found = text_to_video(VideoCLIP(model, processor), clips, Corpus.open(features))
    golden_similarity = np.load(folder / "msrvtt" / "expected.npz", allow_pickle=False)["sim_text_by_video"]
    assert found == list(range(len(clips)))
    np.testing.assert_allclose(similarity, golden_similarity, atol=2e-5, rtol=0)
    got = evaluate(VideoCLIP(model, processor), clips, features).scores
    names = {"r1": "R1", "r5": "R5", "r10": "R10", "median_rank": "MR"}
    assert {name: got[name] for name in names} == pytest.approx({n: expected[o] for n, o in names.items()}, abs=1e-9)


def test_examples_are_what_score_says_of_padded_batches(golden):
    """Questions of two to five candidates, one video without features, sentences and videos that return."""
    model, processor, features, folder = golden
    whole = msrvtt.load(folder / "msrvtt_qa", split="multiple_choice")
    cut = [Question(q.video_id, q.candidates[: 2 + i % 4], min(q.answer, 1)) for i, q in enumerate(whole)]
    cut += [Question("elsewhere", ("a", "b"), 1), Question(cut[0].video_id, cut[3].candidates, 0)]
    dataset = Dataset("MSR-VTT", "cut", cut, ("videoqa",))
    corpus = Corpus.open(features)
    found = videoqa.examine(VideoCLIP(model, processor), dataset, corpus)
    examples = found["examples"]
    kept = [q for q in cut if q.video_id != "elsewhere"]
    assert isinstance(examples, pd.DataFrame) and found["n"] == len(examples) == len(kept)
    z_v, z_t = [], []
    with torch.no_grad():
        for q, (_, row) in zip(kept, examples.iterrows(), strict=True):
            batch = processor(text=list(q.candidates), videos=[corpus.features(corpus.index(q.video_id))])
            z_v.append(model.get_video_features(batch["video_features"], batch["video_mask"]).pooler_output[0])
            z_t.append(model.get_text_features(batch["input_ids"], batch["attention_mask"]).pooler_output)
            assert (row["video_id"], tuple(row["candidates"]), row["answer"]) == (q.video_id, q.candidates, q.answer)
            assert row["scores"] == pytest.approx((z_t[-1] @ z_v[-1]).tolist(), abs=2e-5)
    expected = score(torch.stack(z_v), z_t, [q.answer for q in kept])
    assert examples["prediction"].tolist() == expected.predictions.tolist()
    assert found["scores"] == {"accuracy": expected.accuracy}
    assert found["baselines"]["chance"] == {"accuracy": expected.chance}
    assert evaluate(VideoCLIP(model, processor), dataset, corpus).coverage["missing"] == ["elsewhere"]


@pytest.mark.parametrize("shapes", [((2, 3), (2, 4, 1)), ((2, 1), (2, 4, 3)), ((2,), (2, 4, 3)), ((2, 3), (2, 3))])
def test_vectors_of_other_shapes_are_refused(shapes):
    with pytest.raises((ValueError, TypeCheckError)):
        score(*map(np.ones, shapes), [0, 0])


def test_no_questions_have_no_accuracy():
    with pytest.raises(ValueError, match="0 questions"):
        score(np.ones((0, 3)), np.ones((0, 4, 3)), np.zeros(0, int))
