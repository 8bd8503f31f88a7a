import gzip
import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from transformers import BertTokenizerFast

from vclip.checkpoints import load_videoclip
from vclip.tasks.retrieval import MOMENTS, moment_metrics, moment_scores, rank_moments, score

import reference


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


@pytest.mark.parametrize("ties", ["against", "reference"])
@given(similarity=square, block=st.sampled_from([1, 20, 2**22]))
def test_score_equals_loop(similarity, block, ties):
    expected = pytest.approx(loop(similarity, ties), abs=1e-12)
    assert values(score(similarity, ties)) == expected
    assert values(score(torch.from_numpy(similarity), ties)) == expected


def test_blocks_of_rows_do_not_matter():
    similarity = np.random.default_rng(0).integers(0, 900, (2100, 2100)).astype(np.float32)  # two blocks
    assert values(score(similarity, "reference")) == pytest.approx(loop(similarity, "reference"), abs=1e-12)


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


# moments


def test_moments_are_in_the_original_order(shared):
    golden = json.loads((shared / "golden" / "metrics" / "didemo.json").read_text())
    assert [list(m) for m in MOMENTS] == golden["possible_segments"]
    assert len(MOMENTS) == 21


@pytest.mark.parametrize("seconds", [0, 1, 5, 6, 17, 29, 32])
def test_moment_scores_equal_loop(seconds):
    generator = torch.Generator().manual_seed(seconds)
    h_v, z_t = torch.randn(32, 8, generator=generator), torch.randn(8, generator=generator)
    valid, released = moment_scores(h_v[:seconds], z_t), moment_scores(h_v, z_t, "reference", seconds)
    torch.testing.assert_close(moment_scores(h_v, z_t, "valid", seconds), valid)
    for i, (first, last) in enumerate(MOMENTS):
        rows = [t for t in range(5 * first, 5 * (last + 1)) if t < seconds]
        if not rows:
            assert valid[i] == released[i] == -torch.inf
            continue
        torch.testing.assert_close(valid[i], torch.stack([h_v[t] for t in rows]).mean(0) @ z_t)
        torch.testing.assert_close(released[i], h_v[5 * first : 5 * (last + 1)].mean(0) @ z_t)
    ranked = rank_moments(valid)
    assert len(ranked) == sum(5 * first < seconds for first, _ in MOMENTS)
    assert [MOMENTS.index(m) for m in ranked] == sorted(map(MOMENTS.index, ranked), key=lambda i: -valid[i].item())


def test_moment_scores_refuse():
    with pytest.raises(ValueError, match="40 seconds"):
        moment_scores(torch.zeros(32, 8), torch.zeros(8), "reference", 40)
    with pytest.raises(ValueError, match="'zero'"):
        moment_scores(torch.zeros(32, 8), torch.zeros(8), "zero")


def test_moment_metrics_are_golden(shared):
    golden = json.loads((shared / "golden" / "metrics" / "didemo.json").read_text())
    got = moment_metrics(golden["ranked_segments"], [record["times"] for record in golden["data"]])
    assert {name: getattr(got, name) for name in golden["metrics"]} == pytest.approx(golden["metrics"], abs=1e-12)
    assert got.n == 60 and "rank5 0.4 (chance" in repr(got)


def test_released_moment_protocol_is_golden(shared):
    """DiDeMo zero-shot from features to metrics, with the padded seconds that the original averages."""
    golden = shared / "golden"
    folder = golden / "model_separate"
    model = load_videoclip(folder / "checkpoint.pt", reference.config(folder))
    tokenizer = BertTokenizerFast(vocab=str(golden / "zero_shot" / "vocab.txt"))
    features = np.load(golden / "zero_shot" / "features.npz", allow_pickle=False)
    data = json.loads((golden / "zero_shot" / "didemo" / "test_data.json").read_text())
    expected = json.loads((golden / "zero_shot" / "didemo" / "expected.json").read_text())
    ranked = []
    for record in data:
        rows = torch.from_numpy(features[record["video"]][:32]).float()
        padded = torch.nn.functional.pad(rows, (0, 0, 0, 32 - len(rows)))
        ids = tokenizer(record["description"], return_tensors="pt")["input_ids"]
        with torch.no_grad():
            h_v = model.get_video_features(padded[None], torch.arange(32)[None] < len(rows)).last_hidden_state[0]
            z_t = model.get_text_features(ids).pooler_output[0]
        ranked.append([list(m) for m in rank_moments(moment_scores(h_v, z_t, "reference", len(rows)))])
    assert ranked == expected["ranked_segments"]
    got = moment_metrics(ranked, [record["times"] for record in data])
    assert {name: getattr(got, name) for name in expected["metrics"]} == pytest.approx(expected["metrics"], abs=1e-9)


@settings(max_examples=25)
@given(st.lists(st.sampled_from(MOMENTS[:7]), min_size=1, max_size=5), st.integers(1, 5))
def test_moment_chance_is_the_mean_over_all_orders(annotations, listed):
    candidates = MOMENTS[:listed]
    orders = list(itertools.permutations(candidates))
    got = [moment_metrics([order], [annotations]) for order in orders]
    chance = got[0].chance
    for name in ("rank1", "rank5", "miou"):
        assert np.mean([getattr(g, name) for g in got]) == pytest.approx(getattr(chance, name), abs=1e-12)


def test_moment_chance_on_real_annotations(shared):
    data = json.loads(gzip.decompress((shared / "annotations" / "didemo" / "test_data.json.gz").read_bytes()))[::4]
    times = [record["times"] for record in data]
    rng = np.random.default_rng(0)
    drawn = moment_metrics([[MOMENTS[i] for i in rng.permutation(21)] for _ in data], times)
    for name in ("rank1", "rank5", "miou"):
        chance = getattr(drawn.chance, name)
        assert abs(getattr(drawn, name) - chance) < 4 * np.sqrt(chance * (1 - chance) / len(data))


def test_moment_metrics_misses_and_refusals():
    nowhere = moment_metrics([[(0, 0)], []], [[(3, 3)], [(0, 0)]])
    assert (nowhere.rank1, nowhere.rank5, nowhere.miou) == (0, 0, 0)
    with pytest.raises(ValueError, match="description 1 has no annotation"):
        moment_metrics([[(0, 0)], [(0, 0)]], [[(0, 0)], []])
    with pytest.raises(ValueError, match="1 ranked lists for 2"):
        moment_metrics([[(0, 0)]], [[(0, 0)], [(0, 0)]])
