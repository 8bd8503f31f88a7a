"""Runs of the ablation: trained, scored on all tasks, kept by a hash of their config, spread over processes."""

import dataclasses
import hashlib
import json
import os
import platform
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from functools import lru_cache
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from vclip.ablations.rows import Trial, of_topics
from vclip.corpus import Corpus
from vclip.recipe import PretrainConfig
from vclip.samples import STYLES, evaluation_sets
from vclip.storage import write_json

# task's name here -> data set, options of its reader, task, options of the task, {score: floor beside it}
TASKS = {
    "retrieval": (
        "youcook2", {}, "retrieval", {}, dict.fromkeys(("r1", "r5", "r10", "median_rank"), "chance")
    ),
    "videoqa": ("msrvtt", {"split": "multiple_choice"}, "videoqa", {}, {"accuracy": "chance"}),
    "videoqa, hard": ("msrvtt", {"split": "multiple_choice"}, "videoqa", {}, {"accuracy": "chance"}),
    "segmentation": (
        "coin", {}, "segmentation", {"rule": "margin", "outside": 0.6, "window": 3},
        {"f1_25": "shuffled labels", "mean_recall": "chance"},
    ),
    "localization": ("crosstask", {"n_train": 0}, "localization", {}, {"recall": "uniform"}),
}  # fmt: skip
HARD = "MSR_MC_test_hard.csv"


def run_row(trial: Trial, cache: str | Path = "runs/ablations") -> dict:
    """Train and score one trial, or read it from `cache` if a run of the same config is there.

    The result is what `<hash>.json` in `cache` holds: the trial's fields, `config` (the hash), `scores`, updates and
    seconds that it took, library versions and the machine. `scores[style][task][score]` is (value, floor, n).
    A run that was stopped goes on from its last epoch; its folder is removed once it is scored.
    """
    cache = Path(cache)
    key = config_hash(trial.config())
    file = cache / f"{key}.json"
    if file.is_file():
        return json.loads(file.read_text(encoding="utf-8"))
    import torch

    from vclip.model import VideoCLIPModel
    from vclip.pretrain import pretrain
    from vclip.processing import VideoCLIPProcessor

    begin = time.perf_counter()
    run = pretrain(trial.config(cache / key))
    trained = time.perf_counter()
    model, processor = (
        VideoCLIPModel.from_pretrained(run.checkpoint),
        VideoCLIPProcessor.from_pretrained(run.checkpoint),
    )
    scores = score_tasks(model, processor, trial.topics)
    gpu = torch.cuda.is_available()
    result = {
        "row": trial.row, "seed": trial.seed, "lag": trial.lag, "topics": list(trial.topics), "config": key,
        "scores": scores, "updates": len(run.losses), "last_loss": float(np.mean(run.losses[-20:])),
        "seconds": {"training": trained - begin, "scoring": time.perf_counter() - trained},
        "versions": {name: version(name) for name in ("vclip", "torch", "transformers", "numpy")}
        | {"python": platform.python_version()},
        "machine": torch.cuda.get_device_name() if gpu else f"{os.cpu_count()} CPU cores, one thread a run",
    }  # fmt: skip
    result = json.loads(json.dumps(result), parse_float=lambda number: round(float(number), 6))
    write_json(file, result)
    shutil.rmtree(cache / key)
    return result


def score_tasks(model, processor, topics: tuple[str, ...] = ()) -> dict:
    """Every task in both styles, {style: {task: {score: (value, floor, n)}}}.

    With `topics`, retrieval among their clips alone too, as style "test, its topics".
    """
    from vclip.tasks.evaluation import evaluate

    scores: dict = {style: {} for style in STYLES}
    for name, (_, _, task, options, wanted) in TASKS.items():
        for style, (dataset, corpus) in _sets(name).items():
            scores[style][name] = _values(evaluate(model, processor, dataset, corpus, task, **options), wanted)
    for style, (dataset, corpus) in _sets("retrieval").items() if topics else ():
        report = evaluate(model, processor, of_topics(dataset, topics), corpus, "retrieval")
        scores[f"{style}, its topics"] = {"retrieval": _values(report, TASKS["retrieval"][-1])}
    return scores


def _values(report, wanted: dict[str, str]) -> dict:
    return {score: (report.scores[score], report.floors[floor][score], report.n) for score, floor in wanted.items()}


@lru_cache
def _sets(name: str) -> dict:
    """The test sets of a task, opened once a process."""
    dataset, options = TASKS[name][:2]
    sets = evaluation_sets(dataset, **options)
    if name != "videoqa, hard":
        return sets
    from vclip.datasets import msrvtt
    from vclip.samples import minihowto

    hard = {style: minihowto() / dataset / style / HARD for style in sets}
    return {style: (msrvtt.load(hard[style], **options), corpus) for style, (_, corpus) in sets.items()}


def config_hash(config: PretrainConfig) -> str:
    """16 hexadecimal digits for what decides a run's numbers: folders by what they hold, `output` not at all.

    A field at its default is left out, so that a field which the recipe gains leaves old results valid.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(config)}
    values = {name: value for name, value in dataclasses.asdict(config).items() if value != defaults[name]}
    values.pop("output", None)
    for name in ("corpus", "validation"):
        if values.get(name):
            values[name] = corpus_hash(values[name])
    if config.tokenizer != defaults["tokenizer"]:
        values["tokenizer"] = _digest(sorted(Path(config.tokenizer).glob("tokenizer.json")))
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


@lru_cache
def corpus_hash(folder: str) -> str:
    """16 hexadecimal digits for the ids, features and captions of a corpus, wherever it lies."""
    corpus, digest = Corpus.open(folder), hashlib.sha256()
    for i, video_id in enumerate(corpus.video_ids):
        captions = corpus.captions(i)
        digest.update(json.dumps([video_id, captions.text]).encode())
        for array in (corpus.features(i), captions.start, captions.end):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _digest(files: list[Path]) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def run_all(trials: Iterable[Trial], cache: str | Path = "runs/ablations", processes: int | None = None) -> list[dict]:
    """`run_row` of all trials in their order, in as many processes (one a CPU core by default) of one thread each.

    Interrupted and called again it goes on: finished runs are read, one that was stopped goes on from its last epoch.
    An exception of a run ends all of them, and comes out here.
    """
    trials, cache = list(trials), Path(cache)
    cache.mkdir(parents=True, exist_ok=True)
    if not trials:
        return []
    processes = min(processes or os.cpu_count() or 1, len(trials))
    with get_context("spawn").Pool(processes, _start) as pool:
        done = pool.imap(_run, [(trial, cache) for trial in trials])
        return list(tqdm(done, total=len(trials), desc="ablation", unit="run"))


def _run(job: tuple[Trial, Path]) -> dict:
    return run_row(*job)


def _start() -> None:
    """A worker computes on one thread and says nothing: its runs' bars would write over each other.

    An interrupt, which reaches all processes of a notebook, is the first one's to answer: it ends the others.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    torch.set_num_threads(1)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
