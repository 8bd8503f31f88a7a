"""The state of a training run in one file, whole at every moment, and its log.

`state.safetensors` holds the weights, Adam's state and the batches of the running epoch; its metadata where
the run stands. It is written under another name and renamed, so a run that is killed goes on from the last one.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vclip.data.storage import replace

STATE = "state.safetensors"
LOG = "log.jsonl"


@dataclass
class Progress:
    """Where a run stands: the next batch is number `step` (from 0) of `epoch` (from 1), after `update` updates."""

    epoch: int = 1
    step: int = 0
    update: int = 0
    processes: int = 1
    best: float | None = None
    log_rows: int = 0
    scaler: dict = field(default_factory=dict)


def save_state(
    folder: Path, progress: Progress, model: torch.nn.Module, optimizer: torch.optim.Adam, batches: list[np.ndarray]
) -> None:
    """Replace the state in `folder`. Raises OSError, with the previous state untouched, if it cannot be written."""
    tensors = {f"model.{name}": value.detach() for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        if parameter in optimizer.state:
            for key in ("exp_avg", "exp_avg_sq", "step"):
                tensors[f"{key}.{name}"] = optimizer.state[parameter][key]
    tensors["batches"] = torch.from_numpy(np.concatenate([*batches, np.zeros(0, np.int64)]))
    tensors["batch_sizes"] = torch.tensor([len(batch) for batch in batches], dtype=torch.int64)
    tensors = {name: value.cpu().contiguous() for name, value in tensors.items()}
    metadata = {"progress": json.dumps(asdict(progress))}
    write_tensors(folder / STATE, tensors, metadata)


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """A safetensors file, replaced as a whole; OSError that says the old one is still there."""
    try:
        replace(path, lambda temporary: save_file(tensors, temporary, metadata))
    except (OSError, SafetensorError) as error:
        raise OSError(
            f"could not write {path} ({error}); free some space and start again: the last one is whole"
        ) from error


def load_state(
    folder: Path, model: torch.nn.Module, optimizer: torch.optim.Adam
) -> tuple[Progress, list[np.ndarray]] | None:
    """Put the state in `folder` into model and optimiser; None if there is none."""
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


class Log:
    """One JSON object a line, appended as it happens; what came after the last state is dropped when a run goes on."""

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


def read_log(folder: Path) -> Iterator[dict]:
    """The rows of a run's log."""
    with (Path(folder) / LOG).open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
