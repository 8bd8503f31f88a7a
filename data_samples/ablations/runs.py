"""Runs of the ablation: trained, scored on all tasks, cached by what decides their numbers, spread over processes."""

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
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from importlib.metadata import version
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock
from shipped import STYLES, evaluation_sets, shown_classes
from tqdm.auto import tqdm
from within import r1_within

from ablations.rows import Scored, Trial
from vclip.data.corpus import Corpus
from vclip.data.storage import write_json
from vclip.training.config import PretrainConfig

if TYPE_CHECKING:
    from vclip.models.dual_encoder import DualEncoder
    from vclip.training.checkpoint import Run


# task's name here -> data set, options of its reader, task, options of the task, {score: its baseline}
SCORED = {
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
    """Train and score one trial, or read it from the cache.

    A run that was stopped goes on from its last epoch; its folder is removed once it is scored. Two processes that want
    the same run take turns.

    Args:
        trial: what to run.
        cache: folder of results, each `<trial_key>.json`.

    Returns:
        What the file holds: the trial's row, seed, data and setting, `config` (the key), `scores[style][task][score]` =
        (value, baseline, n), `steps` of the optimizer, `mass_on_other_videos` as the last epoch of several began (None
        for MIL-NCE, whose loss has no such softmax), versions, the machine, and the seconds that training and scoring
        took, those before an interruption too.

    Raises:
        ValueError: the file in the cache is damaged; names it.

    Example:
        >>> run = run_row(Trial("full", seed=0), "runs/ablations")  # doctest: +SKIP
    """
    cache, key = Path(cache), trial_key(trial)
    file, lock = cache / f"{key}.json", cache / f"{key}.lock"
    if not file.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(lock):
            if not file.is_file():
                write_json(file, _train_and_score(trial, key, cache / key))
            shutil.rmtree(cache / key, ignore_errors=True)
            lock.unlink(missing_ok=True)
    try:
        return json.loads(file.read_text(encoding="utf-8")) | _labels(trial)
    except ValueError as error:
        raise ValueError(f"{file} is not a finished run ({error}): remove it to make it again") from None


def _labels(trial: Trial) -> dict:
    """What the key leaves open: two rows or settings may be the same run."""
    return {"row": trial.row, "setting": trial.setting, "data": trial.data}


def _train_and_score(trial: Trial, key: str, folder: Path) -> dict:
    import torch

    from vclip.models.loading import load

    run, training, mass = _train(trial.config(folder))
    begin = time.perf_counter()
    clip, scored = load(run.checkpoint), trial.to_score()
    gpu = torch.cuda.is_available()
    result = {
        **_labels(trial), "seed": trial.seed, "config": key,
        "scores": score_tasks(clip) if scored is None else {"test": {scored.task: score_set(clip, scored)}},
        "steps": len(run.losses), "last_loss": float(np.mean(run.losses[-20:])),
        "mass_on_other_videos": mass,
        "seconds": {"training": training, "scoring": time.perf_counter() - begin},
        "versions": {name: version(name) for name in ("vclip", "torch", "transformers", "numpy")}
        | {"python": platform.python_version()},
        "machine": torch.cuda.get_device_name() if gpu else f"{os.cpu_count()} CPU cores, one thread a run",
    }  # fmt: skip
    return json.loads(json.dumps(result), parse_float=lambda number: round(float(number), 6))


def _train(config: PretrainConfig) -> "tuple[Run, float, float | None]":
    """Train, or resume, a run: its seconds, earlier stretches up to their last checkpoint counted, and its mass."""
    from ablations.mass import mass_on_other_videos
    from vclip.models.loading import open_videoclip
    from vclip.training.pretrain import pretrain

    clock, epoch, begin = Path(config.output) / "seconds.json", 0, time.perf_counter()
    known = json.loads(clock.read_text(encoding="utf-8")) if clock.is_file() else {}
    before, mass, last = known.get("training", 0.0), known.get("mass"), Path(config.output) / "last"

    def on_row(row: dict) -> None:
        nonlocal epoch, mass
        if row["epoch"] > epoch:  # the epoch before has just been saved
            epoch = row["epoch"]
            if epoch == config.epochs and config.sampler != "mil_nce" and last.is_dir():
                mass = mass_on_other_videos(open_videoclip(str(last)), config)
            write_json(clock, {"training": before + time.perf_counter() - begin, "mass": mass})

    run = pretrain(config, on_row)
    return run, before + time.perf_counter() - begin, mass


def score_tasks(clip: "DualEncoder") -> dict:
    """{style: {task: {score: (value, baseline, n)}}} on MiniHowTo's sets."""
    from vclip.tasks.evaluate import evaluate

    scores: dict = {style: {} for style in STYLES}
    for name, (_, _, task, options, wanted) in SCORED.items():
        for style, (dataset, corpus) in _sets(name).items():
            report = evaluate(clip, dataset, corpus, task, **options)
            found = {
                score: (report.scores[score], report.baselines[of][score], report.n) for score, of in wanted.items()
            }
            scores[style][name] = found
            if task == "retrieval":
                scores[style][name] |= _within(clip, dataset, corpus, shown_classes())
    return scores


def score_set(clip: "DualEncoder", scored: Scored) -> dict:
    """{score: (value, best baseline or None, n)} on another data set, and R@1 among the clips of a text's recipe."""
    from vclip.tasks.evaluate import evaluate

    dataset, corpus = _open(scored)
    report = evaluate(clip, dataset, corpus, scored.task)
    found = {}
    for score, value in report.scores.items():
        known = [values[score] for values in report.baselines.values() if score in values]
        best = min if score == "median_rank" else max
        found[score] = (value, best(known) if known else None, report.n)
    return found | (_within(clip, dataset, corpus) if scored.task == "retrieval" else {})


def _within(clip: "DualEncoder", dataset, corpus: Corpus, of: dict | None = None) -> dict:
    found = r1_within(clip, dataset, corpus, of).drop("all")
    return {f"r1, same {name}": (row["r1"], row["chance"], int(row["n"])) for name, row in found.iterrows() if row["n"]}


def _open(scored: Scored):
    sets = evaluation_sets(scored.dataset, scored.annotations, scored.features, **scored.options)
    return sets[scored.dataset]


@lru_cache
def _sets(name: str) -> dict:
    """Test sets of a task, opened once a process."""
    dataset, options = SCORED[name][:2]
    sets = evaluation_sets(dataset, **options)
    if name != "videoqa, hard":
        return sets
    from vclip.datasets import msrvtt
    from vclip.datasets.minihowto import minihowto

    hard = {style: minihowto() / dataset / style / HARD for style in sets}
    return {style: (msrvtt.load(hard[style], **options), corpus) for style, (_, corpus) in sets.items()}


def trial_key(trial: Trial) -> str:
    """Hash of all that decides the numbers of a run: every field of its config, and what is scored.

    Corpora, tokenizer and BERT count by the content of their folders. `output` and library versions do not count.

    Args:
        trial: the run.

    Returns:
        16 hexadecimal digits.

    Example:
        >>> trial_key(Trial("full", seed=0)) in {run["config"] for run in read_runs()}  # doctest: +SKIP
        True
    """
    values = dataclasses.asdict(trial.config()) | {"scored": _scored_hash(trial.to_score())}
    # the fields that stored runs have: these two are at their defaults, and one more is counted
    for name, default in (("text", "free"), ("held_out", 0)):
        if values[name] == default:
            del values[name]
    values["gather_negatives"] = False
    del values["output"]
    for name in ("corpus", "validation"):
        values[name] = values[name] and corpus_hash(values[name])
    for name in ("tokenizer", "bert"):
        values[name] = values[name] and _digest(values[name])
    return _hash(json.dumps(values, sort_keys=True).encode())


@lru_cache
def corpus_hash(folder: str) -> str:
    """Hash of the ids, features and captions of a corpus."""
    return _corpus_hash(Corpus.open(folder))


def _corpus_hash(corpus: Corpus) -> str:
    digest = hashlib.sha256()
    for i, video_id in enumerate(corpus.video_ids):
        captions = corpus.captions(i)
        digest.update(json.dumps([video_id, captions.text]).encode())
        for array in (corpus.features(i), captions.start, captions.end):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def _scored_hash(scored: Scored | None) -> str:
    """Hash of the tasks with their options, and of the records and features of their test sets."""
    if scored is None:
        return _minihowto_hash()
    dataset, corpus = _open(scored)
    return _hash(repr((scored.task, dataset.records, corpus_hash(str(corpus.path)))).encode())


@lru_cache
def _minihowto_hash() -> str:
    sets = {name: _sets(name) for name in SCORED}
    parts = [
        (style, dataset.records, _corpus_hash(corpus))
        for of in sets.values()
        for style, (dataset, corpus) in of.items()
    ]
    return _hash(repr((SCORED, parts)).encode())


def _digest(source: str) -> str:
    """Hash of the files of a folder; an id of the hub stays as it is."""
    files = sorted(file for file in Path(source).rglob("*") if file.is_file())
    return _hash(b"".join(file.name.encode() + file.read_bytes() for file in files)) if files else source


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def run_all(trials: Iterable[Trial], cache: str | Path = "runs/ablations", processes: int | None = None) -> list[dict]:
    """Run trials in several processes of one thread each.

    Interrupted and called again, it goes on: finished runs are read, a stopped one resumes at its last epoch. An
    exception of a run ends all others and is raised here. The processes import the main module anew: a script must call
    this below `if __name__ == "__main__":`.

    Args:
        trials: what to run.
        cache: as in `run_row`.
        processes: how many; one a CPU core by default.

    Returns:
        What `run_row` returns, in the order of `trials`.

    Raises:
        RuntimeError: a process died; names the runs that are left.

    Example:
        >>> run_all([Trial("full", seed) for seed in range(5)])  # doctest: +SKIP
    """
    trials = list(trials)
    keys = [trial_key(trial) for trial in trials]
    left = dict(zip(keys, trials, strict=True))
    if not left:
        return []
    processes = min(processes or os.cpu_count() or 1, len(left))
    others = active_children()
    with ProcessPoolExecutor(processes, get_context("spawn"), _start) as pool:
        jobs = {pool.submit(run_row, trial, cache): key for key, trial in left.items()}
        done: dict[str, dict] = {}
        try:
            for job in tqdm(as_completed(jobs), total=len(jobs), desc="ablation", unit="run"):
                done[jobs[job]] = job.result()
        except BrokenProcessPool:
            open_ = [f"{trial.row} (seed {trial.seed})" for key, trial in left.items() if key not in done]
            names = ", ".join(open_[:5]) + (f" and {len(open_) - 5} more" if len(open_) > 5 else "")
            raise RuntimeError(
                f"a process died during its run; left are {names}. Call again to go on; if no run ever starts, the "
                'script lacks `if __name__ == "__main__":`'
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(active_children()).difference(others):
                process.terminate()
            raise
    return [done[key] | _labels(trial) for key, trial in zip(keys, trials, strict=True)]


def _start() -> None:
    """Set up a worker: one thread, no output (progress bars would overwrite each other).

    An interrupt reaches all processes of a notebook; the first one handles it and ends the others.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    torch.set_num_threads(1)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
