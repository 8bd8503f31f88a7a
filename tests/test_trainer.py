"""An epoch's batches, updates and scores, each beside the plain computation."""

import json
import platform
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from vclip import recipe
from vclip.batching import VideoIndex
from vclip.embedding import packed_tensors
from vclip.losses import info_nce, mil_nce
from vclip.pretrain import pretrain
from vclip.samplers import AlignedClips
from vclip.state import read_log
from vclip.tasks import retrieval
from vclip.trainer import RETRIEVAL, TRAINING, Trainer, return_memory

import corpora
from corpora import TOWER, pretraining_data
from corpora import pretrain_config as config

DROPLESS = TOWER | {"num_hidden_layers": 1, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return pretraining_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def start(data, tmp_path, monkeypatch):
    """`start(edit, **changes)`: the trainer of a run, before its first update; no dropout, so losses can be redone."""

    def start(edit=lambda config: config, **changes) -> Trainer:
        found = []
        with monkeypatch.context() as patched:
            patched.setattr(Trainer, "run", lambda self: found.append(self))
            model = {"video_config": DROPLESS, "text_config": DROPLESS}
            pretrain(edit(config(data, tmp_path / f"run {len(list(tmp_path.iterdir()))}", model=model, **changes)))
        return found[0]

    return start


def first_update(trainer: Trainer):
    """The videos and clips of the first update, and its loss computed plainly and by the trainer."""
    videos = trainer._batches(1)[0]
    rng = trainer._rng(1, 0, TRAINING)
    clips = trainer.sampler.sample(trainer.training, videos, trainer.config.clips_per_video, rng)
    each = trainer.config.sampler == "mil_nce"
    *packed, owner = packed_tensors(trainer.model, trainer.training, videos, clips, each)
    with torch.no_grad():
        z_v, z_t = trainer.model.embed_packed(*packed)
        expected = float(mil_nce(z_v, z_t, owner) if each else info_nce(z_v, z_t))
    return videos, clips, expected, trainer._update(1, 0, videos)[0]


def spans(trainer: Trainer, videos, clips):
    """First and last second of each text clip."""
    at = trainer.training.caption_offsets[np.repeat(videos, trainer.config.clips_per_video)]
    low = trainer.training.caption_start[at + clips.caption_first]
    return low, trainer.training.caption_end[at + clips.caption_last - 1]


def test_the_paper_overlaps_clips_and_contrasts_whole_texts(start):
    trainer = start()
    videos, clips, expected, loss = first_update(trainer)
    assert loss == pytest.approx(expected, rel=1e-5)
    low, high = spans(trainer, videos, clips)
    assert np.mean((clips.video_start != low) | (clips.video_end != high)) > 0.8
    assert np.mean((clips.video_start < high) & (clips.video_end > low)) > 0.95


def test_exact_alignment_cuts_video_where_its_text_is(start):
    trainer = start(recipe.exact_alignment)
    videos, clips, expected, loss = first_update(trainer)
    assert loss == pytest.approx(expected, rel=1e-5)
    low, high = spans(trainer, videos, clips)
    np.testing.assert_array_equal(clips.video_start, low)
    np.testing.assert_array_equal(clips.video_end, high)


def test_mil_nce_takes_short_clips_and_each_caption_as_a_candidate(start):
    trainer = start(recipe.mil_nce_clips)
    _, clips, expected, loss = first_update(trainer)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert set(clips.video_end - clips.video_start) == {3} and set(clips.caption_last - clips.caption_first) == {4}


def test_shared_towers_are_one(start):
    trainer = start(recipe.shared_towers)
    assert len(trainer.model.towers) == 1 and len(start().model.towers) == 2
    *_, expected, loss = first_update(trainer)
    assert loss == pytest.approx(expected, rel=1e-5)


def test_cls_pooling_changes_the_vectors_and_nothing_else(start):
    mean, cls = start(), start(recipe.use_cls)
    torch.testing.assert_close(mean.model.state_dict(), cls.model.state_dict(), atol=0, rtol=0)
    losses = [first_update(trainer)[2:] for trainer in (mean, cls)]
    assert all(loss == pytest.approx(expected, rel=1e-5) for expected, loss in losses)
    assert losses[0][0] != pytest.approx(losses[1][0], rel=1e-3)


def clusters(trainer: Trainer):
    """The first epoch's batches, and the index that they are drawn from."""
    return trainer._batches(1), VideoIndex(trainer._video_vectors(1)[0])


def test_batches_are_clusters_of_similar_videos(start):
    batches, index = clusters(start())
    allowed = [set(index.neighbours(seed, 16)) for seed in range(48)]
    assert len(batches) == 6 and all(len(set(batch)) == 8 for batch in batches)
    assert all(any(set(batch) <= candidates for candidates in allowed) for batch in batches)
    nearest = [set(index.neighbours(seed, 8)) for seed in range(48)]
    assert not all(set(batch) in nearest for batch in batches)


def test_retrieve_k_takes_the_nearest(start):
    batches, index = clusters(start(recipe.retrieve_k))
    nearest = [set(index.neighbours(seed, 8)) for seed in range(48)]
    assert len(batches) == 6 and all(set(batch) in nearest for batch in batches)


def test_without_retrieval_every_video_comes_once_in_random_order(start):
    trainer = start(recipe.without_retrieval)
    first, second = (np.concatenate(trainer._batches(epoch)).tolist() for epoch in (1, 2))
    assert sorted(first) == sorted(second) == list(range(48)) and first != second != list(range(48))
    assert not list(read_log(trainer.output))  # no retrieval stage


@pytest.mark.parametrize("edit", [lambda config: config, recipe.first_32_seconds])
def test_a_videos_vector_is_the_mean_of_its_clips(start, edit):
    trainer = start(edit)
    vectors, embedded = trainer._video_vectors(1)
    assert embedded == len(vectors) == 48
    first = trainer.config.retrieval_first
    sampler = AlignedClips(None, first=True) if first else AlignedClips((8, 64))
    drawn = sampler.sample(trainer.training, np.arange(48), 1 if first else 4, trainer._rng(1, 1, RETRIEVAL))
    assert not first or set(drawn.caption_first) == {0}
    with torch.no_grad():
        tensors = packed_tensors(trainer.model.eval(), trainer.training, np.arange(48), drawn)
        z_v, z_t = (z.reshape(48, -1, 32) for z in trainer.model.embed_packed(*tensors[:4]))
    for i in (0, 17, 47):
        np.testing.assert_allclose(vectors[i], (z_v[i].mean(0) + z_t[i].mean(0)) / 2, atol=1e-5)


def test_half_precision_is_near_and_not_equal(start):
    full, half = start(), start(precision="bf16")
    videos, _, expected, loss = first_update(half)
    assert loss == pytest.approx(expected, rel=0.05) and loss != pytest.approx(expected, rel=1e-6)
    assert full._update(1, 0, videos)[0] == pytest.approx(expected, rel=1e-5)


def test_validation_scores_all_clips_and_repeats_itself(start):
    trainer = start(videos_per_batch=12)
    embed, embedded = trainer._embed, []
    trainer._embed = lambda *arguments: embedded.append(embed(*arguments)) or embedded[-1]
    row = trainer._validate(trainer.validation)
    ((z_v, z_t),) = embedded
    assert row["n"] == len(z_v) == 12 * 4 and row["chance_r1"] == pytest.approx(1 / 48)
    loss = float(info_nce(torch.from_numpy(z_v), torch.from_numpy(z_t)))
    assert row["validation_loss"] == pytest.approx(loss, rel=1e-6)
    assert row["r10"] == retrieval.score(z_t @ z_v.T).r10
    assert trainer._validate(trainer.validation) == row


def test_unusable_corpora_are_refused(data, tmp_path):
    with pytest.raises(ValueError, match="48 videos with captions, fewer than videos_per_batch"):
        pretrain(config(data, tmp_path / "a", videos_per_batch=49, candidates=49))
    corpora.make(tmp_path / "other", 12, encoder="another")
    with pytest.raises(ValueError, match="encoder: 'another' against 'made'"):
        pretrain(config(data, tmp_path / "b", validation=str(tmp_path / "other")))


def test_a_loss_that_is_not_finite_stops_the_run(data, tmp_path):
    with pytest.raises(ValueError, match="the loss is (nan|inf) at update .* lower learning_rate"):
        pretrain(config(data, tmp_path, learning_rate=1e30, warmup_steps=1, clip_norm=1e30, epochs=20))


def test_tensorboard_when_asked(data, tmp_path):
    pretrain(config(data, tmp_path / "a", epochs=1, tensorboard=True))
    assert list((tmp_path / "a/tensorboard").glob("events*"))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's heap needs it")
def test_freed_memory_goes_back_to_the_system():
    rows = [torch.ones(25_000) for _ in range(3000)]  # of 100 KB, in the heap
    kept = rows[::3]  # so that the freed ones leave holes
    del rows
    before = psutil.Process().memory_info().rss
    return_memory()
    assert before - psutil.Process().memory_info().rss > 150e6 and len(kept) == 1000


def test_the_log_is_json_whatever_overflows(start):
    trainer = start()
    trainer._write(1, {"grad_norm": float("inf"), "loss": 1.0})
    last = (trainer.output / "log.jsonl").read_text().splitlines()[-1]
    assert json.loads(last, parse_constant=pytest.fail) == {"update": 0, "epoch": 1, "grad_norm": None, "loss": 1.0}
