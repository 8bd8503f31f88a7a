"""Each row edits what it says, and nothing else; a trial knows its base and what it is scored on."""

import dataclasses
from pathlib import Path

import pytest
from ablations.rows import ROWS, STEPS, VIDEOS, Scored, Trial, ablation_base
from worlds import World, make, world_base

from vclip import PretrainConfig
from vclip.data.corpus import Corpus
from vclip.training.config import without_retrieval

CHANGED = {
    "full": {},
    "w/o retrieval": {"retrieval": False},
    "w/o retrieval and overlap": {"retrieval": False, "sampler": "aligned"},
    "MIL-NCE clips and loss": {"sampler": "mil_nce"},
    "shared towers": {"model": None},
    "retrieve k": {"candidates": VIDEOS},
    "first 32 s for retrieval": {"retrieval_first": True},
    "[CLS]": {"model": None},
    "w/o overlap": {"sampler": "aligned"},
}


def test_rows_are_table_7_and_one_more_in_order():
    assert list(ROWS) == list(CHANGED)


@pytest.mark.parametrize("row", list(ROWS))
def test_a_row_changes_one_thing(row):
    base = ablation_base(seed=3, output="o")
    before, after = dataclasses.asdict(base), dataclasses.asdict(Trial(row, 3).config("o"))
    changed = {name: after[name] for name in before if after[name] != before[name]}
    assert changed.keys() == CHANGED[row].keys()
    for name, value in CHANGED[row].items():
        assert value is None or changed[name] == value
    towers = {"shared towers": {"share_towers": True}, "[CLS]": {"pooling": "cls"}}
    assert {k: v for k, v in after["model"].items() if before["model"].get(k) != v} == towers.get(row, {})


def test_what_a_trial_cannot_be_is_refused_when_it_is_made():
    with pytest.raises(TypeError, match="unknown row of the table 'w/o everything'.*w/o"):
        Trial("w/o everything", 0)
    with pytest.raises(TypeError, match="changes hold seed"):
        Trial("full", 0, changes={"seed": 3})
    for given in ({}, {"corpus": "mine"}):
        with pytest.raises(ValueError, match="for real videos: name a corpus, and what to score"):
            Trial("full", 0, paper=True, **given)


@pytest.mark.parametrize("steps", [STEPS, 50, 750])
@pytest.mark.parametrize("batch", [8, VIDEOS])
def test_every_corpus_gets_as_many_steps_up_to_part_of_an_epoch(few, steps, batch):
    for corpus in (few, ""):
        config = ablation_base(corpus, total_steps=steps, videos_per_batch=batch)
        an_epoch = max(1, len(Corpus.open(config.corpus)) // config.videos_per_batch)
        assert abs(config.epochs * an_epoch - steps) <= an_epoch / 2
        assert (config.total_steps, config.warmup_steps) == (steps, steps // 10)


def test_clips_are_those_of_the_sample_recipe():
    base, sample = ablation_base(), PretrainConfig.sample()
    for name in ("video_seconds", "text_tokens", "temperature", "learning_rate", "retrieval_clips", "tokenizer"):
        assert getattr(base, name) == getattr(sample, name)
    assert base.model["max_video_tokens"] == sample.model["max_video_tokens"] == base.video_seconds[1]


def test_a_world_brings_its_base_and_its_test_set(tmp_path):
    folder = str(make(World(domains=4, tested=2, videos=20), tmp_path / "world"))
    trial = Trial("w/o retrieval", 1, folder, changes={"total_steps": 10})
    assert trial.world and trial.data == "world"
    assert trial.config("o") == without_retrieval(world_base(folder, total_steps=10, seed=1, output="o"))
    assert trial.to_score() == Scored("youcook2", "retrieval", f"{folder}/youcook2/test", f"{folder}/test")
    shipped = Trial("full", 0)
    assert (shipped.data, shipped.world, shipped.to_score()) == ("MiniHowTo", False, None)


def test_real_videos_take_the_papers_config(few):
    scored = Scored("msrvtt", "videoqa", "a", "b", {"split": "multiple_choice"})
    trial = Trial("w/o overlap", 2, str(few), changes={"validation": "v"}, scored=scored, paper=True)
    expected = PretrainConfig.paper(corpus=str(few), validation="v", seed=2, output="o", sampler="aligned")
    assert trial.config("o") == expected and trial.to_score() is scored and trial.data == Path(few).name
