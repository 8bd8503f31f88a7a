"""Pre-training: clusters of similar videos, overlapped clips, InfoNCE (paper sections 3 and 4.2).

From a notebook `pretrain(PretrainConfig.sample(output="runs/mine"))`, from a shell
`python -m vclip.pretrain --preset sample --output runs/mine`, in several processes
`accelerate launch -m vclip.pretrain ...`. A run that is started again goes on where it stopped.
"""

import argparse
import ast
import dataclasses
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import get_args

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from vclip.corpus import Corpus
from vclip.launch import start_processes
from vclip.model import VideoCLIPConfig, VideoCLIPModel
from vclip.processing import VideoCLIPProcessor
from vclip.recipe import (
    PretrainConfig,
    exact_alignment,
    first_32_seconds,
    learning_rate,
    mil_nce_clips,
    retrieve_k,
    shared_towers,
    use_cls,
    without_retrieval,
)
from vclip.state import STATE, read_log
from vclip.storage import write_json
from vclip.trainer import Trainer

CONFIG = "pretrain.json"


@dataclass(frozen=True)
class Run:
    """A finished run: a loss an update, a dict of validation scores an epoch, the folder of the best weights."""

    losses: list[float]
    scores: list[dict]
    checkpoint: Path


def pretrain(config: PretrainConfig, on_row: Callable[[dict], None] | None = None) -> Run:
    """Train from `config`, or go on where the run in `config.output` stopped; a finished run is only read.

    Writes into `config.output`: `log.jsonl` (a row an update, an epoch and a retrieval stage; `on_row` sees each),
    `best/` and `last/` (`from_pretrained` folders with the processor), `state.safetensors`, `pretrain.json`.
    Raises ValueError if `output` belongs to another config, if a corpus has too few videos with captions, if its
    features or word pieces are not those the model wants, or if the loss is no longer finite; OSError if the disk
    is full, with the last checkpoint whole.
    """
    output = Path(config.output)
    accelerator = _accelerator(config)
    if accelerator.is_main_process:
        _claim(output, config)
    accelerator.wait_for_everyone()
    tokenizer = _fetched("tokenizer", config.tokenizer, AutoTokenizer.from_pretrained)
    with accelerator.main_process_first():
        training = Corpus.open(config.corpus).tokenize(tokenizer)
        validation = Corpus.open(config.validation).tokenize(tokenizer) if config.validation else None
    torch.manual_seed(config.seed)
    model = new_model(config, training).to(accelerator.device)
    for corpus in (training, validation):
        if corpus is not None:
            corpus.check(model.config)
    _check_tokenizer(tokenizer, model, config.tokenizer)
    limits = {name: getattr(model.config, name) for name in ("max_text_tokens", "max_video_tokens")}
    processor = VideoCLIPProcessor(tokenizer, **limits)
    Trainer(config, accelerator, model, processor, training, validation, on_row).run()
    accelerator.wait_for_everyone()
    return read_run(output)


def read_run(output: str | Path) -> Run:
    """The losses, scores and best checkpoint of a run from its folder."""
    rows = list(read_log(Path(output)))
    losses = [row["loss"] for row in rows if "loss" in row]
    return Run(losses, [row for row in rows if "validation_loss" in row], Path(output) / "best")


def new_model(config: PretrainConfig, corpus: Corpus) -> VideoCLIPModel:
    """The model that a run starts from: `config.bert`'s towers, or from scratch, for the corpus's features."""
    spec = None if corpus.spec is None else dataclasses.asdict(corpus.spec)
    values = {"feature_spec": spec, "video_feature_dim": corpus.dim} | config.model
    if config.bert is not None:
        return _fetched("bert", config.bert, lambda bert: VideoCLIPModel.from_bert(bert, **values))
    return VideoCLIPModel(VideoCLIPConfig(**values))


def _fetched(name: str, value, load: Callable):
    """`load(value)`; an OSError of transformers says which field of the config it is about."""
    try:
        return load(value)
    except OSError as error:
        raise OSError(
            f"{name}={str(value)!r} is neither a folder here nor could it be fetched from the hub: set {name} to a "
            f"folder, or go on where there is a network ({str(error).splitlines()[0]})"
        ) from error


def _check_tokenizer(tokenizer: PreTrainedTokenizerBase, model: VideoCLIPModel, name) -> None:
    if len(tokenizer) > model.config.text_config.vocab_size:
        raise ValueError(
            f"tokenizer {name} has {len(tokenizer)} word pieces, but the model's vocab_size is "
            f"{model.config.text_config.vocab_size}: enlarge it, or take the model's own tokenizer"
        )
    for token in ("cls_token_id", "sep_token_id"):
        theirs, ours = getattr(tokenizer, token), getattr(model.config, token)
        if theirs != ours:
            raise ValueError(
                f"tokenizer {name} has {token} {theirs}, but the model's is {ours}: set {token} in `model`"
            )


def _accelerator(config: PretrainConfig) -> Accelerator:
    precision = "no" if config.precision == "fp32" else config.precision
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != precision:
        # a second run in one notebook may want another precision
        AcceleratorState._reset_state()
    return Accelerator(mixed_precision=precision)


def _claim(output: Path, config: PretrainConfig) -> None:
    """Make `output` this config's own, or refuse if it is another's; more epochs are the same run."""
    output.mkdir(parents=True, exist_ok=True)
    # of a process that was killed while it wrote: our temporary names, and safetensors' own
    for folder in (output, output / "best", output / "last"):
        for unfinished in [*folder.glob(".*.tmp"), *folder.glob(".tmp*")]:
            unfinished.unlink(missing_ok=True)
    wanted = json.loads(json.dumps(dataclasses.asdict(config), default=_plain))
    if (output / CONFIG).exists() and (output / STATE).exists():  # else there is nothing to lose
        there = json.loads((output / CONFIG).read_text(encoding="utf-8"))
        differing = [name for name in wanted if there.get(name) != wanted[name] and name not in ("epochs", "output")]
        if differing:
            raise ValueError(
                f"{output} holds a run with other settings "
                f"({'; '.join(f'{n}: {there.get(n)!r} against {wanted[n]!r}' for n in differing)}): "
                "choose another output, or remove it to start anew"
                + ("; sample()'s total_steps follows from epochs" if "total_steps" in differing else "")
            )
        print(f"{output} holds an earlier start of this run: going on from its last state")
    write_json(output / CONFIG, wanted)


def _plain(value) -> dict:
    """A tower's config object as JSON: the sizes that differ from its class's."""
    if not isinstance(value, PreTrainedConfig):
        raise TypeError(f"`model` holds {value!r}, which no JSON can: give numbers, strings, dicts or tower configs")
    return {name: size for name, size in value.to_diff_dict().items() if name != "transformers_version"}


def main(arguments: list[str] | None = None) -> None:
    """`--preset paper|sample` and any field of PretrainConfig as `--name value`; `--bert ""` is None."""
    parser = argparse.ArgumentParser(
        prog="python -m vclip.pretrain", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--preset", choices=("paper", "sample"), default="paper")
    parser.epilog = f"Fields, each as --name value; an empty bert or validation is None.\n\n{PretrainConfig.__doc__}"
    known, rest = parser.parse_known_args(arguments)
    if len(rest) % 2 or not all(name.startswith("--") for name in rest[::2]):
        parser.error(f"expected pairs of --name value, got {' '.join(rest)}")
    names = [name[2:].replace("-", "_") for name in rest[::2]]
    try:
        values = {name: _value(name, text) for name, text in zip(names, rest[1::2], strict=True)}
        config = getattr(PretrainConfig, known.preset)(**values)
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    start_processes("vclip.pretrain", sys.argv[1:] if arguments is None else arguments)
    run = pretrain(config)
    if PartialState().is_main_process:
        print(f"{len(run.losses)} updates, last loss {run.losses[-1]:.3f}; best weights in {run.checkpoint}")


def _value(name: str, text: str):
    """Fields that hold strings take the text as it is, the others a Python literal."""
    kind = {field.name: field.type for field in dataclasses.fields(PretrainConfig)}.get(name, str)
    kinds = get_args(kind) or (kind,)
    if str in kinds:
        return text or (None if NoneType in kinds else text)
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise ValueError(f"--{name} {text} is no Python literal, 3, 1e-4, True or (3, 32) for instance") from None


__all__ = [
    "PretrainConfig",
    "Run",
    "exact_alignment",
    "first_32_seconds",
    "learning_rate",
    "mil_nce_clips",
    "new_model",
    "pretrain",
    "read_run",
    "retrieve_k",
    "shared_towers",
    "use_cls",
    "without_retrieval",
]

if __name__ == "__main__":
    main()
