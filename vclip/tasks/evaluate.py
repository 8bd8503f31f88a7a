"""One way to run every task: a model, a data set and its features in, a report out."""

import importlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vclip.data.corpus import Corpus
from vclip.data.text import refuse_unknown
from vclip.datasets._records import Dataset
from vclip.models.dual_encoder import DualEncoder
from vclip.tasks.report import Report, about, coverage


def evaluate(
    clip: DualEncoder,
    dataset: Dataset,
    features: Corpus | str | Path,
    task: str | None = None,
    seed: int = 0,
    **options,
) -> Report:
    """Score `model` on `dataset` without labels, beside what knowing nothing scores.

    `features` is a corpus or its folder; records whose video it lacks are left out and counted in the report's
    coverage. `task` is one of `dataset.tasks` (the first by default), `options` are keyword arguments of
    `examine` in the module `vclip.tasks.<task>`; the report records them, those not given by their defaults. `seed` is
    for tasks whose `examine` draws (segmentation's baseline of shuffled labels does); the report records it too.
    Raises TypeError for a task that the data set does not serve or an option that the task does not have, ValueError
    if there is no record, no video has features or the corpus was made by another encoder than the model's.
    """
    if not dataset.tasks:
        raise TypeError(f"no task scores the records of {dataset}")
    task = task or dataset.tasks[0]
    refuse_unknown([task], dataset.tasks, f"task of {dataset.name}")
    examine = examiner(task)
    parameters = inspect.signature(examine).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    refuse_unknown(options, defaults, f"option of {task}")
    drawn = {"seed": seed} if "seed" in defaults else {}
    used = {name: value for name, value in defaults.items() if name != "seed"} | options
    corpus = features if isinstance(features, Corpus) else Corpus.open(features)
    clip.check(corpus)
    found_features = coverage(dataset, corpus)
    found = examine(clip, dataset, corpus, **drawn, **options)
    return Report(task, coverage=found_features, about=about(clip, dataset, corpus, seed, used), **found)


def examiner(task: str) -> Callable[..., dict[str, Any]]:
    """The function that scores a task: `examine` of its module."""
    if task == "paragraph_retrieval":
        return importlib.import_module("vclip.tasks.retrieval").examine_paragraphs
    return importlib.import_module(f"vclip.tasks.{task}").examine
