import dataclasses
import json

import pytest

from vclip.data.samplers import OverlappedClips
from vclip.training import config as p
from vclip.training.config import FinetuneConfig, PretrainConfig, learning_rate

import corpora

BASE = PretrainConfig.paper(corpus="a", output="b")


def test_the_papers_numbers():
    assert (BASE.learning_rate, BASE.betas, BASE.warmup_steps, BASE.total_steps) == (5e-5, (0.9, 0.98), 1000, 1_000_000)
    assert (BASE.epochs, BASE.videos_per_batch, BASE.clips_per_video, BASE.candidates) == (25, 32, 16, 64)
    assert (BASE.clip_norm, BASE.retrieval_clips, BASE.precision, BASE.bert) == (2.0, 16, "fp16", "bert-base-uncased")


@pytest.mark.parametrize("schedule", ["pretrain_schedule", "finetune_schedule"])
def test_learning_rate_equals_the_original(shared, schedule):
    golden = json.loads((shared / "golden/training/steps.json").read_text())[schedule]
    warmup, total = golden.get("warmup_updates", 122), golden.get("total_num_update", 1_000_000)
    for step, value in golden["values"].items():
        assert learning_rate(int(step), golden["lr"], warmup, total) == pytest.approx(value, abs=1e-12)


def test_learning_rate_never_exceeds_its_peak():
    assert [learning_rate(u, 2.0, 0, 4) for u in (1, 2, 3, 4, 5)] == [1.5, 1.0, 0.5, 0.0, 0.0]
    for total in (5, 10):  # shorter than the warm-up, or as long
        assert [learning_rate(u, 1.0, 10, total) for u in (5, 10, 11, 20)] == [0.5, 1.0, 0.0, 0.0]


def test_every_field_has_a_default_and_paths_are_strings(tmp_path):
    assert PretrainConfig.paper().learning_rate == 5e-5
    config = PretrainConfig(corpus=tmp_path, output=tmp_path / "run")
    assert (config.corpus, config.output) == (str(tmp_path), str(tmp_path / "run"))
    assert config == PretrainConfig(corpus=str(tmp_path), output=str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("edit", "changed"),
    [
        (p.without_retrieval, {"retrieval": False}),
        (p.exact_alignment, {"sampler": "aligned"}),
        (p.mil_nce_clips, {"sampler": "mil_nce"}),
        (p.shared_towers, {"model": {"share_towers": True}}),
        (p.retrieve_k, {"candidates": 32}),
        (p.first_32_seconds, {"retrieval_first": True}),
        (p.use_cls, {"model": {"pooling": "cls"}}),
    ],
)
def test_an_ablation_edits_one_thing_and_leaves_its_argument_alone(edit, changed):
    before = dataclasses.asdict(BASE)
    after = dataclasses.asdict(edit(BASE))
    assert {name: value for name, value in after.items() if value != before[name]} == changed
    assert dataclasses.asdict(BASE) == before


@pytest.mark.parametrize(
    "make",
    [
        lambda: PretrainConfig(corpus="a", output="b", tokenizer="c", epoch=3),
        lambda: PretrainConfig.paper(corpus="a", output="b", epoch=3),
        lambda: dataclasses.replace(BASE, epoch=3),
    ],
)
def test_an_unknown_field_is_an_error_that_offers_the_nearest(make):
    with pytest.raises(TypeError, match="unknown field of PretrainConfig 'epoch': did you mean 'epochs'"):
        make()


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        *[("sampler", "random", "random"), ("precision", "fp64", "fp64"), ("epochs", 0, "0"), ("candidates", 31, "31")],
        *[("mini_batch_size", 0, "0"), ("text_tokens", (0, 8), "not 0")],
    ],
)
def test_values_that_cannot_work_are_refused_in_one_line(field, value, shown):
    with pytest.raises(ValueError, match=f"^PretrainConfig: {field}.*{shown}") as refused:
        dataclasses.replace(BASE, **{field: value})
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize("field", ["video_seconds", "text_tokens"])
@pytest.mark.parametrize("kind", [PretrainConfig, OverlappedClips])
def test_the_least_comes_before_the_most(field, kind):
    with pytest.raises(
        ValueError,
        match=rf"^{kind.__name__}: {field}: the second number must not be smaller than the first, not \(10, 3\)$",
    ):
        kind(**{field: (10, 3)})


@pytest.mark.parametrize("changes", [{"gather_negatives": True}, {"temperature": 0.07}])
def test_mil_nce_gathers_nothing_and_has_no_temperature(changes):
    with pytest.raises(ValueError, match="gather_negatives and temperature are for InfoNCE"):
        p.mil_nce_clips(dataclasses.replace(BASE, **changes))


@pytest.mark.parametrize("value", [0, 0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_is_above_zero(value):
    with pytest.raises(ValueError, match="temperature"):
        dataclasses.replace(BASE, temperature=value)


def test_the_sample_recipe_ends_at_a_learning_rate_of_zero():
    for changes in ({}, {"videos_per_batch": 16, "epochs": 3}, {"videos_per_batch": 8}):
        config = PretrainConfig.sample(**changes)
        assert config.total_steps == config.epochs * (600 // config.videos_per_batch)
    assert PretrainConfig.sample(total_steps=7).total_steps == 7


def test_a_config_shows_what_differs_from_the_defaults():
    assert repr(PretrainConfig(epochs=3, corpus="mine")) == "PretrainConfig(epochs=3, corpus='mine')"
    assert repr(FinetuneConfig(task="videoqa")) == "FinetuneConfig(task='videoqa')"


def test_a_handful_of_videos_is_refused_by_the_small_recipe(tmp_path):
    corpora.make(tmp_path / "corpus", 4)
    with pytest.raises(ValueError, match="has 4 videos with captions: extract at least 5"):
        PretrainConfig.small(tmp_path / "corpus")
