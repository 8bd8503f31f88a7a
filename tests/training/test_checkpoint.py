import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import vclip
from vclip.data.captions import Captions
from vclip.data.corpus import Corpus
from vclip.encoders.loading import encoder_files, from_spec
from vclip.training.checkpoint import (
    PREVIOUS,
    STATE,
    Log,
    Progress,
    data_hash,
    load_state,
    read_log,
    read_state,
    save_clip,
    save_state,
)

import corpora

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


def test_the_state_before_the_last_is_kept(tmp_path):
    contents = []
    for steps in (1, 2, 3):
        save_state(tmp_path, Progress(step=steps), *trained(0, steps), BATCHES)
        contents.append((tmp_path / STATE).read_bytes())
    assert (tmp_path / PREVIOUS).read_bytes() == contents[1] != contents[2]
    assert sorted(f.name for f in tmp_path.iterdir()) == [PREVIOUS, STATE]


@pytest.fixture(scope="module")
def state(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("state")
    save_state(folder, Progress(epoch=2, step=40, best=1.5), *trained(0), BATCHES)
    return folder / STATE


@given(st.data())
def test_a_changed_bit_of_a_state_is_seen(state, data):
    content = bytearray(state.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    changed = state.with_name("changed.safetensors")
    changed.write_bytes(content)
    try:
        progress, tensors = read_state(changed)
    except ValueError as error:
        assert f"{changed} is damaged" in str(error) and f"to start anew remove {state.parent}" in str(error)
        return
    # what the checksum is called may change, and nothing else
    assert content.count(b"crc32") == 0
    before, expected = read_state(state)
    assert progress == before and tensors.keys() == expected.keys()
    torch.testing.assert_close(tensors, expected, atol=0, rtol=0)


@given(st.data())
def test_a_cut_state_is_seen(state, data):
    cut = state.with_name("cut.safetensors")
    cut.write_bytes(state.read_bytes()[: data.draw(st.integers(0, state.stat().st_size - 1))])
    with pytest.raises(ValueError, match="cut.safetensors is damaged"):
        read_state(cut)


@pytest.mark.parametrize("change", ["a tensor less", "other metadata", "no metadata"])
def test_a_state_that_lacks_something_is_damaged(state, tmp_path, change):
    tensors = load_file(state)
    metadata = {"progress": "{no JSON" if change == "other metadata" else json.dumps({"step": 40})}
    if change == "a tensor less":
        del tensors["exp_avg.weight"]
        metadata = {"progress": json.dumps({"step": 40, "crc32": 0})}
    save_file(tensors, tmp_path / STATE, None if change == "no metadata" else metadata)
    with pytest.raises(ValueError, match="state.safetensors is damaged"):
        load_state(tmp_path, *trained(0, 0))


def test_a_state_without_a_checksum_is_an_older_versions(state, tmp_path):
    save_file(load_file(state), tmp_path / STATE, {"progress": json.dumps({"step": 40})})
    found = load_state(tmp_path, *trained(0, 0))
    assert found is not None and found[0] == Progress(step=40)


def test_a_state_of_another_model_is_refused(state):
    model = torch.nn.Linear(4, 2)
    with pytest.raises(ValueError, match="state.safetensors is another model's: choose another output"):
        load_state(state.parent, model, torch.optim.Adam(model.parameters()))


def test_what_is_not_finite_is_not_written(tmp_path):
    model, optimizer = trained(0)
    save_state(tmp_path, Progress(), model, optimizer, BATCHES)
    before = (tmp_path / STATE).read_bytes()
    for place in (model.weight.data, optimizer.state[model.weight]["exp_avg_sq"]):
        for wrong in (float("nan"), float("inf"), float("-inf")):
            kept = place[0, 0].clone()
            place[0, 0] = wrong
            with pytest.raises(ValueError, match="not finite, so .*state.safetensors is not written"):
                save_state(tmp_path, Progress(), model, optimizer, BATCHES)
            place[0, 0] = kept
    assert (tmp_path / STATE).read_bytes() == before and [f.name for f in tmp_path.iterdir()] == [STATE]


def rows(**changes):
    """Videos of a corpus; `changes` of the first one's."""
    values = {"id": "video 0", "text": "a w1", "start": 0.0, "end": 2.0, "seconds": 5} | changes
    for name in (values["id"], "video 1"):
        yield name, np.ones((values["seconds"], corpora.DIM)), captions(values)
        values = {"text": "w2", "start": 0.0, "end": 1.0, "seconds": 4}


def captions(values: dict) -> Captions:
    return Captions([values["start"], 3.0], [values["end"], 4.0], [values["text"], "w3"])


def test_the_hash_of_a_corpus_is_that_of_its_tables_without_tokens(tmp_path):
    def hashed(name: str, weights: str = "0" * 16, **changes) -> str:
        return data_hash(Corpus.create(tmp_path / name, corpora.spec(weights=weights), rows(**changes)))

    first = hashed("first")
    assert hashed("copy") == first
    corpus = Corpus.open(tmp_path / "first").tokenize(corpora.tokenizer())
    assert data_hash(corpus) == data_hash(Corpus.open(tmp_path / "first")) == first
    table = pq.read_table(tmp_path / "first/captions.parquet")
    pq.write_table(table, tmp_path / "first/captions.parquet", row_group_size=1)
    assert data_hash(Corpus.open(tmp_path / "first")) == first
    changes = [{"id": "x"}, {"text": "b w1"}, {"start": 0.5}, {"end": 2.5}, {"seconds": 6}]
    changes.append({"weights": "1" * 16})
    assert len({first, *(hashed(f"changed {i}", **change) for i, change in enumerate(changes))}) == 7


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
