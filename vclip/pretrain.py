"""Pre-training: clusters of similar videos, overlapped clips, InfoNCE (paper sections 3 and 4.2).

From a notebook `pretrain(PretrainConfig.sample(output="runs/mine"))`, from a shell
`python -m vclip.pretrain --preset sample --output runs/mine`, in several processes
`accelerate launch -m vclip.pretrain ...`. A run that is started again goes on where it stopped.
"""

import argparse
import ast
import dataclasses
import sys
from collections.abc import Callable
from types import NoneType
from typing import get_args

import torch
from accelerate import PartialState
from transformers import AutoTokenizer

from vclip.contrastive import Contrast
from vclip.corpus import Corpus
from vclip.launch import start_processes
from vclip.model import VideoCLIPConfig, VideoCLIPModel
from vclip.processing import VideoCLIPProcessor
from vclip.recipe import (
    PretrainConfig,
    TrainConfig,
    exact_alignment,
    first_32_seconds,
    learning_rate,
    mil_nce_clips,
    retrieve_k,
    shared_towers,
    use_cls,
    without_retrieval,
)
from vclip.runs import Run, check_tokenizer, claim, fetched, read_run, start_accelerator
from vclip.trainer import Trainer

CONFIG = "pretrain.json"


def pretrain(config: PretrainConfig, on_row: Callable[[dict], None] | None = None) -> Run:
    """Train from `config`, or go on where the run in `config.output` stopped; a finished run is only read.

    Writes into `config.output`: `log.jsonl` (a row an update, an epoch and a retrieval stage; `on_row` sees each),
    `best/` and `last/` (`from_pretrained` folders with the processor), `state.safetensors`, `pretrain.json`.
    Raises ValueError if `output` belongs to another config, if a corpus has too few videos with captions, if its
    features or word pieces are not those the model wants, or if the loss is no longer finite; OSError if the disk
    is full, with the last checkpoint whole.
    """
    accelerator = start_accelerator(config)
    if accelerator.is_main_process:
        claim(config, CONFIG)
    accelerator.wait_for_everyone()
    tokenizer = fetched("tokenizer", config.tokenizer, AutoTokenizer.from_pretrained)
    with accelerator.main_process_first():
        training = Corpus.open(config.corpus).tokenize(tokenizer)
        validation = Corpus.open(config.validation).tokenize(tokenizer) if config.validation else None
    torch.manual_seed(config.seed)
    model = new_model(config, training).to(accelerator.device)
    for corpus in (training, validation):
        if corpus is not None:
            corpus.check(model.config)
    check_tokenizer(tokenizer, model, config.tokenizer)
    limits = {name: getattr(model.config, name) for name in ("max_text_tokens", "max_video_tokens")}
    processor = VideoCLIPProcessor(tokenizer, **limits)
    objective = Contrast(config, accelerator, model, training, validation)
    Trainer(config, accelerator, model, processor, objective, on_row).run()
    accelerator.wait_for_everyone()
    return read_run(config.output)


def new_model(config: PretrainConfig, corpus: Corpus) -> VideoCLIPModel:
    """The model that a run starts from: `config.bert`'s towers, or from scratch, for the corpus's features."""
    spec = None if corpus.spec is None else dataclasses.asdict(corpus.spec)
    values = {"feature_spec": spec, "video_feature_dim": corpus.dim} | config.model
    if config.bert is not None:
        return fetched("bert", config.bert, lambda bert: VideoCLIPModel.from_bert(bert, **values))
    return VideoCLIPModel(VideoCLIPConfig(**values))


def main(arguments: list[str] | None = None) -> None:
    """`--preset paper|sample` and any field of PretrainConfig as `--name value`; `--bert ""` is None."""
    parser = argparse.ArgumentParser(
        prog="python -m vclip.pretrain", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--preset", choices=("paper", "sample"), default="paper")
    fields = f"{TrainConfig.__doc__}\n{PretrainConfig.__doc__}"
    parser.epilog = f"Fields, each as --name value; an empty bert, validation or micro_batch is None.\n\n{fields}"
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
    """Fields that hold strings take the text as it is, the others a Python literal; empty is None where that may be."""
    kind = {field.name: field.type for field in dataclasses.fields(PretrainConfig)}.get(name, str)
    kinds = get_args(kind) or (kind,)
    if not text and NoneType in kinds:
        return None
    if str in kinds:
        return text
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
