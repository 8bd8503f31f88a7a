"""Each row edits what it says, and nothing else; corpora hold the videos that they say."""

import dataclasses
from collections import Counter

import pytest
from ablations.rows import (
    ROWS,
    STEPS,
    VIDEOS,
    Trial,
    ablation_base,
    draw_topics,
    of_topics,
    spread_corpus,
    topic_corpus,
)
from shipped import truth

from vclip.data.corpus import Corpus
from vclip.datasets import youcook2
from vclip.datasets.minihowto import minihowto

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
    with pytest.raises(TypeError, match="unknown topic 'soop'"):
        Trial("full", 0, among=("soop",))
    with pytest.raises(TypeError, match="changes hold seed"):
        Trial("full", 0, changes={"seed": 3})
    with pytest.raises(ValueError, match="lags by 4 s: for lag 8 name its corpus"):
        Trial("full", 0, lag=8.0)


def test_every_corpus_gets_as_many_steps_up_to_part_of_an_epoch(tmp_path):
    assert ablation_base().epochs * (600 // VIDEOS) == STEPS
    for number in (1, 3):
        corpus = topic_corpus(draw_topics(number, seed=0), tmp_path / str(number))
        config, an_epoch = ablation_base(corpus.path), len(corpus) // VIDEOS
        assert abs(config.epochs * an_epoch - STEPS) <= an_epoch / 2
        assert config.total_steps == STEPS


def test_topics_are_drawn_by_their_own_stream_and_hold_all_their_videos(tmp_path):
    topics = draw_topics(3, seed=1)
    assert draw_topics(3, seed=1) == topics != draw_topics(3, seed=2)
    assert set(draw_topics(42, seed=0)) == {topic for _, _, topic in truth().values()}
    whole, corpus = Corpus.open(minihowto() / "train"), topic_corpus(topics, tmp_path / "c")
    shown = {video_id: topic for (video_id, _), (_, _, topic) in truth().items()}
    assert corpus.video_ids == [v for v in whole.video_ids if shown[v] in topics]
    for video_id in corpus.video_ids[:3]:
        here, there = corpus.index(video_id), whole.index(video_id)
        assert (corpus.features(here) == whole.features(there)).all()
        assert corpus.captions(here).text == whole.captions(there).text
    assert topic_corpus(topics, tmp_path / "c").video_ids == corpus.video_ids, "what is there is opened"
    with pytest.raises(ValueError, match="corpus of other videos"):
        topic_corpus(topics[:1], tmp_path / "c")
    clips = youcook2.load(minihowto() / "youcook2" / "test")
    chosen = of_topics(clips, topics)
    assert 0 < len(chosen) < len(clips)
    assert {shown[record.video_id] for record in chosen} == set(topics)


@pytest.mark.parametrize("number", [0, 43])
def test_topics_that_there_are_not_cannot_be_drawn(number):
    with pytest.raises(ValueError, match=f"cannot draw {number} topics: ask for 1 to 42"):
        draw_topics(number, 0)


def test_a_spread_corpus_shows_as_many_topics_as_it_can(tmp_path):
    """As many videos as three topics have, of all 42: each topic once, one twice."""
    shown = {video_id: topic for (video_id, _), (_, _, topic) in truth().items()}
    corpus = spread_corpus(43, 0, tmp_path / "0")
    assert len(corpus) == 43 == len(topic_corpus(draw_topics(3, 0), tmp_path / "three"))
    assert sorted(Counter(shown[v] for v in corpus.video_ids).values()) == [1] * 41 + [2]
    assert spread_corpus(43, 1, tmp_path / "1").video_ids != corpus.video_ids
    few = Counter(shown[v] for v in spread_corpus(5, 0, tmp_path / "5").video_ids)
    assert set(few.values()) == {1} and len(few) == 5
    assert spread_corpus(43, 0, tmp_path / "again").video_ids == corpus.video_ids
    with pytest.raises(ValueError, match="cannot draw 601 videos: ask for 1 to 600"):
        spread_corpus(601, 0, tmp_path / "all")
