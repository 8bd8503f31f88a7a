"""`finetune`: data and a checkpoint in, the best checkpoint and a report of how it was chosen out."""

import copy
import importlib
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from vclip.data.corpus import Corpus
from vclip.data.storage import write_json
from vclip.data.text import refuse_unknown
from vclip.datasets._records import D, Dataset, subset
from vclip.models.embedding import evaluating
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.videoclip import VideoCLIPModel
from vclip.tasks.comparison import HEADLINES
from vclip.tasks.evaluate import examiner
from vclip.tasks.report import about, coverage, covered
from vclip.training.config import BEST_BY_LOSS, RELEASED, FinetuneConfig
from vclip.training.runs import Run, check_tokenizer, claim, fetched, read_run, start_accelerator
from vclip.training.trainer import RETRIEVAL, VALIDATION, Trainer, random_stream

CONFIG, REPORT = "finetune.json", "report.json"
WINDOWED = ("segmentation", "localization")
Data = tuple[Dataset, Corpus | str | Path]


@dataclass(frozen=True, repr=False)
class FinetuneRun(Run):
    """A finished run: `scores[0]` are those before the first update, `scores[k]` of epoch k.

    Before the first update a classifier (segmentation) is untrained, so that score is not zero-shot's.
    `report` is what report.json holds: how the checkpoint was chosen, in words, with the scores before and after.
    `chosen_on`: the records and features that it was chosen on, to score other models on.
    """

    report: dict[str, Any]
    chosen_on: tuple[Dataset, Corpus]

    def __repr__(self) -> str:
        report, score = self.report, self.report["chosen_by"]
        untrained = " (its classifier untrained)" if report["task"] == "segmentation" else ""
        before, after = report["before"][score], report["chosen"][score]
        return (
            f"{report['task']}: {score} {before:.4f} before{untrained}, {after:.4f} after epoch {report['epoch']} of "
            f"{report['epochs']}, n = {report['chosen']['n']}\n{report['selection']}\nweights in {self.checkpoint}"
        )


def finetune(
    task: str,
    config: FinetuneConfig,
    dataset: Dataset,
    corpus: Corpus | str | Path,
    validation: Data | None = None,
    test: Data | None = None,
    on_row: Callable[[dict], None] | None = None,
) -> FinetuneRun:
    """Train `config.checkpoint` on the labels of `dataset`, or go on where the run in `config.output` stopped.

    `task` is "retrieval" or "videoqa" (pairs of YouCook2 or MSR-VTT), "segmentation" (COIN) or "localization"
    (CrossTask); `corpus` holds the features of the data set's videos, or is its folder. After each epoch the task's
    score is taken on `validation`, (records, features), or where none is given on `config.held_out` of the training
    videos; the best epoch is kept. With `config.selection` "released" it is taken on `test` data instead, and all of
    `dataset` is trained on.
    Writes into `config.output`: `log.jsonl` (`on_row` sees each row; epoch 0 is the score before training), `best/` and
    `last/` (`from_pretrained` folders with the processor), `report.json`, `state.safetensors`, `finetune.json`.
    Raises TypeError for an unknown task, arguments that are not what is said here or records that it cannot learn from;
    ValueError for fewer than two clips to tell apart, for windows longer than the model reads, if `output` belongs to
    another run, features or tokenizer are not the checkpoint's, `test` is missing or given in vain, a video is in both
    sets, or the loss is no longer finite; OSError if the disk is full, with the last checkpoint whole.
    """
    refuse_unknown([task], RELEASED, "task to fine-tune on")
    if not isinstance(config, FinetuneConfig):
        raise TypeError(f"finetune takes a FinetuneConfig, FinetuneConfig.paper(task) for instance; not {config!r}")
    module = importlib.import_module(f"vclip.training.finetune_{task}")
    training, chosen_on, words = _parts(module, config, (dataset, corpus), validation, test)
    accelerator = start_accelerator(config)
    torch.manual_seed(config.seed)
    model = fetched("checkpoint", config.checkpoint, lambda path: module.new_model(path, dataset))
    processor = fetched("checkpoint", config.checkpoint, VideoCLIPProcessor.from_pretrained)
    check_tokenizer(processor.tokenizer, model, config.checkpoint)
    for _, features in (training, chosen_on):
        features.check(model.config)
    longest = model.config.max_video_tokens
    if task in WINDOWED and config.window > longest:
        raise ValueError(f"the model reads {longest} seconds at a time: window is {config.window}, set it to {longest}")
    if accelerator.is_main_process:
        data = {"training": _described(model, *training), "chosen_on": _described(model, *chosen_on)}
        claim(config, CONFIG, {"task": task} | data)
    accelerator.wait_for_everyone()
    objective = Labels(module, config, accelerator, model.to(accelerator.device), processor, training, chosen_on)
    Trainer(config, accelerator, model, processor, objective, on_row, validate_first=True).run()
    run = read_run(config.output)
    report = _report(task, chosen_by(task, config), run.scores, words, training, chosen_on)
    if accelerator.is_main_process:
        write_json(Path(config.output) / REPORT, report)
    accelerator.wait_for_everyone()
    return FinetuneRun(run.losses, run.scores, run.checkpoint, report, (objective.scored, chosen_on[1]))


def _parts(
    module: ModuleType, config: FinetuneConfig, given: Data, validation: Data | None, test: Data | None
) -> tuple[tuple[Dataset, Corpus], tuple[Dataset, Corpus], tuple[str, str]]:
    """What is trained on, what the checkpoint is chosen on, words for the latter and for what follows from it."""
    training = _opened(given)
    coverage(*training)
    training = subset(training[0], [training[0][i] for i in covered(*training)]), training[1]
    module.items(*training)  # refuses records of another kind
    if config.selection == "released":
        if test is None or validation is not None:
            raise ValueError(
                "selection='released' chooses the checkpoint on test data, as the released recipe does: give `test`, "
                "(records, features), and no `validation`; or leave selection at 'validation'"
            )
        chosen_on, how = _opened(test), f"TEST data, {test[0]}, as the released recipe does"
        rest = ", and so is every score on that test data"
    elif test is not None:
        raise ValueError(
            "`test` is for selection='released' alone: score the finished checkpoint on it with vclip.evaluate"
        )
    elif validation is not None:
        chosen_on, how = _opened(validation), f"validation data given for it, {validation[0]}"
        rest = ": take scores on videos that had no part in this"
    else:
        kept, held = hold_out(training[0], config.held_out, config.seed, module.traits)
        videos = f"{len(held.video_ids)} of the {len(training[0].video_ids)} training videos"
        training, chosen_on, how = (kept, training[1]), (held, training[1]), f"{videos}, held out and not trained on"
        rest = "; no test data was seen"
    if both := sorted(set(training[0].video_ids) & set(chosen_on[0].video_ids)):
        raise ValueError(
            f"video {both[0]!r} and {len(both) - 1} more are in the training data and in those that the checkpoint is "
            "chosen on: leave them out of one"
        )
    return training, chosen_on, (how, rest)


def _opened(data: Data) -> tuple[Dataset, Corpus]:
    if not (isinstance(data, tuple) and len(data) == 2 and isinstance(data[0], Dataset)):
        raise TypeError(f"data are given as a data set and the corpus, or folder, of its features; not as {data!r}")
    dataset, corpus = data
    return dataset, corpus if isinstance(corpus, Corpus) else Corpus.open(corpus)


def _described(model: VideoCLIPModel, dataset: Dataset, corpus: Corpus) -> dict[str, str]:
    """The weights to start from, the records and their features, by hash."""
    found = about(model, dataset, corpus, 0, {})
    hashes = {name: found[name]["hash"] for name in ("data", "features")}
    return {"weights": found["model"]["weights"], "records": repr(dataset)} | hashes


def _report(
    task: str,
    score: str,
    scores: list[dict],
    words: tuple[str, str],
    training: tuple[Dataset, Corpus],
    chosen_on: tuple[Dataset, Corpus],
) -> dict:
    before, epochs, (how, rest) = scores[0], scores[1:], words
    best = (min if score == LOSS else max)(epochs, key=lambda row: row[score])
    selection = (
        f"The checkpoint is the one of {len(epochs)} epochs with the best {score} on {how}. Being the best of "
        f"{len(epochs)}, that number is optimistic{rest}."
        if len(epochs) > 1
        else f"The checkpoint is that of the only epoch; {score} was taken on {how}."
    )
    return {
        "task": task, "chosen_by": score, "selection": selection, "epoch": best["epoch"], "epochs": len(epochs),
        "before": before, "chosen": best,
        "training": {"data": repr(training[0]), "videos": training[0].video_ids},
        "chosen_on": {"data": repr(chosen_on[0]), "videos": chosen_on[0].video_ids},
    }  # fmt: skip


def hold_out(
    dataset: D, share: float, seed: int, traits: Callable[[object], tuple[Hashable, Iterable[Hashable]]]
) -> tuple[D, D]:
    """The records of the videos to train on and of those held out: `share` of the videos, drawn by `seed`.

    `traits(record)` is the stratum of a record (its task, say) and its labels. Strata are drawn from in proportion, and
    a video stays in training if without it a label would be left that no training video shows.
    All records of a video go the same way. Raises ValueError if no video can be held out.
    """
    strata: dict[str, Hashable] = {}
    labels: dict[str, set] = defaultdict(set)
    for record in dataset:
        stratum, shown = traits(record)
        strata.setdefault(record.video_id, stratum)
        labels[record.video_id].update(shown)
    trained = Counter(label for shown in labels.values() for label in shown)
    wanted, held = max(1, round(share * len(strata))), set()
    for video_id in _in_proportion(strata, np.random.default_rng(seed)):
        if len(held) < wanted and len(strata) > 1 and all(trained[label] > 1 for label in labels[video_id]):
            held.add(video_id)
            trained.subtract(labels[video_id])
    if not held:
        raise ValueError(
            f"of {dataset} no video can be held out, for each has a label that no other shows: give `validation`"
        )
    kept = [record for record in dataset if record.video_id not in held]
    others = [record for record in dataset if record.video_id in held]
    return subset(dataset, kept), subset(dataset, others, f"{dataset.split}, held out")


def _in_proportion(strata: dict[str, Hashable], rng: np.random.Generator) -> list[str]:
    """All videos in an order whose every beginning has of each stratum about the same share."""
    videos = list(strata)
    drawn = [videos[i] for i in rng.permutation(len(videos))]
    size, place = Counter(strata.values()), Counter()
    key = {}
    for video_id in drawn:
        stratum = strata[video_id]
        key[video_id] = (place[stratum] + 0.5) / size[stratum]
        place[stratum] += 1
    return sorted(drawn, key=key.__getitem__)


CONTRASTED = ("retrieval", "videoqa")
LOSS = "validation_loss"
ORDER = RETRIEVAL  # the stream that batches are drawn from, as in pre-training


class TaskLoss(nn.Module):
    """A task's `loss` as a module."""

    def __init__(self, model: VideoCLIPModel, loss: Callable[..., Tensor]):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.loss(self.model, *inputs)


class Labels:
    """The objective of `finetune`; a batch holds positions in the task's `items`.

    `task` is a module of this package with the functions `new_model`, `items`, `inputs`, `loss`, `scored`,
    `options` and `traits`; `vclip.tasks` has the module of the same name, which scores `scored` with `options`.
    Raises ValueError if nothing can be trained on or validated on.
    """

    def __init__(
        self,
        task: ModuleType,
        config: FinetuneConfig,
        accelerator: Accelerator,
        model: VideoCLIPModel,
        processor: VideoCLIPProcessor,
        training: tuple[Dataset, Corpus],
        validation: tuple[Dataset, Corpus],
    ):
        self.task, self.config, self.accelerator = task, config, accelerator
        name = task.__name__.rpartition(".finetune_")[2]
        self.model, self.processor = model, processor
        self.loss: nn.Module = TaskLoss(model, task.loss)
        self.items, self.corpus = task.items(*training), training[1]
        self.validation_items, self.validation_corpus = task.items(*validation), validation[1]
        for items, (dataset, corpus) in ((self.items, training), (self.validation_items, validation)):
            if not items:
                raise ValueError(f"{dataset} has nothing to use: no annotated video of it is in {corpus}")
        if name in CONTRASTED and min(config.batch_size, len(self.items), len(self.validation_items)) < 2:
            raise ValueError(
                f"{name} tells clips from one another, so a batch and the validation data need two at least; "
                f"batch_size is {config.batch_size}, and there are {len(self.items)} clips to train on and "
                f"{len(self.validation_items)} for validation"
            )
        if accelerator.num_processes > -(-len(self.items) * config.repeats // config.batch_size):
            raise ValueError(
                f"{len(self.items)} examples make fewer batches than the {accelerator.num_processes} processes: "
                f"lower batch_size ({config.batch_size})"
            )
        self.scored = copy.copy(task.scored(*validation, config, random_stream(config.seed, 0, 0, VALIDATION)))
        self.scored.tasks = (name,)
        self.chosen_by = chosen_by(name, config)
        self.examine = examiner(name)

    def batches(self, epoch: int, write: Callable[[dict], None]) -> list[np.ndarray]:
        """Every example `repeats` times, each time in a new random order; the last batch may be smaller."""
        rng = random_stream(self.config.seed, epoch, 0, ORDER)
        order = np.concatenate([rng.permutation(len(self.items)) for _ in range(self.config.repeats)])
        return _in_batches(order, self.config.batch_size)

    def inputs(self, batch: np.ndarray, rng: np.random.Generator) -> tuple:
        """The task's, for the examples at these positions."""
        items = [self.items[i] for i in batch]
        return self.task.inputs(self.model, self.processor, self.corpus, items, self.config, rng)

    def validate(self) -> tuple[dict, float] | None:
        """The loss, a mean over batches, and the task's scores on the validation videos; `chosen_by` chooses."""
        losses, rng = [], random_stream(self.config.seed, 1, 0, VALIDATION)
        with evaluating(self.model), self.accelerator.autocast():
            for batch in _in_batches(np.arange(len(self.validation_items)), self.config.batch_size):
                items = [self.validation_items[i] for i in batch]
                inputs = self.task.inputs(self.model, self.processor, self.validation_corpus, items, self.config, rng)
                losses.append(float(self.task.loss(self.model, *inputs)))
            found = self.examine(
                self.model, self.processor, self.scored, self.validation_corpus, **self.task.options(self.config)
            )
        row = {LOSS: float(np.mean(losses)), **found["scores"], "n": found["n"]}
        return row, row[self.chosen_by] if self.chosen_by == LOSS else -row[self.chosen_by]


def chosen_by(task: str, config: FinetuneConfig) -> str:
    """What the best epoch is best by: the task's headline score, or the loss where the released recipe goes by that."""
    return LOSS if config.selection == "released" and task in BEST_BY_LOSS else HEADLINES[task]


def _in_batches(order: np.ndarray, size: int) -> list[np.ndarray]:
    return [order[first : first + size].astype(np.int64) for first in range(0, len(order), size)]
