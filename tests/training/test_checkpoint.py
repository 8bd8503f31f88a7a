import json
import shutil

import numpy as np
import pytest
import torch

import vclip
from vclip.encoders.loading import encoder_files, from_spec
from vclip.training.checkpoint import Log, Progress, load_state, read_log, save_clip, save_state

BATCHES = [np.array([3, 1]), np.array([2]), np.array([0, 4, 5])]


def trained(seed: int, steps: int = 2):
    torch.manual_seed(seed)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    train(model, optimizer, steps)
    return model, optimizer


def train(model, optimizer, times: int) -> None:
    for _ in range(times):
        optimizer.zero_grad()
        model(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()


def test_a_state_goes_on_as_if_it_had_never_stopped(tmp_path):
    model, optimizer = trained(0)
    progress = Progress(epoch=2, batch=3, step=40, best=1.5, log_rows=7, scaler={"scale": 2.0})
    save_state(tmp_path, progress, model, optimizer, BATCHES)
    again = trained(1, steps=0)
    found = load_state(tmp_path, *again)
    assert found is not None and found[0] == progress
    assert [batch.tolist() for batch in found[1]] == [batch.tolist() for batch in BATCHES]
    train(model, optimizer, 3)
    train(*again, 3)
    torch.testing.assert_close(again[0].state_dict(), model.state_dict(), atol=0, rtol=0)
    assert [f.name for f in tmp_path.iterdir()] == ["state.safetensors"]


def test_a_state_before_the_first_step_and_between_epochs(tmp_path):
    assert load_state(tmp_path, *trained(0, 0)) is None
    save_state(tmp_path, Progress(), *trained(0, 0), [])
    model, optimizer = trained(1, 0)
    assert load_state(tmp_path, model, optimizer) == (Progress(), []) and not optimizer.state


def test_a_log_drops_what_came_after_the_last_state(tmp_path):
    log = Log(tmp_path, 0)
    for i in range(4):
        log.append({"step": i})
    with log.path.open("a") as file:
        file.write('{"step": 4, "lo')  # killed while it wrote
    log = Log(tmp_path, 2)
    log.append({"step": 2})
    assert log.rows == 3 and [row["step"] for row in read_log(tmp_path)] == [0, 1, 2]


def test_what_json_has_no_word_for_is_null(tmp_path):
    log = Log(tmp_path, 0)
    log.append({"a": float("inf"), "b": float("-inf"), "c": float("nan"), "d": 1.5, "e": "x"})
    row = json.loads(log.path.read_text(), parse_constant=pytest.fail)
    assert row == {"a": None, "b": None, "c": None, "d": 1.5, "e": "x"} == read_log(tmp_path)[0]


def test_a_saved_model_finds_its_frozen_encoder_wherever_its_folder_lies(tmp_path):
    """Its config names its class, and the projection comes along."""
    clip = vclip.load(vclip.minihowto() / "checkpoint")
    save_clip(tmp_path / "here", clip, encoder_files(clip.spec, clip.model.name_or_path))
    (tmp_path / "far").mkdir()
    shutil.move(tmp_path / "here", tmp_path / "far" / "away")
    again = vclip.load(tmp_path / "far" / "away")
    np.testing.assert_array_equal(again.encode_texts(["chop it"]), clip.encode_texts(["chop it"]))
    assert from_spec(again.spec, tmp_path / "far" / "away").spec == again.encoder.spec == clip.spec
