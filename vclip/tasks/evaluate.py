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

# the score that says most about each task; for segmentation not frame accuracy, which "all Outside" mostly earns
HEADLINES = {"retrieval": "r1", "videoqa": "accuracy", "segmentation": "f1_25", "localization": "recall"}


def evaluate(
    clip: DualEncoder,
    dataset: Dataset,
    corpus: Corpus | str | Path,
    task: str | None = None,
    seed: int = 0,
    **options,
) -> Report:
    """Score a dual encoder on a data set: a Report of scores beside trivial baselines, with every example.

    Args:
        clip: the model, from `vclip.load`.
        dataset: records of one split, from `vclip.datasets`.
        corpus: features of the data set's videos, or the folder. Records whose video it lacks are left out and counted
            in the report's coverage.
        task: one of `dataset.tasks`, the first by default.
        seed: for baselines that are drawn.
        options: keyword arguments of the task's `examine`, such as `vclip.tasks.segmentation.examine`'s `rule`; the
            report records them.

    Raises:
        TypeError: if no task scores such records, or an option is unknown.
        ValueError: if no video has features, or the features are not the model's.

    Example:
        >>> import vclip
        >>> from vclip.datasets import youcook2
        >>> folder = vclip.minihowto()
        >>> report = evaluate(vclip.load(folder / "checkpoint"), youcook2.load(folder / "youcook2/val"), folder / "val")
        >>> report.n, report.baselines["chance"]["r1"] < report.scores["r1"]
        (284, True)
    """
    if not isinstance(clip, DualEncoder) or not getattr(dataset, "tasks", None):
        raise TypeError(f"no task scores the records of {dataset!r:.50} by {type(clip).__name__}: pass clip, dataset")
    task = task or dataset.tasks[0]
    refuse_unknown([task], dataset.tasks, f"task of {dataset.name}")
    examine = examiner(task)
    parameters = inspect.signature(examine).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    drawn = {"seed": seed} if defaults.pop("seed", None) is not None else {}
    refuse_unknown(options, defaults, f"option of {task}")
    corpus = corpus if isinstance(corpus, Corpus) else Corpus.open(corpus)
    clip.check(corpus)
    counted = coverage(dataset, corpus)
    found = examine(clip, dataset, corpus, **drawn, **options)
    return Report(task, coverage=counted, about=about(clip, dataset, corpus, seed, defaults | options), **found)


def examiner(task: str) -> Callable[..., dict[str, Any]]:
    """The function that scores a task: `examine` of its module."""
    if task == "paragraph_retrieval":
        return importlib.import_module("vclip.tasks.retrieval").examine_paragraphs
    return importlib.import_module(f"vclip.tasks.{task}").examine
