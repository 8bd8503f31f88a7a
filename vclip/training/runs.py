"""What any training needs around its loop: a folder of its own, a precision, a tokenizer that fits, the result."""

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.state import AcceleratorState
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from vclip.data.storage import write_json
from vclip.models.videoclip import VideoCLIPModel
from vclip.training.config import TrainConfig
from vclip.training.state import STATE, read_log


@dataclass(frozen=True)
class Run:
    """A finished run: a loss an update, a dict of validation scores an epoch, the folder of the best weights."""

    losses: list[float]
    scores: list[dict]
    checkpoint: Path


def read_run(output: str | PathLike[str]) -> Run:
    """The losses, scores and best checkpoint of a run from its folder."""
    rows = list(read_log(Path(output)))
    losses = [row["loss"] for row in rows if "loss" in row]
    return Run(losses, [row for row in rows if "validation_loss" in row], Path(output) / "best")


def start_accelerator(config: TrainConfig) -> Accelerator:
    """Accelerate in the config's precision."""
    precision = "no" if config.precision == "fp32" else config.precision
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != precision:
        # a second run in one notebook may want another precision
        AcceleratorState._reset_state()
    return Accelerator(mixed_precision=precision)


def claim(config: TrainConfig, file: str, data: dict | None = None) -> None:
    """Make the config's `output` its own, or refuse if it is another's; more epochs are the same run.

    `file` there holds the settings: the config's and `data`, whatever else must be the same for a run to go on.
    Raises ValueError that names what differs.
    """
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    # of a process that was killed while it wrote: our temporary names, and safetensors' own
    for folder in (output, output / "best", output / "last"):
        for unfinished in [*folder.glob(".*.tmp"), *folder.glob(".tmp*")]:
            unfinished.unlink(missing_ok=True)
    wanted = json.loads(json.dumps(dataclasses.asdict(config) | (data or {}), default=_plain))
    if (output / file).exists() and (output / STATE).exists():  # else there is nothing to lose
        there = json.loads((output / file).read_text(encoding="utf-8"))
        differing = [name for name in wanted if there.get(name) != wanted[name] and name not in ("epochs", "output")]
        if differing:
            raise ValueError(
                f"{output} holds a run with other settings "
                f"({'; '.join(f'{n}: {there.get(n)!r} against {wanted[n]!r}' for n in differing)}): "
                "choose another output, or remove it to start anew"
                + ("; sample()'s total_steps follows from epochs" if "total_steps" in differing else "")
            )
        print(f"{output} holds an earlier start of this run: going on from its last state")
    write_json(output / file, wanted)


def fetched(name: str, value, load: Callable[[Any], Any]) -> Any:
    """`load(value)`; an OSError of transformers says which field of the config it is about."""
    try:
        return load(value)
    except OSError as error:
        raise OSError(
            f"{name}={str(value)!r} is neither a folder here nor could it be fetched from the hub: set {name} to a "
            f"folder, or go on where there is a network ({str(error).splitlines()[0]})"
        ) from error


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, model: VideoCLIPModel, name) -> None:
    """Refuse, by ValueError, word pieces that the model has no rows for and other special ids than its own."""
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


def _plain(value) -> dict:
    """A tower's config object as JSON: the sizes that differ from its class's."""
    if not isinstance(value, PreTrainedConfig):
        raise TypeError(f"`model` holds {value!r}, which no JSON can: give numbers, strings, dicts or tower configs")
    return {name: size for name, size in value.to_diff_dict().items() if name != "transformers_version"}
