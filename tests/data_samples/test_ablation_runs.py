"""Runs are kept by what decides them, go on where they stopped, and come out the same in any process."""

import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ablations import runs as ablation_runs
from ablations.rows import Scored, Trial
from ablations.runs import SCORED, run_all, run_row, score_set, score_tasks, trial_key
from shipped import STYLES, evaluation_sets
from within import r1_within
from worlds import World, make

from vclip import Corpus, evaluate, load
from vclip.datasets import youcook2
from vclip.datasets.minihowto import minihowto

SMALL = {"videos_per_batch": 8, "candidates": 8}  # of fourteen videos: an epoch is one step
UNTIMED = {"seconds"}
ELSEWHERE = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}  # a new process finds `ablations` there too


@pytest.fixture(scope="module")
def corpus(few) -> str:
    return str(few)


def trial(corpus: str, epochs: int, row: str = "full") -> Trial:
    return Trial(row, 5, corpus, {"epochs": epochs}, SMALL | {"epochs": epochs})


@pytest.fixture(scope="module")
def asked_twice(corpus, tmp_path_factory):
    """A cache, what two threads got that asked for one run at once, and how often it was made."""
    threads, cache, made, found = torch.get_num_threads(), tmp_path_factory.mktemp("cache"), [], []
    train = ablation_runs._train_and_score

    def counted(*arguments):
        made.append(arguments)
        time.sleep(0.5)
        return train(*arguments)

    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablation_runs, "_train_and_score", counted)
        both = [threading.Thread(target=lambda: found.append(run_row(trial(corpus, 3), cache))) for _ in range(2)]
        for thread in both:
            thread.start()
        for thread in both:
            thread.join()
    yield cache, found, len(made)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def finished(asked_twice) -> tuple[Path, dict]:
    cache, found, _ = asked_twice
    return cache, found[0]


def test_two_that_want_one_run_take_turns(asked_twice):
    cache, found, made = asked_twice
    assert made == 1 and found[0] == found[1]
    assert len(list(cache.iterdir())) == 1


def test_a_result_holds_every_score_with_its_baseline_and_leaves_one_file(finished):
    cache, result = finished
    assert [file.name for file in cache.iterdir()] == [result["config"] + ".json"]
    assert json.loads((cache / f"{result['config']}.json").read_text()) == result
    assert (result["row"], result["seed"], result["steps"], result["setting"]) == ("full", 5, 3, {"epochs": 3})
    assert result["data"] == "corpus" and 0 < result["mass_on_other_videos"] < 1
    assert result["versions"].keys() >= {"vclip", "torch"} and result["machine"]
    for style in STYLES:
        for task, (*_, wanted) in SCORED.items():
            shared = {f"r1, same {name}" for name in ("action", "thing", "topic")} if task == "retrieval" else set()
            assert result["scores"][style][task].keys() == wanted.keys() | shared
            for value, baseline, n in result["scores"][style][task].values():
                assert n > 100 and baseline > 0 <= value


def test_a_finished_run_is_read_not_made_again(finished, corpus, monkeypatch):
    cache, result = finished
    monkeypatch.setattr(ablation_runs, "_train_and_score", None)
    assert run_row(trial(corpus, 3), cache) == result


def test_a_run_that_is_read_carries_the_labels_of_who_asks(finished, corpus):
    """Another row or setting may be the same run."""
    cache, result = finished
    asked = dataclasses.replace(trial(corpus, 3), setting={"lag": 8.0})
    assert run_row(asked, cache) == result | {"setting": {"lag": 8.0}}


def test_a_damaged_file_of_the_cache_is_named(finished, corpus, tmp_path):
    _, result = finished
    (tmp_path / f"{result['config']}.json").write_text('{"row": "fu')
    with pytest.raises(ValueError, match=f"{result['config']}.json is not a finished run .*remove it"):
        run_row(trial(corpus, 3), tmp_path)


def test_the_shipped_checkpoint_scores_as_evaluate_says():
    clip = load(minihowto() / "checkpoint")
    scores = score_tasks(clip)
    for style, pair in evaluation_sets("coin").items():
        report = evaluate(clip, *pair, rule="margin")
        assert scores[style]["segmentation"]["f1_25"][0] == report.scores["f1_25"]
    for style in STYLES:
        easy, hard = (scores[style][task]["accuracy"][0] for task in ("videoqa", "videoqa, hard"))
        assert hard < easy
    assert set(scores) == set(STYLES)


def test_a_world_is_scored_on_its_own_test_set_and_within_its_domains(tmp_path):
    folder = make(World(domains=4, tested=2, videos=20), tmp_path / "world")
    run = run_row(Trial("full", 0, str(folder), changes={"total_steps": 4, "epochs": 4}), tmp_path / "cache")
    scores = run["scores"]["test"]["retrieval"]
    assert run["data"] == "world" and list(run["scores"]) == ["test"] and run["steps"] == 4
    assert scores["r1"][1:] == [pytest.approx(1 / 96, abs=1e-6), 96]  # 2 domains, 4 dishes, 12 actions
    assert scores["r1, same recipe"][1:] == [pytest.approx(1 / 48, abs=1e-6), 96]


def test_a_real_set_is_scored_as_evaluate_does():
    """Two tasks; the baseline of a score is the best there is."""
    clip, corpus = load(minihowto() / "checkpoint"), minihowto() / "val"
    scored = Scored("youcook2", "retrieval", str(minihowto() / "youcook2" / "val"), str(corpus))
    found, records = score_set(clip, scored), youcook2.load(minihowto() / "youcook2" / "val")
    report = evaluate(clip, records, corpus)
    for score in ("r1", "r5", "r10", "median_rank"):
        assert found[score] == (report.scores[score], report.baselines["chance"][score], report.n)
    within = r1_within(clip, records, Corpus.open(corpus)).loc["recipe"]
    assert found["r1, same recipe"] == (within["r1"], within["chance"], within["n"])
    folder = minihowto() / "crosstask" / "test"
    scored = Scored("crosstask", "localization", str(folder), str(folder / "features"), {"split": "validation"})
    found = score_set(clip, scored)
    assert found["recall"][0] > found["recall"][1] > 0.2  # cutting a video into equal parts is better than chance
    folder = minihowto() / "coin" / "test"
    found = score_set(clip, Scored("coin", "segmentation", str(folder), str(folder / "features")))
    assert found["mean_recall"][1] == pytest.approx(1 / 48), "the best baseline, chance"


@pytest.mark.long
def test_other_processes_find_the_same_numbers(finished, corpus, tmp_path):
    """Another process, the corpus elsewhere: the same key, the same scores. A trial named twice is trained once."""
    elsewhere = str(shutil.copytree(corpus, tmp_path / "corpus"))
    trials = [trial(elsewhere, 3), trial(elsewhere, 3, "w/o overlap"), trial(corpus, 3)]
    again, aligned, twice = run_all(trials, tmp_path / "cache", processes=2)
    _, result = finished
    assert {k: v for k, v in again.items() if k not in UNTIMED} == {k: v for k, v in result.items() if k not in UNTIMED}
    assert twice == again
    assert aligned["config"] != again["config"] and aligned["scores"] != again["scores"]
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert run_all([], tmp_path / "cache") == []


@pytest.mark.long
def test_a_dead_worker_ends_the_call_and_names_what_is_left(corpus, tmp_path):
    """As when the system runs out of memory."""
    killer = threading.Thread(target=_once_trained, args=(tmp_path, lambda pid: os.kill(pid, signal.SIGKILL)))
    killer.start()
    with pytest.raises(RuntimeError, match=r"left are full \(seed 5\)\. Call again to go on"):
        run_all([trial(corpus, 5000)], tmp_path, processes=1)  # not at its end before it is killed
    killer.join()
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.long
def test_an_exception_of_a_run_ends_the_others_and_comes_out(corpus, tmp_path):
    bad, long = trial(corpus, 3), trial(corpus, 100_000)
    bad = dataclasses.replace(bad, changes=bad.changes | {"learning_rate": 1e30, "warmup_steps": 0})
    others = multiprocessing.active_children()
    with pytest.raises(ValueError, match="holds NaN"):
        run_all([long, bad], tmp_path, processes=2)
    end = time.monotonic() + 300
    # not joined: the pool's own thread joins them too, and whoever comes second sees a running process
    while not set(multiprocessing.active_children()) <= set(others):
        assert time.monotonic() < end
        time.sleep(0.05)


def _once_trained(cache: Path, act: Callable[[int], None]) -> None:
    """`act` on the worker's pid once its run has been trained on for an epoch."""
    while not any('"epoch": 2' in log.read_text() for log in cache.glob("*/log.jsonl")):
        time.sleep(0.02)
    worker = next(p for p in multiprocessing.active_children() if p.pid and "SpawnProcess" in p.name)
    assert worker.pid
    act(worker.pid)


@pytest.mark.long
def test_a_script_without_a_main_guard_is_told_so_once(corpus, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from ablations import Trial, run_all\n"
        f"run_all([Trial('full', 5, {corpus!r}, changes={SMALL})], {str(tmp_path / 'cache')!r}, processes=1)\n"
    )
    ran = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=300, env=ELSEWHERE)
    assert ran.returncode == 1
    assert ran.stderr.count("Call again to go on") == 1 and '`if __name__ == "__main__":`' in ran.stderr


@pytest.mark.long
def test_a_killed_run_goes_on_and_ends_where_it_would_have(corpus, tmp_path):
    code = (
        "import os, sys, torch; torch.set_num_threads(1)\n"
        "from ablations import Trial, run_row\n"
        "from vclip.training.checkpoint import Log\n"
        "append = Log.append\n"
        "Log.append = lambda log, row: append(log, row) or row['epoch'] == 4 and os.kill(os.getpid(), 9)\n"
        f"run_row(Trial('full', 5, sys.argv[1], changes={SMALL | {'epochs': 12}}), sys.argv[2])"
    )
    whole = Trial("full", 5, corpus, changes=SMALL | {"epochs": 12})
    command = [sys.executable, "-c", code, corpus, str(tmp_path / "cut")]
    killed = subprocess.run(command, stdout=subprocess.DEVNULL, env=ELSEWHERE)
    assert killed.returncode == -signal.SIGKILL
    assert not list((tmp_path / "cut").glob("*.json"))
    clock = tmp_path / "cut" / trial_key(whole) / "seconds.json"
    before = json.loads(clock.read_text())["training"]
    assert before > 0
    clock.write_text(json.dumps({"training": before + 1000}))  # as of a long first stretch
    torch.set_num_threads(1)
    cut = run_row(whole, tmp_path / "cut")
    assert cut["seconds"]["training"] > before + 1000, "both stretches count"
    assert cut["scores"] == run_row(whole, tmp_path / "whole")["scores"]


def test_the_key_is_of_what_decides_the_numbers(corpus, tmp_path, monkeypatch):
    base = trial(corpus, 3)
    key = trial_key(base)
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text("{}")
    (tmp_path / "words").mkdir()
    (tmp_path / "words" / "tokenizer.json").write_text("{}")
    changes: list[dict] = [
        {"tokenizer": str(tmp_path / "words")},
        {"tokenizer": "bert-base-uncased"},
        {"tokenizer": "bert-base-cased"},
        {"bert": "bert-base-uncased"},
        {"bert": str(tmp_path / "bert")},
        {"validation": str(minihowto() / "val")},
        {"model": {"pooling": "cls"}},
        {"learning_rate": 1e-3},
    ]
    sets = [(str(minihowto() / "youcook2" / name), str(minihowto() / name)) for name in ("val", "test")]
    others = [dataclasses.replace(base, changes=base.changes | change) for change in changes]
    others += [dataclasses.replace(base, seed=1), dataclasses.replace(base, corpus=str(minihowto() / "val"))]
    others += [dataclasses.replace(base, scored=Scored("youcook2", "retrieval", *of)) for of in sets]
    others += [dataclasses.replace(base, row="w/o overlap")]
    keys = [trial_key(other) for other in others]
    assert len({key, *keys}) == len(others) + 1
    (tmp_path / "bert" / "config.json").write_text("{ }")
    assert trial_key(others[4]) != keys[4], "a folder counts by what it holds"
    monkeypatch.setitem(SCORED["segmentation"][3], "window", 5)
    ablation_runs._minihowto_hash.cache_clear()
    assert trial_key(base) != key, "and so does how the tasks are scored"
    monkeypatch.undo()
    ablation_runs._minihowto_hash.cache_clear()
    assert trial_key(base) == key
