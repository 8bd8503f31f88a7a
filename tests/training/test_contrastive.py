"""An epoch's batches, losses and scores, each beside the plain computation."""

from pathlib import Path

import numpy as np
import pytest
import torch

from vclip.data.samplers import AlignedClips
from vclip.losses import info_nce, mil_nce
from vclip.tasks import retrieval
from vclip.training import config as rows
from vclip.training.batches import packed_tensors
from vclip.training.clusters import VideoIndex
from vclip.training.pretrain import pretrain
from vclip.training.state import read_log
from vclip.training.trainer import RETRIEVAL, TRAINING, Trainer, random_stream

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


def batches(trainer: Trainer, epoch: int = 1) -> list[np.ndarray]:
    return trainer.objective.batches(epoch, lambda row: trainer._write(epoch, row))


def first_update(trainer: Trainer):
    """The videos and clips of the first update, and its loss computed plainly and by the trainer."""
    contrast = trainer.objective
    videos = batches(trainer)[0]
    rng = random_stream(0, 1, 0, TRAINING)
    clips = contrast.sampler.sample(contrast.training, videos, trainer.config.clips_per_video, rng)
    each = trainer.config.sampler == "mil_nce"
    *packed, owner = packed_tensors(trainer.model, contrast.training, videos, clips, each)
    with torch.no_grad():
        z_v, z_t = trainer.model.embed_packed(*packed)
        expected = float(mil_nce(z_v, z_t, owner) if each else info_nce(z_v, z_t))
    return videos, clips, expected, trainer._update(1, 0, trainer._inputs(1, 0, videos))[0]


def spans(trainer: Trainer, videos, clips):
    """First and last second of each text clip."""
    at = trainer.objective.training.caption_offsets[np.repeat(videos, trainer.config.clips_per_video)]
    low = trainer.objective.training.caption_start[at + clips.caption_first]
    return low, trainer.objective.training.caption_end[at + clips.caption_last - 1]


def test_the_paper_overlaps_clips_and_contrasts_whole_texts(start):
    trainer = start()
    videos, clips, expected, loss = first_update(trainer)
    assert loss == pytest.approx(expected, rel=1e-5)
    low, high = spans(trainer, videos, clips)
    assert np.mean((clips.video_start != low) | (clips.video_end != high)) > 0.8
    assert np.mean((clips.video_start < high) & (clips.video_end > low)) > 0.95


def test_exact_alignment_cuts_video_where_its_text_is(start):
    trainer = start(rows.exact_alignment)
    videos, clips, expected, loss = first_update(trainer)
    assert loss == pytest.approx(expected, rel=1e-5)
    low, high = spans(trainer, videos, clips)
    np.testing.assert_array_equal(clips.video_start, low)
    np.testing.assert_array_equal(clips.video_end, high)


def test_mil_nce_takes_short_clips_and_each_caption_as_a_candidate(start):
    trainer = start(rows.mil_nce_clips)
    _, clips, expected, loss = first_update(trainer)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert set(clips.video_end - clips.video_start) == {3} and set(clips.caption_last - clips.caption_first) == {4}


@pytest.mark.parametrize("edit", [lambda config: config, rows.mil_nce_clips])
def test_micro_batches_make_the_same_update(start, edit):
    whole, micro = start(edit), start(edit, micro_batch=5)
    videos = batches(whole)[0]
    loss, norm, _ = whole._update(1, 0, whole._inputs(1, 0, videos))
    assert micro._update(1, 0, micro._inputs(1, 0, videos))[:2] == (
        pytest.approx(loss, rel=1e-5),
        pytest.approx(norm, rel=1e-4),
    )


def test_shared_towers_are_one(start):
    trainer = start(rows.shared_towers)
    assert len(trainer.model.towers) == 1 and len(start().model.towers) == 2
    *_, expected, loss = first_update(trainer)
    assert loss == pytest.approx(expected, rel=1e-5)


def test_cls_pooling_changes_the_vectors_and_nothing_else(start):
    mean, cls = start(), start(rows.use_cls)
    torch.testing.assert_close(mean.model.state_dict(), cls.model.state_dict(), atol=0, rtol=0)
    losses = [first_update(trainer)[2:] for trainer in (mean, cls)]
    assert all(loss == pytest.approx(expected, rel=1e-5) for expected, loss in losses)
    assert losses[0][0] != pytest.approx(losses[1][0], rel=1e-3)


def clusters(trainer: Trainer):
    """The first epoch's batches, and the index that they are drawn from."""
    return batches(trainer), VideoIndex(trainer.objective.video_vectors(1)[0])


def test_batches_are_clusters_of_similar_videos(start):
    batches, index = clusters(start())
    allowed = [set(index.neighbours(seed, 16)) for seed in range(48)]
    assert len(batches) == 6 and all(len(set(batch)) == 8 for batch in batches)
    assert all(any(set(batch) <= candidates for candidates in allowed) for batch in batches)
    nearest = [set(index.neighbours(seed, 8)) for seed in range(48)]
    assert not all(set(batch) in nearest for batch in batches)


def test_retrieve_k_takes_the_nearest(start):
    batches, index = clusters(start(rows.retrieve_k))
    nearest = [set(index.neighbours(seed, 8)) for seed in range(48)]
    assert len(batches) == 6 and all(set(batch) in nearest for batch in batches)


def test_without_retrieval_every_video_comes_once_in_random_order(start):
    trainer = start(rows.without_retrieval)
    first, second = (np.concatenate(batches(trainer, epoch)).tolist() for epoch in (1, 2))
    assert sorted(first) == sorted(second) == list(range(48)) and first != second != list(range(48))
    assert not list(read_log(trainer.output))  # no retrieval stage


@pytest.mark.parametrize("edit", [lambda config: config, rows.first_32_seconds])
def test_a_videos_vector_is_the_mean_of_its_clips(start, edit):
    trainer = start(edit)
    vectors, embedded = trainer.objective.video_vectors(1)
    assert embedded == len(vectors) == 48
    first = trainer.config.retrieval_first
    sampler = AlignedClips(None, first=True) if first else AlignedClips((8, 64))
    drawn = sampler.sample(
        trainer.objective.training, np.arange(48), 1 if first else 4, random_stream(0, 1, 1, RETRIEVAL)
    )
    assert not first or set(drawn.caption_first) == {0}
    with torch.no_grad():
        tensors = packed_tensors(trainer.model.eval(), trainer.objective.training, np.arange(48), drawn)
        z_v, z_t = (z.reshape(48, -1, 32) for z in trainer.model.embed_packed(*tensors[:4]))
    for i in (0, 17, 47):
        np.testing.assert_allclose(vectors[i], (z_v[i].mean(0) + z_t[i].mean(0)) / 2, atol=1e-5)


def test_validation_scores_all_clips_and_repeats_itself(start):
    contrast = start(videos_per_batch=12).objective
    embed, embedded = contrast._embed, []
    contrast._embed = lambda *arguments: embedded.append(embed(*arguments)) or embedded[-1]
    row, value = contrast.validate()
    ((z_v, z_t),) = embedded
    assert row["n"] == len(z_v) == 12 * 4 and row["chance_r1"] == pytest.approx(1 / 48)
    loss = float(info_nce(torch.from_numpy(z_v), torch.from_numpy(z_t)))
    assert row["validation_loss"] == value == pytest.approx(loss, rel=1e-6)
    assert row["r10"] == retrieval.score(z_t @ z_v.T).r10
    assert contrast.validate() == (row, value)


def test_unusable_corpora_are_refused(data, tmp_path):
    with pytest.raises(ValueError, match="48 videos with captions, fewer than videos_per_batch"):
        pretrain(config(data, tmp_path / "a", videos_per_batch=49, candidates=49))
    corpora.make(tmp_path / "other", 12, encoder="another")
    with pytest.raises(ValueError, match="encoder: 'another' against 'made'"):
        pretrain(config(data, tmp_path / "b", validation=str(tmp_path / "other")))
