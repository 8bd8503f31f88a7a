"""Four tasks made of a few videos' steps, and their scores as a table and a picture: notebook 12's."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from comparison import compare
from matplotlib.figure import Figure

from vclip import Captions, Corpus, plots
from vclip.datasets import Dataset, coin, crosstask, msrvtt
from vclip.tasks.evaluate import HEADLINES
from vclip.tasks.report import Report

SHOWN = {"r1": "R@1", "f1_25": "segmental F1@25", "recall": "recall of the steps that occur"}


def four_tasks(steps: Sequence, texts: Sequence[str], rng: np.random.Generator) -> dict[str, Dataset]:
    """The steps of some videos as the records of each task."""
    questions, labelled, ordered = [], [], []
    for step in steps:
        candidates = [step.sentence, *rng.choice([text for text in texts if text != step.sentence], 4, replace=False)]
        order = rng.permutation(5)
        shuffled = tuple(str(candidates[i]) for i in order)
        questions.append(msrvtt.Question(f"{step.video_id} {step.index}", shuffled, int(np.argmin(order))))
    for video in dict.fromkeys(step.video_id for step in steps):
        own = [step for step in steps if step.video_id == video]
        segments = tuple(coin.Segment(step.start, step.end, 1 + texts.index(step.sentence)) for step in own)
        labelled.append(coin.Video(video, None, None, None, segments))
        names = [step.sentence for step in own]
        for other in rng.choice([text for text in texts if text not in names], 3, replace=False):
            names.insert(int(rng.integers(len(names) + 1)), str(other))
        times = tuple((names.index(step.sentence), float(step.start), float(step.end)) for step in own)
        ordered.append(crosstask.Video(video, "all", "cooking", tuple(names), times))
    name = "MiniHowTo's files"
    sets = {
        "retrieval": Dataset(name, "test", steps, ["retrieval"]),
        "videoqa": Dataset(name, "test", questions, ["videoqa"]),
        "segmentation": coin.COIN("test", labelled, texts),
        "localization": Dataset(name, "test", ordered, ["localization"]),
    }
    sets["segmentation"].name = name
    return sets


def cut(corpus: Corpus, steps: Sequence, folder: Path) -> Corpus:
    """A corpus in which every step is a video of its own: the questions are about clips."""
    if not (folder / "corpus.json").is_file():
        rows = ((corpus.features(corpus.index(step.video_id))[step.start : step.end], step) for step in steps)
        named = ((f"{step.video_id} {step.index}", seconds, Captions([], [], [])) for seconds, step in rows)
        Corpus.create(folder, corpus.spec, named)
    return Corpus.open(folder)


def scores(reports: Mapping[tuple[str, str], Report], models: Sequence[str], seed: int) -> pd.DataFrame:
    """A row a task: each model's headline score in per cent, the best baseline, the first model minus each other."""
    first, *others = models
    rows = {}
    for task in dict.fromkeys(task for task, _ in reports):
        report = reports[task, first]
        score = HEADLINES.get(task, next(iter(report.scores)))
        known = {who: values[score] for who, values in report.baselines.items() if score in values}
        best = max(known, key=known.get)
        row = {name: 100 * reports[task, name].scores[score] for name in models}
        row |= {"best baseline": 100 * known[best], "which": best, "n": f"{report.n} {report.unit}"}
        for other in others if task in HEADLINES else ():
            found = compare(reports[task, other], report, seed=seed)
            row[f"minus {other}"] = f"{100 * found.difference:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"
        rows[task, score] = row
    return pd.DataFrame(rows).T.rename_axis(["task", "score"])


def bars(reports: Mapping[tuple[str, str], Report], models: Sequence[str], named: Sequence[tuple[str, str]]) -> Figure:
    """A panel a task: each model, then every baseline in grey."""
    lines = -(-len(named) // 2)
    figure, panels = plots.panels(lines, 2, (11, 2.7 * lines))
    for axes, (task, score) in zip(panels.flat, named, strict=False):
        report = reports[task, models[0]]
        colours = (plots.VIDEO, plots.TEXT, plots.RIGHT, "#cc79a7", "#56b4e9", "#000000")
        drawn = {name: (reports[task, name].scores[score], colours[i % 6]) for i, name in enumerate(models)}
        drawn |= {who: (of[score], plots.CHANCE) for who, of in report.baselines.items() if score in of}
        lengths, filled = zip(*drawn.values(), strict=True)
        axes.bar_label(
            axes.barh(range(len(drawn)), 100 * np.array(lengths), color=filled), fmt="%.1f", padding=3, fontsize=9
        )
        axes.set(yticks=range(len(drawn)), yticklabels=drawn, xlim=(0, 108), xlabel=f"{SHOWN.get(score, score)} (%)")
        axes.set_title(f"{task}, n = {report.n} {report.unit}", fontsize=10)
        axes.invert_yaxis()
    for axes in panels.flat[len(named) :]:
        axes.axis("off")
    return figure


def by_style(report: Report) -> pd.Series:
    """Per cent right for the clips of each drawing style."""
    rows = report.examples
    right = rows["rank"] == 1 if "rank" in rows else rows["prediction"] == rows["answer"]
    return (100 * right).groupby(rows["video_id"].str.replace(r"\d.*", "", regex=True)).mean()
