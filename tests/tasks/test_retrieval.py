import json
import pickle
import tracemalloc
from dataclasses import dataclass, replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import vclip
from vclip.data.corpus import Corpus
from vclip.datasets import youcook2
from vclip.datasets._records import Dataset
from vclip.models.videoclip_encoder import VideoCLIP
from vclip.tasks import retrieval
from vclip.tasks.retrieval import clip_features, rank_texts, score, text_to_video

import corpora


def loop(similarity, ties):
    """Ranks by sorting a row at a time."""
    ranks = []
    for i, row in enumerate(similarity.tolist()):
        places = [place for place, value in enumerate(sorted(row, reverse=True), 1) if value == row[i]]
        ranks += places if ties == "reference" else places[-1:]
    return [np.mean([rank <= k for rank in ranks]) for k in (1, 5, 10)] + [np.median(ranks)]


def values(score):
    return [score.r1, score.r5, score.r10, score.median_rank]


square = st.integers(1, 14).flatmap(
    lambda n: hnp.arrays(np.float32, (n, n), elements=st.sampled_from([-2, 0, 0.5, 1, np.float32(0.1), 7]))
)
# small whole numbers: dot products are exact and often equal
vectors = st.tuples(st.integers(1, 14), st.integers(1, 3)).flatmap(
    lambda shape: hnp.arrays(np.float32, (2, *shape), elements=st.integers(-1, 2).map(float))
)
blocks = st.sampled_from([1, 20, 2**24])


@pytest.mark.parametrize("ties", ["against", "reference"])
@given(similarity=square)
def test_score_equals_loop(similarity, ties):
    expected = pytest.approx(loop(similarity, ties), abs=1e-12)
    assert values(score(similarity, ties)) == expected
    assert values(score(torch.from_numpy(similarity), ties)) == expected
    assert values(score(torch.from_numpy(similarity).bfloat16(), ties)) == expected
    whole = similarity.astype(np.int64)
    assert values(score(whole, ties)) == pytest.approx(loop(whole, ties), abs=1e-12)


@given(pair=vectors, block=blocks, data=st.data())
def test_ranks_equal_loop(pair, block, data):
    z_t, z_v = pair
    own = np.array(data.draw(st.lists(st.integers(0, len(z_v) - 1), min_size=len(z_t), max_size=len(z_t))))
    similarity = z_t @ z_v.T
    with patch.object(retrieval, "AT_ONCE", block):
        got = rank_texts(z_t, z_v, own)
    for row, mine, found in zip(similarity.tolist(), own, got.itertuples(), strict=True):
        assert found.closer == sum(s > row[mine] for s in row)
        assert found.level == sum(s == row[mine] for s in row)
        assert (found.similarity, found.top, found.top_similarity) == (row[mine], row.index(max(row)), max(row))


@pytest.mark.parametrize("n", [13, 397])
@pytest.mark.parametrize("block", [1, 2**24])
def test_videos_that_are_one_are_level(n, block):
    """BLAS rounds the products of equal columns differently: without care some texts would not see the tie."""
    rng = np.random.default_rng(0)
    z = rng.standard_normal((n, 768), dtype=np.float32)
    z[:, 0] = 0
    again = z * np.array([-1] + 767 * [1], np.float32)  # its -0 equals 0
    z_v = np.concatenate([z, again, z[:3]])
    z_t = z_v + rng.standard_normal(z_v.shape, dtype=np.float32)
    with patch.object(retrieval, "AT_ONCE", block):
        got = rank_texts(z_t, z_v, np.arange(len(z_v)))
    assert got["level"].tolist() == 2 * ([3] * 3 + [2] * (n - 3)) + [3] * 3
    assert got["closer"].tolist() == [0] * len(z_v) and got["top"].tolist() == [i % n for i in range(len(z_v))]


def test_memory_does_not_grow_with_the_matrix():
    """The similarities of 7,000 pairs are 196 MB, of 14,000 they are 784."""
    peaks = []
    for n in (7000, 14000):
        z_t, z_v = np.random.default_rng(0).standard_normal((2, n, 4), dtype=np.float32)
        tracemalloc.start()
        rank_texts(z_t, z_v, np.arange(n))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0] and peaks[1] < 220 * 2**20


def test_memory_holds_the_vectors_at_most_once_more():
    """They are 49 MB, the similarities with what is compared in them 54."""
    z_t, z_v = np.random.default_rng(0).standard_normal((2, 3000, 4096), dtype=np.float32)
    tracemalloc.start()
    rank_texts(z_t, z_v, np.arange(3000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 75e6


@pytest.mark.parametrize("name", ["sim", "sim_ties", "sim_constant"])
def test_reference_is_golden(shared, name):
    folder = shared / "golden" / "metrics"
    expected = json.loads((folder / "retrieval.json").read_text())[name]
    similarity = np.load(folder / "retrieval.npz", allow_pickle=False)[name]
    got = score(similarity, ties="reference")
    assert values(got) == pytest.approx([expected[k] for k in ("R1", "R5", "R10", "MR")], abs=1e-12)
    if name == "sim":  # without ties both ways of counting agree
        assert values(score(similarity)) == values(got)


def test_ties_count_against():
    constant = score(np.zeros((20, 20)))
    assert values(constant) == [0, 0, 0, 20]
    assert "r1 0 (chance 0.05)" in repr(constant) and "n 20" in repr(constant)


def test_chance_is_the_mean_of_random_ranks():
    rng = np.random.default_rng(0)
    drawn = np.mean([values(score(rng.random((40, 40)))) for _ in range(400)], axis=0)
    expected = score(np.eye(40)).chance
    tolerance = 4 * 0.5 / np.sqrt(400 * 40) * np.array([1, 1, 1, 40])
    assert (np.abs(drawn - values(expected)) < tolerance).all()
    assert values(score(np.eye(3)).chance) == [1 / 3, 1, 1, 2]


@pytest.mark.parametrize(
    ("similarity", "error"),
    [
        (np.zeros((2, 3)), r"\(2, 3\)"),
        (np.zeros((0, 0)), r"\(0, 0\)"),
        (np.where(np.eye(3)[[1, 0, 2]], np.nan, 0), "text 0 and video 1 is NaN"),
        (torch.tensor([[0.0, 1], [0, torch.nan]]), "text 1 and video 1 is NaN"),
    ],
)
def test_score_refuses(similarity, error):
    with pytest.raises(ValueError, match=error):
        score(similarity)


# records


@dataclass(frozen=True)
class Whole:
    video_id: str
    sentence: str


@dataclass(frozen=True)
class Part(Whole):
    start: float = 0
    end: float | None = None


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    return corpora.make(tmp_path_factory.mktemp("corpus") / "c", 6)


def test_a_record_is_its_seconds_or_the_whole_video(corpus):
    video = corpus.features(0)
    for record, expected in [
        (Whole("video 0", ""), video),
        (Part("video 0", ""), video),
        (Part("video 0", "", 3, 7), video[3:7]),
        (Part("video 0", "", 3), video[3:]),
        (Part("video 0", "", 3.0, 7.9), video[3:7]),
        (Part("video 0", "", len(video) - 2, 1000), video[-2:]),
        (Part("video 0", "", 1000, 1010), video[:0]),
    ]:
        np.testing.assert_array_equal(clip_features(record, corpus), expected)


@pytest.mark.parametrize("text", ["annotation_text", "record_caption"])
def test_youcook_is_golden(zero_shot, tmp_path, text):
    folder = zero_shot.folder / "youcook"
    records = json.loads((folder / "youcook_val_records.json").read_text())
    (tmp_path / "youcook_val.pkl").write_bytes(pickle.dumps(records))
    clips = youcook2.load(folder, clips=tmp_path / "youcook_val.pkl")
    if text == "record_caption":
        clips = Dataset(clips.name, clips.split, [replace(clip, sentence=clip.caption) for clip in clips], clips.tasks)
    expected = json.loads((folder / f"expected_{text}.json").read_text())["metrics"]
    golden = np.load(folder / "expected.npz", allow_pickle=False)
    features = Corpus.open(zero_shot.features)

    seconds = [min(len(clip_features(clip, features)), 32) for clip in clips]
    assert seconds == golden[f"n_tokens_{text}"].tolist() and 0 in seconds
    similarity, found = text_to_video(zero_shot.clip, clips, features)
    assert found == list(range(len(clips)))
    np.testing.assert_allclose(similarity, golden[f"sim_{text}"], atol=2e-5)
    metrics = [expected[name] for name in ("R1", "R5", "R10", "MR")]
    assert values(score(similarity, "reference")) == pytest.approx(metrics, abs=1e-9)

    report = vclip.evaluate(zero_shot.clip, clips, zero_shot.features, ties="reference")
    assert list(report.scores.values()) == pytest.approx(metrics, abs=1e-9)
    assert (report.task, report.n, report.unit) == ("retrieval", 20, "texts")
    np.testing.assert_allclose(report.examples["similarity"], np.diag(golden[f"sim_{text}"]), atol=2e-5)
    np.testing.assert_allclose(report.examples["top_similarity"], golden[f"sim_{text}"].max(1), atol=2e-5)


def test_a_clip_with_several_sentences_counts_once(zero_shot):
    features = Corpus.open(zero_shot.features)
    listed = [Part(video_id, f"w{i} w{i % 7}", i % 3, 9 + i) for i, video_id in enumerate(features.video_ids)]
    again = [replace(part, sentence="now " + part.sentence) for part in listed]
    two = Dataset("made", "all", [*listed, *again[::-1]], ["retrieval"])
    report = vclip.evaluate(zero_shot.clip, two, features)
    similarity, _ = text_to_video(zero_shot.clip, two, features)
    np.testing.assert_array_equal(similarity, similarity[:, ::-1])
    alone = similarity[:, : len(listed)]
    own = [*range(len(listed)), *reversed(range(len(listed)))]
    ranks = [int((row >= row[k]).sum()) for row, k in zip(alone, own, strict=True)]
    assert report.examples["rank"].tolist() == ranks and report.n == 2 * len(listed)
    assert list(report.scores.values()) == [*(np.mean(np.array(ranks) <= k) for k in (1, 5, 10)), np.median(ranks)]
    assert report.baselines["chance"]["r1"] == 1 / len(listed)


def test_examples_say_what_was_found(zero_shot):
    ids = ["10@N00_0.avi", "gone", "11@N00_1.avi", "12@N00_2.avi"]
    wholes = [Whole(video_id, f"w{i}") for i, video_id in enumerate(ids)]
    parts = [Part(video_id, f"w{i}", i, i + 9) for i, video_id in enumerate(ids)]
    model, processor, features = zero_shot.model, zero_shot.processor, Corpus.open(zero_shot.features)
    for records in (wholes, parts):
        similarity, found = text_to_video(VideoCLIP(model, processor), records, features)
        report = vclip.evaluate(VideoCLIP(model, processor), Dataset("made", "all", records, ["retrieval"]), features)
        counts = {"videos": 3, "of": 4, "missing": ["gone"], "records": 3, "of_records": 4, "short": {}}
        assert found == [0, 2, 3] and report.coverage.items() >= counts.items()
        examples = report.examples
        assert examples["video_id"].tolist() == [ids[i] for i in found]
        assert examples["sentence"].tolist() == ["w0", "w2", "w3"]
        top = similarity.argmax(1)
        assert examples["top_video_id"].tolist() == [ids[found[i]] for i in top]
        assert examples["rank"].tolist() == (similarity >= np.diag(similarity)[:, None]).sum(1).tolist()
        assert report.scores["r1"] == (examples["rank"] == 1).mean()
        assert ("top_start" in examples) == (records is parts)
    assert examples["top_start"].tolist() == [found[i] for i in top]
