"""One way to run every task: a model, a data set and its features in, a report out."""

import importlib
from pathlib import Path

from vclip.corpus import Corpus
from vclip.datasets._records import Dataset
from vclip.model import VideoCLIPModel
from vclip.names import refuse_unknown
from vclip.processing import VideoCLIPProcessor
from vclip.tasks.report import Report, about, coverage

TASKS = ("retrieval", "paragraph_retrieval", "moment_retrieval", "videoqa", "segmentation", "localization")


def evaluate(
    model: VideoCLIPModel,
    processor: VideoCLIPProcessor,
    dataset: Dataset,
    features: Corpus | str | Path,
    task: str | None = None,
    seed: int = 0,
    **options,
) -> Report:
    """Score `model` on `dataset` without labels, beside what knowing nothing scores.

    `features` is a corpus or its folder; records whose video it lacks are left out and counted in the report's
    coverage. `task` is one of `dataset.tasks` (the first by default), `options` are keyword arguments of
    `examine` in the module `vclip.tasks.<task>`. `seed` drives the random floors.
    Raises TypeError for a task that the data set does not serve, ValueError if no video has features or the corpus was
    made by another encoder than the model's.
    """
    task = task or dataset.tasks[0]
    refuse_unknown([task], dataset.tasks, f"task of {dataset.name}")
    corpus = features if isinstance(features, Corpus) else Corpus.open(features)
    corpus.check(model.config)
    covered = coverage(dataset, corpus)
    examine = importlib.import_module(f"vclip.tasks.{task}").examine
    found = examine(model, processor, dataset, corpus, seed=seed, **options)
    return Report(task, coverage=covered, about=about(model, dataset, corpus, seed, options), **found)
