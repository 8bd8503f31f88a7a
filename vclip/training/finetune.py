"""Fine-tuning: `finetune` trains a checkpoint on labels, keeps its best epoch and reports how that was chosen."""

import copy
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator

from vclip.data.corpus import Corpus
from vclip.data.storage import write_json
from vclip.datasets._records import D, Dataset, subset
from vclip.encoders.loading import encoder_files
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.videoclip_encoder import VideoCLIP, evaluating
from vclip.tasks.evaluate import HEADLINES, examiner
from vclip.tasks.report import about, coverage, covered
from vclip.training.checkpoint import Run, claim, read_run
from vclip.training.config import FinetuneConfig
from vclip.training.finetune_tasks import TASKS, Task, Windowed
from vclip.training.trainer import ORDER, VALIDATION, Trainer, random_stream, start_accelerator

Given = tuple[Dataset, Corpus | str | Path]
Data = tuple[Dataset, Corpus]


@dataclass(frozen=True, repr=False)
class FinetuneRun(Run):
    """A finished fine-tuning run; printed, it says what was gained and how the checkpoint was chosen.

    `scores[0]` is taken before the first step, `scores[k]` after epoch k. `report` is what report.json holds: how the
    checkpoint was chosen, in words, with the scores before and after. `chosen_on` are the records and features it was
    chosen on, to score other models on.
    """

    report: dict[str, Any]
    chosen_on: Data

    def __repr__(self) -> str:
        report, score = self.report, self.report["chosen_by"]
        untrained = " (its classifier untrained)" if report["task"] == "segmentation" else ""
        before, after = report["before"][score], report["chosen"][score]
        return (
            f"{report['task']}: {score} {before:.4f} before{untrained}, {after:.4f} after epoch {report['epoch']} of "
            f"{report['epochs']}, n = {report['chosen']['n']}\n{report['selection']}\nweights in {self.checkpoint}"
        )


def finetune(
    config: FinetuneConfig,
    dataset: Dataset,
    corpus: Corpus | str | Path,
    validation: Given | None = None,
    on_row: Callable[[dict], None] | None = None,
) -> FinetuneRun:
    """Train a checkpoint on labels, or go on where the run in `config.output` stopped.

    After each epoch the task's score is taken on validation data, and the best epoch is kept. The run's folder holds
    `log.jsonl` (epoch 0 is the score before training), `best/` and `last/` (for `vclip.load`), `report.json`,
    `state.safetensors` and `finetune.json`.

    Args:
        config: settings; its `task` says what is learned.
        dataset: YouCook2 or MSR-VTT (retrieval, videoqa), COIN (segmentation) or CrossTask (localization).
        corpus: the features of the data set's videos, or their folder.
        validation: (records, features) to choose the epoch on; None: `config.held_out` of the training videos.
        on_row: called with each row of the log.

    Returns:
        Losses, scores, the best checkpoint and the report of how it was chosen.

    Raises:
        TypeError: for records that the task cannot learn from.
        ValueError: if `output` is another run's or holds something else, or a video is in both sets.
        RuntimeError: while another process trains in `output`.

    Example:
        >>> import tempfile, vclip
        >>> from vclip.datasets import crosstask
        >>> folder = vclip.minihowto() / "crosstask" / "test"
        >>> with tempfile.TemporaryDirectory() as output:
        ...     config = FinetuneConfig.sample("localization", output=output, epochs=1)
        ...     run = finetune(config, crosstask.load(folder, "train", n_train=8), folder / "features")
        >>> run.report["chosen_by"], len(run.scores)
        ('recall', 2)
    """
    task = TASKS[config.task](config)
    training, chosen_on, words = _split(task, _opened((dataset, corpus)), validation)
    accelerator = start_accelerator(config)
    torch.manual_seed(config.seed)
    model = task.new_model(str(config.checkpoint), dataset)
    if model.config.text == "locked":
        raise ValueError(f"{config.checkpoint} has no text tower: fine-tune a VideoCLIP with one of its own")
    processor = VideoCLIPProcessor.from_pretrained(config.checkpoint, trust_remote_code=False)
    clip = VideoCLIP(model.to(accelerator.device), processor)
    for _, features in (training, chosen_on):
        clip.check(features)
    if isinstance(task, Windowed) and config.window > clip.longest_clip:
        raise ValueError(f"window ({config.window} s) exceeds the longest clip ({clip.longest_clip} s): lower it")
    objective = Labels(task, accelerator, clip, training, chosen_on)
    beside = encoder_files(clip.spec, clip.model.name_or_path) if clip.spec else []
    described = {"training": _described(clip, *training), "chosen_on": _described(clip, *chosen_on)}
    with claim(config, accelerator, "finetune.json", described):
        Trainer(config, accelerator, clip, objective, on_row, validate_first=True, beside=beside).run()
        run = read_run(config.output)
        report = _report(config.task, run.scores, words, training[0], chosen_on[0])
        if accelerator.is_main_process:
            write_json(Path(config.output) / "report.json", report)
    return FinetuneRun(run.losses, run.scores, run.checkpoint, report, (objective.scored, chosen_on[1]))


def _split(task: Task, training: Data, validation: Given | None) -> tuple[Data, Data, tuple[str, str]]:
    """What is trained on, what the checkpoint is chosen on, words for the latter and for what follows from it."""
    coverage(*training)
    task.items(*training)  # refuses records of another kind
    dataset, corpus = training
    dataset = subset(dataset, [dataset[i] for i in covered(dataset, corpus)])
    if validation is not None:
        chosen_on, how = _opened(validation), f"validation data given for it, {validation[0]}"
        rest = ": take scores on videos that had no part in this"
    else:
        videos = len(dataset.video_ids)
        dataset, held = hold_out(dataset, task.config.held_out, task.config.seed, task.traits)
        chosen_on = held, corpus
        how = f"{len(held.video_ids)} of the {videos} training videos, held out and not trained on"
        rest = "; no test data was seen"
    coverage(*chosen_on)
    if both := sorted(set(dataset.video_ids) & set(chosen_on[0].video_ids)):
        raise ValueError(f"video {both[0]!r} and {len(both) - 1} more are in both the training data and `validation`")
    return (dataset, corpus), chosen_on, (how, rest)


def hold_out(
    dataset: D, fraction: float, seed: int, traits: Callable[[Any], tuple[Hashable, Iterable[Hashable]]]
) -> tuple[D, D]:
    """Split records by video: those to train on, and a `fraction` of the videos, drawn by `seed`, that is held out.

    `traits(record)` is a record's stratum (its task, say) and its labels. Strata are held out in proportion, and a
    video stays in training if no other training video shows one of its labels.
    """
    strata: dict[str, Hashable] = {}
    labels: dict[str, set] = defaultdict(set)
    for record in dataset:
        stratum, shown = traits(record)
        strata.setdefault(record.video_id, stratum)
        labels[record.video_id].update(shown)
    trained = Counter(label for shown in labels.values() for label in shown)
    wanted, held = max(1, round(fraction * len(strata))), set()
    videos = pd.DataFrame({"id": strata.keys(), "stratum": strata.values()})
    videos = videos.iloc[np.random.default_rng(seed).permutation(len(videos))]
    of_stratum = videos.groupby("stratum", dropna=False)["id"]
    # by the place in its stratum, so that the first videos hold about the same fraction of each
    place = (of_stratum.cumcount() + 0.5) / of_stratum.transform("size")
    for video_id in videos["id"][place.sort_values(kind="stable").index]:
        if len(held) < wanted and len(strata) > 1 and all(trained[label] > 1 for label in labels[video_id]):
            held.add(video_id)
            trained.subtract(labels[video_id])
    if not held:
        raise ValueError(f"{dataset}: no video can be held out, for each has labels of its own: pass `validation`")
    kept = [record for record in dataset if record.video_id not in held]
    others = [record for record in dataset if record.video_id in held]
    return subset(dataset, kept), subset(dataset, others, f"{dataset.split}, held out")


def _opened(data: Given) -> Data:
    dataset, corpus = data
    return dataset, corpus if isinstance(corpus, Corpus) else Corpus.open(corpus)


def _described(clip: VideoCLIP, dataset: Dataset, corpus: Corpus) -> dict[str, str]:
    """The weights to start from, the records and their features, by hash."""
    found = about(clip, dataset, corpus, 0, {})
    hashes = {name: found[name]["hash"] for name in ("data", "features")}
    return {"weights": found["model"]["weights"], "records": repr(dataset)} | hashes


def _report(task: str, scores: list[dict], words: tuple[str, str], training: Dataset, chosen_on: Dataset) -> dict:
    score, before, epochs, (how, rest) = HEADLINES[task], scores[0], scores[1:], words
    best = max(epochs, key=lambda row: row[score])
    selection = (
        f"The checkpoint is the one of {len(epochs)} epochs with the best {score} on {how}. Being the best of "
        f"{len(epochs)}, that number is optimistic{rest}."
        if len(epochs) > 1
        else f"The checkpoint is that of the only epoch; {score} was taken on {how}."
    )
    return {
        "task": task, "chosen_by": score, "selection": selection, "epoch": best["epoch"], "epochs": len(epochs),
        "before": before, "chosen": best,
        "training": {"data": repr(training), "videos": training.video_ids},
        "chosen_on": {"data": repr(chosen_on), "videos": chosen_on.video_ids},
    }  # fmt: skip


class Labels:
    """The objective of `finetune`; a batch holds positions in the task's items."""

    def __init__(self, task: Task, accelerator: Accelerator, clip: VideoCLIP, training: Data, chosen_on: Data):
        self.task, self.loss, self.config, self.accelerator, self.clip = task, task.loss, task.config, accelerator, clip
        self.items, self.validation_items = task.items(*training), task.items(*chosen_on)
        batches = -(-len(self.items) * self.config.repeats // self.config.batch_size)
        if batches < accelerator.num_processes or not self.validation_items:
            made = f"{batches} batches of {self.config.batch_size} for {accelerator.num_processes} processes"
            items = f"{len(self.validation_items)} items to validate on"
            raise ValueError(f"{training[0]} makes {made}, {chosen_on[0]} {items}: lower batch_size or add data")
        self.corpus, self.validation_corpus = training[1], chosen_on[1]
        self.scored = copy.copy(task.scored(*chosen_on, random_stream(self.config.seed, 0, 0, VALIDATION)))
        self.scored.tasks = (self.config.task,)

    def batches(self, epoch: int, write: Callable[[dict], None]) -> list[np.ndarray]:
        """Every item `repeats` times, each time in a new random order; the last batch may be smaller."""
        rng = random_stream(self.config.seed, epoch, 0, ORDER)
        order = np.concatenate([rng.permutation(len(self.items)) for _ in range(self.config.repeats)])
        return np.split(order, range(self.config.batch_size, len(order), self.config.batch_size))

    def inputs(self, batch: np.ndarray, rng: np.random.Generator) -> tuple:
        return self.task.inputs(self.clip, self.corpus, [self.items[i] for i in batch], rng)

    def validate(self) -> tuple[dict, float] | None:
        """The loss, a mean over batches, and the task's scores on the validation videos; the headline chooses."""
        losses, rng = [], random_stream(self.config.seed, 1, 0, VALIDATION)
        with evaluating(self.clip.model), self.accelerator.autocast():
            for first in range(0, len(self.validation_items), self.config.batch_size):
                items = self.validation_items[first : first + self.config.batch_size]
                inputs = self.task.inputs(self.clip, self.validation_corpus, items, rng)
                losses.append(float(self.loss(self.clip.model, *inputs)))
            examine = examiner(self.config.task)
            found = examine(self.clip, self.scored, self.validation_corpus, **self.task.options())
        row = {"validation_loss": float(np.mean(losses)), **found["scores"], "n": found["n"]}
        return row, -row[HEADLINES[self.config.task]]
