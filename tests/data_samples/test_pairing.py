"""Retrieval on MiniHowTo comes from knowing which text belongs to which video, and from more than the topic."""

import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from vclip.data.corpus import Corpus
from vclip.datasets import youcook2
from vclip.models.loading import load
from vclip.tasks.retrieval import score
from vclip.training.config import PretrainConfig
from vclip.training.pretrain import pretrain


def is_chance(rate: float, p: float, n: int, level: float = 0.999) -> bool:
    """Whether `rate`, a fraction of n, lies in the central binomial interval of probability p."""
    hits, tail = round(rate * n), (1 - level) / 2
    mass = [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]
    return sum(mass[: hits + 1]) > tail and sum(mass[hits:]) > tail


def permuted(n: int, seed: int) -> np.ndarray:
    """A random permutation in which nothing stays in its place."""
    cycle = np.random.default_rng(seed).permutation(n)
    moved = np.empty(n, np.int64)
    moved[cycle] = np.roll(cycle, 1)
    return moved


def embed(minihowto: Path, checkpoint: Path):
    """The test clips, their z_t and z_v."""
    clips, corpus = youcook2.load(minihowto / "youcook2" / "test"), Corpus.open(minihowto / "test")
    model = load(checkpoint)
    rows = [corpus.features(corpus.index(clip.video_id))[clip.start : clip.end] for clip in clips]
    return clips, model.encode_texts([clip.sentence for clip in clips]), model.encode_clips(rows)


@pytest.fixture(scope="module")
def shipped(minihowto):
    return embed(minihowto, minihowto / "checkpoint")


def test_texts_shuffled_between_videos_find_their_clips_by_chance(shipped):
    clips, z_t, z_v = shipped
    videos = sorted({clip.video_id for clip in clips})
    place = np.array([videos.index(clip.video_id) for clip in clips])
    assert score(z_t @ z_v.T).r1 > 0.35
    for seed in range(5):
        # the texts of one video after the other, each video's in another video's stead
        order = np.argsort(permuted(len(videos), seed)[place], kind="stable")
        text_of = np.empty(len(clips), np.int64)
        text_of[np.argsort(place, kind="stable")] = order
        got = score(z_t[text_of] @ z_v.T)
        assert is_chance(got.r1, 1 / len(clips), len(clips)) and is_chance(got.r10, 10 / len(clips), len(clips))


def test_the_topic_alone_finds_less_than_half(minihowto, shipped):
    clips, z_t, z_v = shipped
    topic_of = {row["video_id"]: row["topic"] for row in pq.read_table(minihowto / "truth.parquet").to_pylist()}
    topics = np.array([topic_of[clip.video_id] for clip in clips])
    names = np.unique(topics)
    best = names[(z_t @ np.stack([z_v[topics == name].mean(0) for name in names]).T).argmax(1)]
    # clips of one topic have one vector, so the first of them is any of them
    expected = np.mean([(name == own) / np.sum(topics == own) for name, own in zip(best, topics, strict=True)])
    assert 0 < expected < score(z_t @ z_v.T).r1 / 2


@pytest.mark.long
def test_a_model_trained_on_captions_shuffled_between_videos_finds_nothing(minihowto, tmp_path):
    source, videos = Corpus.open(minihowto / "train"), 150
    tower = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 128}
    tower |= {"max_position_embeddings": 96, "vocab_size": 1200}
    found = {}
    for name, captions_of in (("own", np.arange(videos)), ("shuffled", permuted(videos, 0))):
        rows = ((source.video_ids[i], source.features(i), source.captions(captions_of[i])) for i in range(videos))
        assert source.spec is not None
        Corpus.create(tmp_path / name, source.spec, rows)
        run = pretrain(
            PretrainConfig.sample(
                corpus=tmp_path / name,
                validation=None,
                output=tmp_path / f"run {name}",
                model={"video_config": tower, "text_config": tower},
                epochs=14,
                videos_per_batch=16,
                clips_per_video=8,
                retrieval=False,
                warmup_steps=20,
                total_steps=14 * 9 + 1,
            )
        )
        assert np.mean(run.losses[-9:]) < run.losses[0] - 0.5  # both learn what they are given
        clips, z_t, z_v = embed(minihowto, run.checkpoint)
        found[name] = score(z_t @ z_v.T)
    assert found["own"].r10 > 0.1
    assert is_chance(found["shuffled"].r10, 10 / len(clips), len(clips))
