"""`finetune`: data and a checkpoint in, the best checkpoint and a report of how it was chosen out."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from vclip.corpus import Corpus
from vclip.datasets import Dataset
from vclip.finetuning.config import RELEASED, FinetuneConfig
from vclip.finetuning.objective import LOSS, Labels, chosen_by
from vclip.finetuning.split import hold_out, subset
from vclip.model import VideoCLIPModel
from vclip.names import refuse_unknown
from vclip.processing import VideoCLIPProcessor
from vclip.runs import Run, check_tokenizer, claim, fetched, read_run, start_accelerator
from vclip.storage import write_json
from vclip.tasks.report import about, coverage, covered
from vclip.trainer import Trainer

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
    module = importlib.import_module(f"vclip.finetuning.{task}")
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
