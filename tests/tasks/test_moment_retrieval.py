import gzip
import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vclip
from vclip.data.corpus import Corpus
from vclip.datasets import didemo
from vclip.models import videoclip_encoder
from vclip.tasks import moment_retrieval, retrieval
from vclip.tasks.moment_retrieval import MOMENTS, mean_rank, moment_metrics, moment_scores, rank_moments, top_iou


def test_retrieval_names_the_functions_too():
    for name in ("MOMENTS", "moment_scores", "rank_moments", "moment_metrics"):
        assert getattr(retrieval, name) is getattr(moment_retrieval, name)


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


@pytest.mark.parametrize("padding", ["valid", "reference"])
def test_moment_scores_of_numpy_and_of_halves(padding):
    generator = torch.Generator().manual_seed(0)
    h_v, z_t = torch.randn(17, 8, generator=generator).half(), torch.randn(8, generator=generator)
    expected = moment_scores(h_v.float(), z_t, padding)
    for h, z in ((h_v.numpy(), z_t.numpy()), (h_v, z_t), (h_v.float(), z_t.numpy()), (h_v.double(), z_t)):
        torch.testing.assert_close(moment_scores(h, z, padding).float(), expected)


def test_moment_scores_refuse():
    with pytest.raises(ValueError, match="40 seconds"):
        moment_scores(torch.zeros(32, 8), torch.zeros(8), "reference", 40)
    with pytest.raises(ValueError, match="'zero'"):
        moment_scores(torch.zeros(32, 8), torch.zeros(8), "zero")


def test_moment_metrics_are_golden(shared):
    golden = json.loads((shared / "golden" / "metrics" / "didemo.json").read_text())
    got = moment_metrics(golden["ranked_segments"], [record["times"] for record in golden["data"]])
    assert got.values() == pytest.approx(golden["metrics"], abs=1e-12)
    assert got.n == 60 and "rank5 0.4 (chance" in repr(got)


@pytest.fixture
def descriptions(zero_shot):
    return didemo.load(zero_shot.folder / "didemo")


@pytest.fixture(scope="module")
def expected(shared):
    return json.loads((shared / "golden" / "zero_shot" / "didemo" / "expected.json").read_text())


def one_by_one(zero_shot, record, padding):
    """Ranked moments of a description, one padded call a video."""
    rows = torch.from_numpy(np.load(zero_shot.features / f"{record.video_id}.npy")[:32]).float()
    padded = torch.nn.functional.pad(rows, (0, 0, 0, 32 - len(rows)))
    ids = zero_shot.processor(text=record.description)["input_ids"]
    with torch.no_grad():
        h_v = zero_shot.model.get_video_features(padded[None], torch.arange(32)[None] < len(rows))
        z_t = zero_shot.model.get_text_features(ids).pooler_output[0]
    return rank_moments(moment_scores(h_v.last_hidden_state[0], z_t, padding, len(rows)))


def test_released_protocol_is_golden_step_by_step(zero_shot, descriptions, expected):
    """From features to metrics, with the padded seconds that the original averages."""
    ranked = [one_by_one(zero_shot, record, "reference") for record in descriptions]
    assert [[list(m) for m in moments] for moments in ranked] == expected["ranked_segments"]
    got = moment_metrics(ranked, [record.times for record in descriptions])
    assert got.values() == pytest.approx(expected["metrics"], abs=1e-9)


@pytest.mark.parametrize("at_once", [3, 128])
def test_released_protocol_is_golden_through_evaluate(zero_shot, descriptions, expected, at_once, monkeypatch):
    monkeypatch.setattr(videoclip_encoder, "WINDOWS_AT_ONCE", at_once)
    report = vclip.evaluate(zero_shot.clip, descriptions, zero_shot.features, padding="reference")
    ranked = [[list(m) for m in moments] for moments in report.examples["ranked"]]
    assert ranked == expected["ranked_segments"]
    assert report.scores == pytest.approx(expected["metrics"], abs=1e-9)
    assert (report.task, report.n, report.unit) == ("moment_retrieval", 14, "descriptions")


def test_examples_are_what_was_scored(zero_shot, descriptions):
    features = Corpus.open(zero_shot.features)
    report = vclip.evaluate(zero_shot.clip, descriptions, features, "moment_retrieval")
    examples = report.examples
    ranked = [one_by_one(zero_shot, record, "valid") for record in descriptions]
    assert examples["ranked"].tolist() == ranked
    assert examples["top"].tolist() == [moments[0] for moments in ranked]
    assert examples["times"].tolist() == [record.times for record in descriptions]
    in_order = [sorted(moments, key=MOMENTS.index) for moments in ranked]
    assert report.baselines["fixed_order"] == moment_metrics(in_order, examples["times"].tolist()).values()
    assert report.scores == {
        "rank1": (examples["mean_rank"] <= 1).mean(),
        "rank5": (examples["mean_rank"] <= 5).mean(),
        "miou": pytest.approx(examples["iou"].mean()),
    }


@settings(max_examples=4)
@given(st.lists(st.sampled_from(MOMENTS[:7]), min_size=1, max_size=5), st.integers(1, 5))
def test_moment_chance_is_the_mean_over_all_orders(annotations, listed):
    orders = list(itertools.permutations(MOMENTS[:listed]))
    exact = moment_metrics(orders, [annotations] * len(orders)).values()
    n = 40
    chance = moment_metrics([MOMENTS[:listed]] * n, [annotations] * n).chance.values()
    assert all(abs(chance[name] - exact[name]) <= 5 * 0.5 / np.sqrt(moment_retrieval.DRAWS) for name in exact)


def test_moment_chance_on_real_annotations(shared):
    data = json.loads(gzip.decompress((shared / "annotations" / "didemo" / "test_data.json.gz").read_bytes()))[::4]
    times = [record["times"] for record in data]
    rng = np.random.default_rng(0)
    drawn = moment_metrics([[MOMENTS[i] for i in rng.permutation(21)] for _ in data], times)
    for name, chance in drawn.chance.values().items():
        assert abs(drawn.values()[name] - chance) < 4 * np.sqrt(chance * (1 - chance) / len(data))


def test_a_fixed_order_is_a_high_baseline_on_real_annotations(shared):
    """More than the paper's 16.6 % for the model."""
    times = [record.times for record in didemo.load(shared / "annotations" / "didemo")]
    got = moment_metrics([MOMENTS] * len(times), times)
    assert got.values() == pytest.approx({"rank1": 0.1940, "rank5": 0.6566, "miou": 0.2542}, abs=5e-5)


def test_moment_metrics_of_numpy():
    ranked, times = [MOMENTS[3:], MOMENTS[:18]], [[(0, 0), (3, 3)], [(0, 0), (1, 1)]]
    assert moment_metrics(np.array(ranked), np.array(times)) == moment_metrics(ranked, times)


def test_moments_that_miss_and_lists_that_are_empty():
    ranked, times = [[(0, 0)], []], [[(3, 3)], [(0, 0)]]
    assert list(moment_metrics(ranked, times).values().values()) == [0, 0, 0]
    assert list(map(mean_rank, ranked, times)) == [np.inf, np.inf] and list(map(top_iou, ranked, times)) == [0, 0]


def test_moment_metrics_refuse():
    for ranked, times in (([[(0, 0)], [(0, 0)]], [[(0, 0)], []]), ([[(0, 0)]], [[(0, 0)], [(0, 0)]])):
        with pytest.raises(ValueError, match="ranked lists for 2 descriptions, each with annotated MOMENTS"):
            moment_metrics(ranked, times)


def test_padded_rows_of_a_model_of_short_clips_are_refused():
    folder = vclip.minihowto()
    clip, records = vclip.load(folder / "checkpoint"), didemo.load(folder / "didemo" / "test")
    with pytest.raises(ValueError, match="padding 'reference' needs clips of 32 s, not 10: use 'valid'"):
        vclip.evaluate(clip, records, folder / "didemo" / "test" / "features", "moment_retrieval", padding="reference")


@pytest.mark.parametrize("moment", [(3, 1), (-2, -1), (3, 9), (0, float("nan"))])
def test_an_annotation_that_is_no_moment_is_refused(moment):
    with pytest.raises(ValueError, match="annotated MOMENTS"):
        moment_metrics([[(0, 0)]], [[(0, 0), moment]])
