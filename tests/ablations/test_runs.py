"""Runs are kept by what decides them, go on where they stopped, and come out the same in any process."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from vclip import VideoCLIPModel, VideoCLIPProcessor
from vclip.ablations import Trial, ablation_base, config_hash, draw_topics, run_all, run_row, topic_corpus
from vclip.ablations.runs import TASKS, score_tasks
from vclip.samples import STYLES, minihowto

TOPIC = draw_topics(1, seed=0)  # 14 videos: an epoch is one update
UNTIMED = {"seconds"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> str:
    return str(topic_corpus(TOPIC, tmp_path_factory.mktemp("corpora") / "one").path)


def trial(corpus: str, epochs: int, row: str = "full") -> Trial:
    return Trial(row, 5, corpus, topics=TOPIC, changes={"epochs": epochs, "candidates": 8})


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory) -> tuple[Path, dict]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cache = tmp_path_factory.mktemp("cache")
    yield cache, run_row(trial(corpus, 3), cache)
    torch.set_num_threads(threads)


def test_a_result_holds_every_score_with_its_floor_and_leaves_one_file(finished):
    cache, result = finished
    assert [file.name for file in cache.iterdir()] == [result["config"] + ".json"]
    assert json.loads((cache / f"{result['config']}.json").read_text()) == result
    assert (result["row"], result["seed"], result["updates"], tuple(result["topics"])) == ("full", 5, 3, TOPIC)
    assert result["versions"].keys() >= {"vclip", "torch"} and result["machine"]
    for style in STYLES:
        for task, (*_, wanted) in TASKS.items():
            assert result["scores"][style][task].keys() == wanted.keys()
            for value, floor, n in result["scores"][style][task].values():
                assert n > 100 and floor > 0 <= value
        among = result["scores"][f"{style}, its topics"]["retrieval"]
        assert among["r1"][2] < 20 < result["scores"][style]["retrieval"]["r1"][2]
        assert among["r1"][1] == pytest.approx(1 / among["r1"][2], abs=1e-6)


def test_a_finished_run_is_read_not_made_again(finished, corpus):
    cache, result = finished
    begin = time.perf_counter()
    assert run_row(trial(corpus, 3), cache) == result
    assert time.perf_counter() - begin < 1


def test_the_shipped_checkpoint_scores_as_evaluate_says():
    from vclip import evaluate, evaluation_sets

    folder = minihowto() / "checkpoint"
    model, processor = VideoCLIPModel.from_pretrained(folder), VideoCLIPProcessor.from_pretrained(folder)
    scores = score_tasks(model, processor)
    for style, pair in evaluation_sets("coin").items():
        report = evaluate(model, processor, *pair, rule="margin")
        assert scores[style]["segmentation"]["f1_25"][0] == report.scores["f1_25"]
    for style in STYLES:
        easy, hard = (scores[style][task]["accuracy"][0] for task in ("videoqa", "videoqa, hard"))
        assert hard < easy
    assert set(scores) == set(STYLES)


def test_other_processes_find_the_same_numbers(finished, corpus, tmp_path):
    """Another process, the corpus elsewhere: the same hash, the same scores."""
    elsewhere = str(topic_corpus(TOPIC, tmp_path / "elsewhere").path)
    again, aligned = run_all([trial(elsewhere, 3), trial(elsewhere, 3, "w/o overlap")], tmp_path / "cache", processes=2)
    _, result = finished
    assert {k: v for k, v in again.items() if k not in UNTIMED} == {k: v for k, v in result.items() if k not in UNTIMED}
    assert aligned["config"] != again["config"] and aligned["scores"] != again["scores"]
    assert run_all([], tmp_path / "cache") == []


def test_a_killed_run_goes_on_and_ends_where_it_would_have(corpus, tmp_path):
    code = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from vclip.ablations import Trial, run_row\n"
        "run_row(Trial('full', 5, sys.argv[1], changes={'epochs': 12, 'candidates': 8}), sys.argv[2])"
    )
    whole = Trial("full", 5, corpus, changes={"epochs": 12, "candidates": 8})
    process = subprocess.Popen([sys.executable, "-c", code, corpus, str(tmp_path / "cut")], stdout=subprocess.DEVNULL)
    log = tmp_path / "cut" / config_hash(whole.config()) / "log.jsonl"
    try:
        deadline = time.monotonic() + 300
        while not (log.exists() and '"epoch": 3' in log.read_text()):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not list((tmp_path / "cut").glob("*.json"))
    torch.set_num_threads(1)
    assert run_row(whole, tmp_path / "cut")["scores"] == run_row(whole, tmp_path / "whole")["scores"]


def test_the_hash_is_of_what_decides_the_numbers(corpus, tmp_path):
    base = ablation_base(corpus)
    key = config_hash(base)
    assert config_hash(dataclasses.replace(base, output="elsewhere")) == key
    others = [
        {"seed": 1},
        {"corpus": str(minihowto() / "val")},
        {"tokenizer": str(tmp_path)},
        {"validation": str(minihowto() / "val")},
        {"model": base.model | {"pooling": "cls"}},
        {"learning_rate": 1e-3},
    ]
    keys = [config_hash(dataclasses.replace(base, **change)) for change in others]
    assert len({key, *keys}) == len(others) + 1
