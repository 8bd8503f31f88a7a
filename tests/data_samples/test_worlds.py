"""Worlds of numbers are what their parameters say."""

import shutil

import numpy as np
import pytest
from transformers import AutoTokenizer
from worlds import Look, World, epochs_for, is_world, make, narration, plans, world_base

from vclip import Corpus
from vclip.datasets import youcook2

SMALL = World(domains=6, tested=2, videos=40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make(SMALL, tmp_path_factory.mktemp("world"))


def test_each_action_is_tested_once_on_each_dish():
    test, val = (plans(SMALL, split) for split in ("test", "val"))
    shown = [(video.domain, video.dish, step.action) for video in test for step in video.steps]
    assert len(shown) == len(set(shown)) == 2 * 4 * 12
    assert not {video.domain for video in test} & {video.domain for video in val}


def test_a_world_is_its_seed(folder, tmp_path):
    again, other = make(SMALL, tmp_path / "a"), make(World(domains=6, tested=2, videos=40, seed=1), tmp_path / "b")
    mine, same, differs = (Corpus.open(path / "train") for path in (folder, again, other))
    np.testing.assert_array_equal(mine.features(3), same.features(3))
    assert mine.captions(3).text == same.captions(3).text
    assert mine.captions(3).text != differs.captions(3).text
    with pytest.raises(ValueError, match="holds another world"):
        make(World(domains=6, tested=2, videos=41), folder)


def test_what_a_kill_left_is_made_anew(folder, tmp_path):
    shutil.copytree(folder / "train", tmp_path / "world" / "train")
    (tmp_path / "world" / "train" / "corpus.json").unlink()
    assert not is_world(tmp_path / "world")
    again = Corpus.open(make(SMALL, tmp_path / "world") / "train")
    np.testing.assert_array_equal(again.features(3), Corpus.open(folder / "train").features(3))
    assert [path.name for path in tmp_path.iterdir()] == ["world"]


@pytest.mark.parametrize("name", ["domain", "dish", "action"])
def test_a_strength_is_how_far_means_lie_apart(name):
    """A thing that is not seen at all has no direction of its own; else its direction comes back from the features."""
    for strength in (0.0, 2.0):
        world = World(domains=6, tested=2, video=0.0, noise=0.1, **{name: strength})
        look, rng = Look(world), np.random.default_rng(0)
        video = plans(world, "train")[0]
        rows = look.features(video, rng)
        step = video.steps[0]
        parts = {"domain": look.domain[video.domain], "dish": look.dish[video.domain, video.dish]}
        parts["action"] = look.action[step.action]
        expected = sum(getattr(world, part) * direction for part, direction in parts.items())
        np.testing.assert_allclose(rows[step.start : step.end].mean(0), expected, atol=0.2)


def test_narration_lags_as_asked():
    for lag in (0.0, 3.0):
        world, rng, off = World(lag=lag), np.random.default_rng(0), []
        for video in plans(world, "train")[:200]:
            said = narration(world, video, rng)
            middles = sorted((step.start + step.end) / 2 for step in video.steps)[1:-1]
            off += list(said.start[1:-1] + 2 - np.array(middles))
        assert np.std(off) == pytest.approx(lag, abs=0.5)


def test_every_word_is_a_token(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    said = [text for i in range(40) for text in Corpus.open(folder / "train").captions(i).text]
    said += [clip.sentence for clip in youcook2.load(folder / "youcook2/test")]
    for text in said:
        ids = tokenizer(text)["input_ids"]
        assert len(ids) == len(text.split()) + 2 and tokenizer.unk_token_id not in ids


def test_the_base_config_fits_the_world(folder):
    config = world_base(folder, total_steps=40)
    assert (config.epochs, config.total_steps, config.warmup_steps) == (20, 40, 4)


@pytest.mark.parametrize(("steps", "videos", "batch", "epochs"), [(375, 600, 32, 21), (10, 8, 16, 10), (1, 600, 8, 1)])
def test_epochs_come_nearest_to_the_steps(steps, videos, batch, epochs):
    assert epochs_for(steps, videos, batch) == epochs
