"""What fine-tuning changed, example by example: notebook 08's verdicts, rankings, steps and time lines."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import lecture_plots
import numpy as np
import pandas as pd
from comparison import Difference
from matplotlib.figure import Figure
from shipped import picture

from vclip import Corpus, Scrubber, plots
from vclip.datasets import Dataset
from vclip.models.dual_encoder import DualEncoder
from vclip.tasks import localization, retrieval
from vclip.tasks.report import Report


class Step(NamedTuple):
    """A true step of a video, and what each of two models says most often during it."""

    video_id: str
    label: int
    start: float
    end: float
    said: tuple[int, int]


def beside(
    reports: dict[tuple[str, str], list[Report]], differences: dict[tuple[str, str], Difference]
) -> pd.DataFrame:
    """A row a task and set: both models' headline score and the best baseline's, the difference, all in per cent."""
    rows = {}
    for key, found in differences.items():
        known = {who: of[found.score] for who, of in reports[key][1].baselines.items() if found.score in of}
        best = max(known, key=known.get)
        rows[key] = {
            "score": found.score, "zero-shot": 100 * found.before, "fine-tuned": 100 * found.after,
            "difference": 100 * found.difference, "low": 100 * found.low, "high": 100 * found.high,
            "best baseline": 100 * known[best], "which": best, "n": f"{found.n} {found.unit}", "videos": found.videos,
        }  # fmt: skip
    return pd.DataFrame(rows).T.rename_axis(["task", "set"])


def epochs(runs: dict[str, Any], differences: dict[tuple[str, str], Difference]) -> pd.DataFrame:
    """The validation score of each epoch minus that of zero-shot, for `ablations.pictures.gains`."""
    points = []
    for task, run in runs.items():
        score = run.report["chosen_by"]
        for row in run.scores:
            gain = row[score] - differences[task, "validation"].before
            point = {"style": "validation", "task": f"{task}, {score}", "epoch": row["epoch"]}
            points.append(point | {"mean": gain, "low": gain, "high": gain})
    return pd.DataFrame(points)


def verdicts(report: Report) -> np.ndarray:
    """Whether each example is right, by what it is: a text, a question, a second or a step."""
    examples = report.examples
    if report.task == "retrieval":
        return (examples["rank"] == 1).to_numpy()
    if report.task == "videoqa":
        return (examples["prediction"] == examples["answer"]).to_numpy()
    if report.task == "segmentation":
        return np.concatenate([np.equal(p, t) for p, t in zip(examples["predicted"], examples["truth"], strict=True)])
    return np.array(
        [
            any(step == s and int(start) <= second < np.ceil(end) for s, start, end in true)
            for assigned, true in zip(examples["assigned"], examples["segments"], strict=True)
            for step, second in enumerate(assigned)
            if step in {s for s, _, _ in true}
        ]
    )


def changes(reports: dict[tuple[str, str], list[Report]]) -> pd.DataFrame:
    """A row a task and set: examples that one of two models has right and the other wrong, and the rest."""
    changed = {}
    for key, pair in reports.items():
        before, after = map(verdicts, pair)
        groups = {
            "fixed": ~before & after,
            "broken": before & ~after,
            "right in both": before & after,
            "wrong in both": ~before & ~after,
        }
        changed[key] = {name: int(group.sum()) for name, group in groups.items()}
    return pd.DataFrame(changed).T.rename_axis(["task", "set"])


def fixed(pair: Sequence[Report], n: int, seed: int) -> np.ndarray:
    """At most `n` examples that the second model has right and the first wrong, drawn by chance."""
    before, after = map(verdicts, pair)
    which = np.flatnonzero(~before & after)
    return np.random.default_rng(seed).choice(which, min(n, len(which)), replace=False)


def rankings(
    clips: dict[str, DualEncoder], records: Dataset, corpus: Corpus, texts: np.ndarray, shown: dict, k: int = 3
) -> Figure:
    """The k clips that come first for each text, a row a model, the right one framed."""
    similarities = {name: retrieval.text_to_video(clip, records, corpus)[0] for name, clip in clips.items()}
    queries, images, right = [], [], []
    for text in texts:
        for name, similarity in similarities.items():
            order = np.argsort(-similarity[text])[:k]
            queries.append(f"{name}: {records[text].sentence}")
            images.append([picture(shown, records[j]) for j in order])
            right.append(list(order).index(text) if text in order else None)
    return lecture_plots.ranking(queries, images, right)


def labelled(pair: Sequence[Report], texts: Sequence[str], shown: dict) -> Scrubber:
    """The video whose labels gained most: the truth above what each model says, and how sure the second one is."""
    zero, fine = pair
    gained = int((fine.examples["frame_accuracy"] - zero.examples["frame_accuracy"]).argmax())
    old, new = (report.examples.iloc[gained] for report in pair)
    labels = {"truth": old["truth"], "zero-shot": old["predicted"], "fine-tuned": new["predicted"]}
    return Scrubber(
        len(new["truth"]),
        shown={second: image for (video, second), image in shown.items() if video == new["video_id"]},
        curves={"best step minus Outside (logits), fine-tuned": np.array(new["best"])},
        bands=plots.label_bands(texts, **{name: np.array(of) for name, of in labels.items()}),
        threshold=fine.details["threshold"],
    )


def newly_labelled(pair: Sequence[Report], records: Dataset) -> list[Step]:
    """Steps of which the first model labels less than half rightly and the second more."""
    zero, fine = pair
    steps = []
    for video, old, new in zip(records, zero.examples.itertuples(), fine.examples.itertuples(), strict=True):
        for segment in video.segments:
            span = slice(int(segment.start), int(np.ceil(segment.end)))
            said = [np.array(row.predicted)[span] for row in (old, new)]
            if np.mean(said[0] == segment.label) < 0.5 < np.mean(said[1] == segment.label):
                first, second = (int(np.bincount(s).argmax()) for s in said)
                steps.append(Step(video.video_id, segment.label, segment.start, segment.end, (first, second)))
    return steps


def steps_in_time(
    clip: DualEncoder, report: Report, at: int, records: Dataset, corpus: Corpus, sigmoid: bool
) -> Figure:
    """The heat map of the video of example `at`: each step's own probability, or a softmax over a second's steps."""
    row = report.examples.iloc[at]
    record = next(record for record in records if record.video_id == row["video_id"])
    rows = corpus.features(corpus.index(record.video_id))
    logits = localization.step_logits(clip, [rows], [record.steps])[0]
    log_p = -np.logaddexp(0, -logits) if sigmoid else logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return lecture_plots.step_map(log_p, row["assigned"], row["segments"], record.steps)
