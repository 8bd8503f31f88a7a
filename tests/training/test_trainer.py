"""The loop beside plain steps, with an objective of a few lines, and its end after an interruption."""

import gc
import json
import platform
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from limits import still_running

from vclip.losses import info_nce
from vclip.models.config import VideoCLIPConfig
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.videoclip import VideoCLIPModel
from vclip.models.videoclip_encoder import VideoCLIP
from vclip.training.checkpoint import read_log
from vclip.training.config import TrainConfig
from vclip.training.trainer import DROPOUT, TRAINING, Trainer, random_stream, return_memory, start_accelerator

import corpora
from corpora import DIM, TOWER

CLIPS, BATCH, SECONDS = 12, 4, 6
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's heap needs it")


class Words:
    """An objective that a test can follow: batches in random order, noise on the features, given scores."""

    def __init__(self, scores=()):
        self.scores = list(scores)
        rng = np.random.default_rng(5)
        self.features = torch.from_numpy(rng.standard_normal((CLIPS, SECONDS, DIM)).astype(np.float32))
        self.ids = torch.tensor([[101, 104 + clip, 102] for clip in range(CLIPS)])

    def batches(self, epoch, write):
        write({"stage": "order"})
        return list(random_stream(0, epoch, 0, 99).permutation(CLIPS).reshape(-1, BATCH))

    def inputs(self, batch, rng):
        noise = torch.from_numpy(rng.standard_normal((BATCH, SECONDS, DIM)).astype(np.float32))
        video_lengths, text_lengths = (torch.full((BATCH,), n) for n in (SECONDS, self.ids.shape[1]))
        return (
            (self.features[batch] + 0.1 * noise).flatten(0, 1),
            video_lengths,
            self.ids[batch].flatten(),
            text_lengths,
        )

    def loss(self, model, *packed):
        return info_nce(*model.embed_packed(*packed))

    def validate(self):
        value = self.scores.pop(0) if self.scores else None
        return None if value is None else ({"validation_loss": value}, value)


def new_model() -> VideoCLIPModel:
    tower = TOWER | {"num_hidden_layers": 1}
    torch.manual_seed(0)
    return VideoCLIPModel(VideoCLIPConfig(video_config=tower, text_config=tower, video_feature_dim=DIM))


def config(output: Path, **changes) -> TrainConfig:
    values = {"epochs": 3, "learning_rate": 1e-2, "warmup_steps": 4, "total_steps": 20, "clip_norm": 0.5}
    return TrainConfig(output=output, **values | {"save_every": 2} | changes)


def trainer(output: Path, scores=(), first: bool = False, **changes) -> Trainer:
    output.mkdir(exist_ok=True)
    settings, clip = config(output, **changes), VideoCLIP(new_model(), VideoCLIPProcessor(corpora.tokenizer()))
    return Trainer(settings, start_accelerator(settings), clip, Words(scores), validate_first=first)


def test_steps_equal_a_plain_loop(tmp_path):
    ours = trainer(tmp_path)
    ours.run()
    model = new_model()
    words, optimizer = Words(), torch.optim.Adam(model.parameters(), betas=(0.9, 0.98), fused=True)
    expected, step = [], 0
    for epoch in (1, 2, 3):
        for place, batch in enumerate(words.batches(epoch, lambda row: None)):
            step += 1
            rate = 1e-2 * (step / 4 if step <= 4 else 1 - (step - 4) / 16)
            optimizer.param_groups[0]["lr"] = rate
            inputs = words.inputs(batch, random_stream(0, epoch, place, TRAINING))
            torch.manual_seed(int(random_stream(0, epoch, place, DROPOUT).integers(2**63)))
            loss = words.loss(model, *inputs)
            optimizer.zero_grad()
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            expected.append({"step": step, "epoch": epoch, "loss": loss.item(), "learning_rate": rate})
            expected[-1]["grad_norm"] = norm.item()
    rows = [row for row in read_log(tmp_path) if "loss" in row]
    assert len(rows) == len(expected) == 9
    for row, plain in zip(rows, expected, strict=True):
        assert row == pytest.approx(plain, rel=1e-6)
    torch.testing.assert_close(ours.model.state_dict(), model.state_dict())
    torch.testing.assert_close(VideoCLIPModel.from_pretrained(tmp_path / "best").state_dict(), model.state_dict())


@pytest.mark.parametrize("at", [1, 2, 3, 4, 7])
def test_interrupted_it_ends_with_the_same_weights_and_log(tmp_path, at):
    whole, broken = trainer(tmp_path / "whole"), trainer(tmp_path / "broken")
    whole.run()
    inputs, seen = broken.objective.inputs, []

    def fail(batch, rng):
        seen.append(batch)
        if len(seen) == at:
            raise KeyboardInterrupt
        return inputs(batch, rng)

    broken.objective.inputs = fail
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    assert sum("loss" in row for row in read_log(tmp_path / "broken")) == at - 1
    again = trainer(tmp_path / "broken")
    again.run()
    torch.testing.assert_close(again.model.state_dict(), whole.model.state_dict(), atol=0, rtol=0)
    assert read_log(tmp_path / "broken") == read_log(tmp_path / "whole")


def test_no_thread_outlives_a_failed_step(tmp_path):
    broken, threads = trainer(tmp_path), set(threading.enumerate())

    def fail(*inputs):
        raise KeyboardInterrupt

    broken.loss.forward = fail
    with pytest.raises(KeyboardInterrupt) as held:
        broken.run()
    assert not still_running(threads), held


def test_the_best_checkpoint_has_the_least_value_and_the_beginning_is_none(tmp_path):
    ours = trainer(tmp_path, scores=[0.1, 0.7, 0.4, 0.5], first=True)
    kept = []
    save = ours._save_weights
    ours._save_weights = lambda name: (kept.append((ours.progress.step, name)), save(name))
    ours.run()
    assert kept == [(3, "best"), (3, "last"), (6, "best"), (6, "last"), (9, "last")]
    scored = [row for row in read_log(tmp_path) if "validation_loss" in row]
    rows = [(row["epoch"], row["step"], row["validation_loss"]) for row in scored]
    assert rows == [(0, 0, 0.1), (1, 3, 0.7), (2, 6, 0.4), (3, 9, 0.5)]


def test_half_precision_is_near_and_not_equal(tmp_path):
    losses = {}
    for precision in ("fp32", "bf16"):
        ours = trainer(tmp_path / precision, precision=precision)
        losses[precision] = ours._step(1, 0, ours._inputs(1, 0, np.arange(BATCH)))[0]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)
    assert losses["bf16"] != pytest.approx(losses["fp32"], rel=1e-6)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    ours = trainer(tmp_path, learning_rate=1e30, warmup_steps=0, clip_norm=1e30, epochs=20)
    with pytest.raises(ValueError, match="the loss is (nan|inf) at step .* lower learning_rate"):
        ours.run()


def test_a_gradient_that_is_not_finite_reaches_no_file(tmp_path):
    ours, kept = trainer(tmp_path, save_every=1), {}
    step = ours._step

    def poisoned(epoch, batch, inputs):
        kept["state"] = (tmp_path / "state.safetensors").read_bytes() if ours.progress.step else None
        if ours.progress.step == 1:
            hook = next(ours.model.parameters()).register_hook(lambda gradient: gradient * float("nan"))
            found = step(epoch, batch, inputs)
            hook.remove()
            return found
        return step(epoch, batch, inputs)

    ours._step = poisoned
    with pytest.raises(ValueError, match="not finite, so .*state.safetensors is not written: lower learning_rate"):
        ours.run()
    assert ours.progress.step == 2 and np.isfinite(read_log(tmp_path)[-1]["loss"])
    assert (tmp_path / "state.safetensors").read_bytes() == kept["state"]
    assert [file.name for file in tmp_path.glob("*.safetensors")] == ["state.safetensors"]
    again = trainer(tmp_path)
    again.run()
    whole = trainer(tmp_path / "whole")
    whole.run()
    torch.testing.assert_close(again.model.state_dict(), whole.model.state_dict(), atol=0, rtol=0)


def resident_mb() -> float:
    return psutil.Process().memory_info().rss / 1e6


@glibc
def test_freed_memory_goes_back_to_the_system():
    rows = [torch.ones(25_000) for _ in range(3000)]  # of 100 KB, in the heap
    kept = rows[::3]  # so that the freed ones leave holes
    del rows
    before = resident_mb()
    return_memory()
    assert before - resident_mb() > 150 and len(kept) == 1000


@glibc
@pytest.mark.long
def test_800_steps_of_ever_new_shapes_leave_memory_flat(tmp_path, monkeypatch):
    ours, held = trainer(tmp_path, epochs=1, total_steps=800, save_every=200), {}

    def lengths(batch, rng):
        video, text = (torch.from_numpy(rng.integers(3, most, len(batch))) for most in (33, 64))
        features = torch.from_numpy(rng.standard_normal((int(video.sum()), DIM), np.float32))
        return features, video, torch.from_numpy(rng.integers(104, 164, int(text.sum()))), text

    def measured():
        gc.collect()
        return_memory()
        held[ours.progress.step] = resident_mb(), len(gc.get_objects()), psutil.Process().num_fds()

    ours.objective.batches = lambda epoch, write: [np.arange(8)] * 800
    ours.objective.inputs = lengths
    monkeypatch.setattr("vclip.training.trainer.return_memory", measured)
    ours.run()
    early, late = (np.max([held[u] for u in held if low < u <= low * 2], axis=0) for low in (200, 400))
    # MB, Python objects, open files: 400 steps that each keep 20 KB or one object would be seen
    assert (late - early < (8, 100, 1)).all(), f"{early} at most up to step 400, {late} after it"


def test_the_log_is_json_whatever_overflows(tmp_path):
    ours = trainer(tmp_path)
    ours._write(1, {"grad_norm": float("inf"), "loss": 1.0})
    last = (tmp_path / "log.jsonl").read_text().splitlines()[-1]
    assert json.loads(last, parse_constant=pytest.fail) == {"step": 0, "epoch": 1, "grad_norm": None, "loss": 1.0}
