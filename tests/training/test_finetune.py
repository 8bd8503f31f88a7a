"""`finetune` of each task: what is chosen on what, what is left behind, what is refused, and any interruption."""

import dataclasses
import json
import random
import shutil
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from shipped import training_set
from stops import Forked, after_rows, kill_when

import vclip
from vclip.data.corpus import Corpus
from vclip.datasets._records import Dataset
from vclip.models.segmenter import VideoCLIPForSegmentation
from vclip.tasks.evaluate import HEADLINES
from vclip.training.checkpoint import read_log
from vclip.training.config import RELEASED, FinetuneConfig
from vclip.training.finetune import TASKS, Labels, finetune, hold_out

import corpora
import labelled
from labelled import config


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return labelled.data(tmp_path_factory.mktemp("data"))


def run(task: str, data: Path, output: Path, **changes):
    return finetune(config(task, data, output, **changes), labelled.dataset(task), data / "corpus")


def left(output: Path) -> dict[str, bytes]:
    files = ("best/model.safetensors", "last/model.safetensors", "state.safetensors", "log.jsonl", "report.json")
    return {name: (output / name).read_bytes() for name in files}


@pytest.mark.parametrize("task", RELEASED)
def test_the_best_epoch_on_held_out_videos_is_kept(data, tmp_path, task):
    done = run(task, data, tmp_path / "run", epochs=3)
    rows, score = read_log(tmp_path / "run"), HEADLINES[task]
    assert [row["epoch"] for row in done.scores] == [0, 1, 2, 3]
    assert all({"validation_loss", score, "n"} <= row.keys() for row in done.scores)
    assert done.losses == [row["loss"] for row in rows if "loss" in row] and len(done.losses) == 3 * 4
    best = max(done.scores[1:], key=lambda row: row[score])
    report = json.loads((tmp_path / "run/report.json").read_text())
    assert report == json.loads(json.dumps(done.report))
    assert (report["epoch"], report["chosen"], report["before"]) == (best["epoch"], best, done.scores[0])
    held, kept = report["chosen_on"]["videos"], report["training"]["videos"]
    assert len(held) == 4 and len(kept) == 16 and not set(held) & set(kept)
    assert "4 of the 20 training videos, held out" in repr(done) and "no test data was seen" in repr(done)
    # the checkpoint has that score
    assert vclip.evaluate(done.clip, *done.chosen_on).scores[score] == best[score]


@pytest.mark.parametrize("task", RELEASED)
def test_interrupted_it_ends_the_same_and_finished_it_is_only_read(data, tmp_path, task, monkeypatch):
    changes = {"repeats": 2} if task == "videoqa" else {}
    run(task, data, tmp_path / "whole", **changes)
    inputs, seen = Labels.inputs, []

    def fail(self, batch, rng):
        seen.append(batch)
        if len(seen) in (1, 4, 11):
            raise KeyboardInterrupt
        return inputs(self, batch, rng)

    with monkeypatch.context() as patched:
        patched.setattr(Labels, "inputs", fail)
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                run(task, data, tmp_path / "broken", **changes)
    assert seen
    run(task, data, tmp_path / "broken", **changes)
    whole = left(tmp_path / "whole")
    assert left(tmp_path / "broken") == whole
    assert run(task, data, tmp_path / "broken", **changes).losses and left(tmp_path / "broken") == whole


def finetune_on_one_thread(data: Path, output: Path) -> None:
    torch.set_num_threads(1)
    run("videoqa", data, output, repeats=4)


@pytest.mark.long
def test_killed_at_any_moment_it_ends_the_same(data, tmp_path):
    start = partial(Forked, finetune_on_one_thread, data)
    assert start(tmp_path / "whole").wait() == 0
    rows = len(read_log(tmp_path / "whole"))
    for number in range(8):
        output, moment = tmp_path / f"run {number}", after_rows(1 + number * rows * 3 // 4 // 8)
        kill_when(partial(start, output), output, moment, random.uniform(0, 0.05))
        assert start(output).wait() == 0
        assert left(output) == left(tmp_path / "whole")


def test_given_validation_replaces_the_held_out_part(data, tmp_path):
    training, other = labelled.dataset("segmentation"), labelled.dataset("segmentation", labelled.N, 6)
    features = labelled.corpus(data)
    done = finetune(config("segmentation", data, tmp_path), training, features, validation=(other, features))
    assert len(done.report["training"]["videos"]) == 20 and done.report["chosen_on"]["videos"] == other.video_ids
    assert "validation data given for it" in done.report["selection"]
    # who knows where the given videos come from
    assert "no test data" not in done.report["selection"] and "had no part in this" in done.report["selection"]
    with pytest.raises(ValueError, match="video 'video 0' and 5 more are in both the training data and"):
        both = labelled.dataset("segmentation", 0, 6), features
        finetune(config("segmentation", data, tmp_path), training, features, validation=both)


def test_a_runs_folder_finds_its_frozen_encoder_wherever_it_lies(tmp_path):
    """The projection of the checkpoint comes along; that lies in the parent of the shipped one."""
    settings = FinetuneConfig.sample("localization", output=tmp_path / "run", epochs=1)
    finetune(settings, *training_set("crosstask"))
    shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    spec = vclip.load(vclip.minihowto() / "checkpoint").spec
    for name in ("best", "last"):
        assert vclip.load(tmp_path / "elsewhere" / name).encoder.spec == spec


def test_a_single_epoch_is_not_called_the_best(data, tmp_path):
    said = run("retrieval", data, tmp_path, epochs=1).report["selection"]
    assert said.startswith("The checkpoint is that of the only epoch; r1 was taken on 4 of the 20 training videos")


def test_other_labels_or_settings_are_refused_and_the_run_left_alone(data, tmp_path):
    run("localization", data, tmp_path)
    before = left(tmp_path)
    with pytest.raises(ValueError, match="run with other settings .stride: 8 against 16"):
        run("localization", data, tmp_path, stride=16)
    with pytest.raises(ValueError, match="run with other settings .*task: 'localization' against 'segmentation'"):
        run("segmentation", data, tmp_path)
    with pytest.raises(ValueError, match="run with other settings .training: "):
        fewer = labelled.dataset("localization", 0, 18)
        finetune(config("localization", data, tmp_path), fewer, data / "corpus")
    assert left(tmp_path) == before


def test_a_pretraining_runs_folder_is_refused(data, tmp_path):
    (tmp_path / "pretrain.json").write_text("{}")
    with pytest.raises(ValueError, match="holds 'pretrain.json' and no finetune.json: choose another output"):
        run("retrieval", data, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["pretrain.json"]


def test_a_checkpoint_that_does_not_fit_is_refused(data, tmp_path):
    other = labelled.checkpoint(tmp_path / "other", feature_spec=corpora.spec(encoder="another"))
    with pytest.raises(ValueError, match="encoder"):
        run("retrieval", data, tmp_path / "a", checkpoint=other)
    special = labelled.checkpoint(tmp_path / "special", sep_token_id=3)
    with pytest.raises(ValueError, match="102., but the model's vocab_size is 200 and its ids are .101, 3."):
        run("retrieval", data, tmp_path / "b", checkpoint=special)
    with pytest.raises((OSError, ValueError), match="no folder"):
        run("retrieval", data, tmp_path / "c", checkpoint=tmp_path / "no folder")
    done = run("segmentation", data, tmp_path / "d", epochs=1)
    fewer = labelled.dataset("segmentation")
    fewer.texts, fewer.labels = fewer.texts[:2], [1, 2]
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):  # its report names the classifier
        finetune(config("segmentation", data, tmp_path / "e", checkpoint=done.checkpoint), fewer, data / "corpus")


def test_records_that_a_task_cannot_learn_from_are_refused(data, tmp_path):
    features, settings = labelled.corpus(data), config("retrieval", data, tmp_path)
    for task, wrong, message in (
        ("retrieval", "segmentation", "records without a sentence, Video"),
        ("videoqa", "localization", "records without a sentence, Video"),
        ("segmentation", "localization", "segmentation learns from COIN"),
        ("localization", "segmentation", "localization learns from CrossTask"),
    ):
        with pytest.raises(TypeError, match=message):
            finetune(config(task, data, tmp_path), labelled.dataset(wrong), features)
    elsewhere = Corpus.create(tmp_path / "elsewhere", corpora.spec(), [("x", np.ones((3, corpora.DIM)), None)])
    with pytest.raises(ValueError, match="has none of the 20 videos"):
        finetune(settings, labelled.dataset("retrieval"), elsewhere)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        finetune(settings, labelled.dataset("retrieval"), tmp_path / "nowhere")


def test_nothing_to_tell_apart_and_too_long_windows_are_refused(data, tmp_path):
    with pytest.raises(ValueError, match="needs at least two; batch_size is 1, with 20 clips"):
        run("retrieval", data, tmp_path / "a", batch_size=1)
    with pytest.raises(ValueError, match="batch_size is 4, with 1 clips in MSR-VTT"):
        finetune(config("retrieval", data, tmp_path / "b"), labelled.dataset("retrieval", 0, 2), data / "corpus")
    with pytest.raises(ValueError, match=r"window \(64 s\) exceeds the longest clip \(32 s\)"):
        run("segmentation", data, tmp_path / "c", window=64)


def test_segmentation_leaves_the_text_tower_alone_and_names_its_classes(data, tmp_path):
    done = run("segmentation", data, tmp_path)
    before, after = (load_file(folder / "model.safetensors") for folder in (data / "checkpoint", done.checkpoint))
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert {name for name in before if name.startswith("text_model.")} == same
    assert set(after) - set(before) == {"classifier.weight", "classifier.bias"}
    model = VideoCLIPForSegmentation.from_pretrained(done.checkpoint)
    assert model.config.id2label == {0: "Outside", 1: "w1 w2", 2: "w3", 3: "w4 w5 w6"}


def test_the_released_recipes():
    retrieval, qa, coin, crosstask = (FinetuneConfig.paper(task) for task in RELEASED)
    for recipe in (retrieval, qa, coin, crosstask):
        assert (recipe.learning_rate, recipe.betas, recipe.clip_norm) == (5e-5, (0.9, 0.98), 2.0)
        assert (recipe.warmup_steps, recipe.total_steps, recipe.precision) == (122, 1_000_000, "fp16")
    sizes = [(r.epochs, r.batch_size, r.repeats, r.stride) for r in (retrieval, qa, coin, crosstask)]
    assert sizes == [(10, 128, 1, 16), (5, 128, 20, 16), (8, 1, 1, 8), (5, 1, 1, 16)]
    assert dataclasses.replace(coin, epochs=3).epochs == 3
    with pytest.raises(TypeError, match="unknown field of FinetuneConfig 'epoch': did you mean 'epochs'"):
        FinetuneConfig.sample("retrieval", epoch=3)
    assert [r.task for r in (retrieval, qa, coin, crosstask)] == list(RELEASED) == list(TASKS)
    for wrong in ("retrival", None):
        with pytest.raises(ValueError, match="Input should be 'retrieval', 'videoqa', 'segmentation' or"):
            FinetuneConfig.paper(wrong)


@pytest.mark.parametrize(
    ("field", "value"),
    [("stride", 33), ("held_out", 0.0), ("batch_size", 0), ("candidates", 1), ("repeats", 0)]
    + [("probability", "tanh"), ("held_out", 1.0), ("learning_rate", -1.0), ("learning_rate", "1e-3")]
    + [("learning_rate", float("nan")), ("clip_norm", 0), ("epochs", 1.5), ("batch_size", 2.5)],
)
def test_values_that_cannot_work_are_refused(field, value):
    with pytest.raises(ValueError, match=f"(?s){field}.*{value}"):
        FinetuneConfig(task="retrieval", **{field: value})


# the videos held out of a training split: how many, of which strata, and that every label stays trained


@dataclass(frozen=True)
class Record:
    video_id: str
    stratum: int
    labels: tuple[int, ...] = ()


def traits_of(record: Record):
    return record.stratum, record.labels


def dataset_of(records) -> Dataset:
    return Dataset("Made", "train", records, ("retrieval",), ["gone"])


records = st.lists(
    st.builds(Record, st.sampled_from([f"v{i}" for i in range(30)]), st.integers(0, 3), st.tuples(st.integers(0, 5))),
    min_size=2,
    max_size=60,
)


@given(records, st.floats(0.05, 0.95), st.integers(0, 5))
def test_no_video_is_in_both_parts_and_no_label_goes_untrained(records, share, seed):
    dataset = dataset_of(records)
    try:
        kept, held = hold_out(dataset, share, seed, traits_of)
    except ValueError as error:
        assert "no video can be held out" in str(error)
        # then each video has a label that no other shows
        for video_id in dataset.video_ids:
            others = {label for r in records if r.video_id != video_id for label in r.labels}
            assert (
                len(dataset.video_ids) == 1
                or not {label for r in records if r.video_id == video_id for label in r.labels} <= others
            )
        return
    assert not set(kept.video_ids) & set(held.video_ids)
    assert sorted(map(repr, [*kept, *held])) == sorted(map(repr, records))
    assert {label for r in records for label in r.labels} == {label for r in kept for label in r.labels}
    assert 1 <= len(held.video_ids) <= max(1, round(share * len(dataset.video_ids)))
    again = hold_out(dataset, share, seed, traits_of)
    assert [list(part) for part in again] == [list(kept), list(held)]


def test_the_share_is_taken_of_each_stratum():
    sizes = {0: 40, 1: 20, 2: 10, 3: 3}
    dataset = dataset_of([Record(f"{s} {i}", s) for s, n in sizes.items() for i in range(n)])
    drawn = [Counter(r.stratum for r in hold_out(dataset, 0.2, seed, traits_of)[1]) for seed in range(20)]
    for held in drawn:
        assert sum(held.values()) == round(0.2 * 73)
        assert all(abs(held[s] - 0.2 * n) <= 1 for s, n in sizes.items())
    parts = [{r.video_id for r in hold_out(dataset, 0.2, seed, traits_of)[1]} for seed in range(20)]
    assert len({frozenset(part) for part in parts}) == 20


def test_parts_say_what_they_are_and_the_whole_is_left_alone():
    dataset = dataset_of([Record(f"v{i}", 0) for i in range(10)])
    kept, held = hold_out(dataset, 0.3, 0, traits_of)
    assert (len(dataset), len(kept), len(held)) == (10, 7, 3)
    assert repr(held) == "Made train, held out: 3 records of 3 videos" and repr(kept).startswith("Made train: 7")


def test_videos_of_a_label_each_cannot_be_held_out():
    with pytest.raises(ValueError, match="no video can be held out, for each has labels of its own: pass `validation`"):
        hold_out(dataset_of([Record(f"v{i}", 0, (i,)) for i in range(5)]), 0.2, 0, traits_of)


def test_fewer_batches_than_processes_are_refused(data, tmp_path):
    """Each process would take none, and the run would end with nothing trained."""
    task = TASKS["retrieval"](config("retrieval", data, tmp_path / "run", batch_size=500))
    clip, pair = vclip.load(config("retrieval", data, tmp_path / "run").checkpoint), labelled.dataset("retrieval")
    both = (pair, Corpus.open(data / "corpus"))
    with pytest.raises(ValueError, match="makes 1 batches of 500 for 2 processes"):
        Labels(task, SimpleNamespace(num_processes=2), clip, both, both)
