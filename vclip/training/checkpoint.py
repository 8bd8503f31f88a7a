"""The folder of a run: settings, log, training state and weights, each file whole at every moment.

`state.safetensors`: weights, Adam's state, the running epoch's batches and where the run stands, to go on from there.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vclip.data.storage import copy_into, replace, write_json
from vclip.models.dual_encoder import VideoCLIP
from vclip.models.loading import open_videoclip
from vclip.training.config import TrainConfig

STATE = "state.safetensors"
LOG = "log.jsonl"
MASS = "mass_on_other_videos"  # key of a row as an epoch begins


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        losses: the training loss of every optimizer step.
        scores: a dict of validation scores for every epoch.
        checkpoint: folder of the best weights, with tokenizer and what the frozen encoder needs.
        clip: the best model as `vclip.load(run.checkpoint)` gives it.

    Example:
        >>> Run([2.0, 1.0], [], Path("runs/mine/best")).losses[-1]
        1.0
    """

    losses: list[float]
    scores: list[dict]
    checkpoint: Path

    @cached_property
    def clip(self) -> VideoCLIP:
        return open_videoclip(str(self.checkpoint))


def read_run(output: str | PathLike[str]) -> Run:
    """The losses, scores and best checkpoint of a run from its folder."""
    rows = read_log(Path(output))
    losses = [row["loss"] for row in rows if "loss" in row]
    return Run(losses, [row for row in rows if "validation_loss" in row], Path(output) / "best")


def claim(config: TrainConfig, file: str, data: dict | None = None) -> None:
    """Write the settings, and `data` that must stay the same, to `file`; refuse another run's folder."""
    output = Path(config.output)
    output.mkdir(parents=True, exist_ok=True)
    # of a process that was killed while it wrote: our temporary names, and safetensors' own
    for folder in (output, output / "best", output / "last"):
        for unfinished in [*folder.glob(".*.tmp"), *folder.glob(".tmp*")]:
            unfinished.unlink(missing_ok=True)
    wanted = json.loads(json.dumps(asdict(config) | (data or {}), default=lambda tower: tower.to_diff_dict()))
    if (output / file).exists() and (output / STATE).exists():  # else there is nothing to lose
        there = json.loads((output / file).read_text(encoding="utf-8"))
        kept = [name for name in wanted if name not in ("epochs", "output")]
        default = {f.name: f.default for f in fields(config)}  # of a field that an older run lacks
        differing = [name for name in kept if there.get(name, default.get(name)) != wanted[name]]
        if differing:
            raise ValueError(
                f"{output} holds a run with other settings "
                f"({'; '.join(f'{n}: {there.get(n)!r} against {wanted[n]!r}' for n in differing)}): "
                "choose another output, or remove it to start anew"
            )
        print(f"{output} holds an earlier start of this run: going on from its last state")
    write_json(output / file, wanted)


@dataclass
class Progress:
    """Where a run stands: before batch `batch` (from 0) of `epoch` (from 1), after `step` optimizer steps."""

    epoch: int = 1
    batch: int = 0
    step: int = 0
    processes: int = 1
    best: float | None = None
    log_rows: int = 0
    scaler: dict = field(default_factory=dict)


def save_state(
    folder: Path, progress: Progress, model: torch.nn.Module, optimizer: torch.optim.Adam, batches: list[np.ndarray]
) -> None:
    tensors = {f"model.{name}": value.detach() for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        if parameter in optimizer.state:
            for key in ("exp_avg", "exp_avg_sq", "step"):
                tensors[f"{key}.{name}"] = optimizer.state[parameter][key]
    tensors["batches"] = torch.from_numpy(np.concatenate([*batches, np.zeros(0, np.int64)]))
    tensors["batch_sizes"] = torch.tensor([len(batch) for batch in batches], dtype=torch.int64)
    _write_tensors(folder / STATE, tensors, {"progress": json.dumps(asdict(progress))})


def load_state(
    folder: Path, model: torch.nn.Module, optimizer: torch.optim.Adam
) -> tuple[Progress, list[np.ndarray]] | None:
    """Put the state in `folder` into model and optimizer; None if there is none."""
    if not (folder / STATE).is_file():
        return None
    with safe_open(folder / STATE, "pt") as file:
        progress = Progress(**json.loads((file.metadata() or {})["progress"]))
        names = set(file.keys())
        model.load_state_dict({n.removeprefix("model."): file.get_tensor(n) for n in names if n.startswith("model.")})
        for name, parameter in model.named_parameters():
            if f"exp_avg.{name}" in names:
                optimizer.state[parameter] = {
                    key: file.get_tensor(f"{key}.{name}").to(parameter.device)
                    for key in ("step", "exp_avg", "exp_avg_sq")
                }
        batches, sizes = file.get_tensor("batches").numpy(), file.get_tensor("batch_sizes").numpy()
    return progress, np.split(batches, np.cumsum(sizes)[:-1]) if len(sizes) else []


def save_clip(folder: Path, clip: VideoCLIP, beside: Sequence[Path]) -> None:
    """Write a folder for `vclip.load`, with the files `beside` that its frozen encoder needs; replace weights whole."""
    folder.mkdir(exist_ok=True)
    clip.model.config.architectures = [type(clip.model).__name__]
    clip.model.config.save_pretrained(folder)
    clip.processor.save_pretrained(folder)
    for file in beside:
        copy_into(folder, file)
    _write_tensors(folder / "model.safetensors", clip.model.state_dict(), {"format": "pt"})


def _write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    try:
        replace(path, lambda temporary: save_file(tensors, temporary, metadata))
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"could not write {path} ({error}); free some space and start again: the last one is whole"
        ) from error


class Log:
    """One JSON object a line; what came after the last state is dropped when a run goes on."""

    def __init__(self, folder: Path, rows: int):
        self.path, self.rows = folder / LOG, rows
        kept = self.path.read_text(encoding="utf-8").splitlines(keepends=True)[:rows] if self.path.exists() else []
        replace(self.path, lambda temporary: temporary.write_text("".join(kept), encoding="utf-8"))

    def append(self, row: dict) -> None:
        """Add a row; numbers that JSON has no word for (fp16's gradients overflow at times) become null."""
        row = {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in row.items()}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
        self.rows += 1


def read_log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (Path(folder) / LOG).read_text(encoding="utf-8").splitlines()]
