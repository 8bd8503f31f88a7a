"""The world is drawn from one seed and is the one that ships."""

from dataclasses import replace

import narration
import numpy as np
import pyarrow.parquet as pq
import pytest
from motion import Manner, pose
from vocabulary import ACTIONS, THINGS, TOPICS
from world import SIZES, Step, plan_video, plans, topic_things

from vclip.data.captions import deduplicate, read_captions
from vclip.data.corpus import Corpus


@pytest.mark.parametrize("split", list(SIZES))
def test_rebuilding_gives_the_shipped_steps_and_captions(minihowto, split):
    corpus, table = Corpus.open(minihowto / split), pq.read_table(minihowto / "truth.parquet").to_pylist()
    rebuilt = plans(split)
    assert [plan.video_id for plan in rebuilt] == corpus.video_ids
    for plan in (rebuilt[0], rebuilt[-1]):
        steps = [Step(r["start"], r["end"], r["action"], r["thing"]) for r in table if r["video_id"] == plan.video_id]
        assert tuple(steps) == plan.steps
        said, stored = narration.captions(narration.narrate(plan)), corpus.captions(corpus.index(plan.video_id))
        assert said.text == stored.text
        np.testing.assert_array_equal(said.start, stored.start)


def test_topics_share_things_evenly():
    owned = topic_things()
    assert all(len(set(things)) == 6 for things in owned.values())
    assert {sum(thing in things for things in owned.values()) for thing in THINGS} == {6}


def test_no_word_names_two_things_or_two_actions():
    names = [name for _, synonyms in THINGS.values() for name in synonyms]
    verbs = [verb for action in ACTIONS.values() for pair in action.verbs for verb in pair]
    assert len(set(names)) == len(names)
    assert len(set(verbs)) == len(verbs)


def test_lag_is_a_parameter_that_leaves_the_words_alone():
    def mentions(lag_sd):
        said = [u for plan in plans("val")[:40] for u in narration.narrate(plan, lag_sd=lag_sd)]
        return sorted(u.text for u in said if u.step >= 0)

    assert mentions(0.0) == mentions(8.0)
    spread = {}
    for lag_sd in (0.0, 8.0):
        lags = [
            u.start - plan.steps[u.step].start
            for plan in plans("val")
            for u in narration.narrate(plan, lag_sd=lag_sd)
            if u.step >= 0
        ]
        spread[lag_sd] = np.std(lags)
    assert spread[0.0] < 3 < 5 < spread[8.0]


def test_vtt_rolls_and_is_made_plain_again(tmp_path):
    said = narration.narrate(plans("train")[7])
    narration.write_vtt(tmp_path / "a.vtt", said)
    raw, plain = read_captions(tmp_path / "a.vtt"), narration.captions(said)
    assert sum(len(t.split()) for t in raw.text) > 1.8 * sum(len(t.split()) for t in plain.text)
    again = deduplicate(raw)
    assert again.text == plain.text
    np.testing.assert_allclose(again.start, plain.start, atol=2e-3)


def test_every_utterance_is_within_the_video_and_waits_for_the_one_before():
    for plan in plans("test"):
        said = narration.narrate(plan)
        assert said[0].start >= 0
        assert said[-1].start + said[-1].lasts <= plan.seconds + 1e-6
        for before, after in zip(said, said[1:], strict=False):
            assert before.start + before.lasts <= after.start + 1e-6
        assert {u.step for u in said} >= set(range(len(plan.steps)))


def test_a_plan_for_other_sets_is_made_by_the_same_function():
    rng = np.random.default_rng(0)
    plan = plan_video(rng, "x", "other", "noto", next(iter(TOPICS)), [("chop", "egg")], (5, 8), (6, 12), (20, 30))
    assert 20 <= plan.seconds <= 30
    assert replace(plan, seed=1) != plan


def test_two_actions_of_a_tool_differ_in_speed_and_overlap_in_place():
    rng, dt = np.random.default_rng(0), 1 / 3
    speed, place = {}, {}
    for action in ACTIONS:
        paths = []
        for _ in range(200):
            manner, t = Manner.draw(rng), rng.uniform(0, 6)
            poses = [pose(action, t + i * dt, manner) for i in range(3)]
            paths.append([(p.tool_x, p.tool_y, p.tool_angle / 100, p.thing_angle / 100, p.thing_height) for p in poses])
        path = np.array(paths)
        speed[action] = path.std(1).sum(1).mean()
        place[action] = path[:, 0]
    for tool in {action.tool for action in ACTIONS.values()}:
        fast, slow = sorted((a for a in ACTIONS if ACTIONS[a].tool == tool), key=speed.__getitem__, reverse=True)
        assert speed[fast] > 2 * speed[slow]
        apart = np.abs(place[fast].mean(0) - place[slow].mean(0))
        assert (apart < 1.5 * (place[fast].std(0) + place[slow].std(0)) + 0.05).all()
