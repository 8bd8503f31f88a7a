"""The loop that every training shares: updates, epochs, checkpoints, log and state; what is learnt is an objective."""

import contextlib
import ctypes
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import reduce
from torch import nn
from tqdm.auto import tqdm

from vclip.data.prefetch import ahead
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.videoclip import VideoCLIPModel
from vclip.training.config import TrainConfig, learning_rate
from vclip.training.state import Log, Progress, load_state, save_state, write_tensors

REFRESH = 10.0  # seconds between two steps of a progress bar: a notebook's client drops messages beyond a thousand
RETURN_EVERY = 100  # updates between two returns of memory, which cost 1 ms a MB: below 1 % of the time of these
# what a random stream is for; the last number of its seed sequence
TRAINING, RETRIEVAL, VALIDATION, DROPOUT = range(4)


class Objective(Protocol):
    """What a run learns. A batch is an int64 array of whatever numbers the objective counts its data by.

    `loss` is a module, so that several processes can average its gradients; all its randomness but dropout comes from
    the generators it is given.
    """

    loss: nn.Module

    def batches(self, epoch: int, write: Callable[[dict], None]) -> list[np.ndarray]:
        """The batches of an epoch, the same on every process; `write` adds rows to the log."""
        ...

    def inputs(self, batch: np.ndarray, rng: np.random.Generator) -> tuple:
        """The arguments of `loss` for a batch."""
        ...

    def validate(self) -> tuple[dict, float] | None:
        """A row for the log and the number that is least at the best checkpoint; None without validation."""
        ...


class Trainer:
    """A run from its last state, or its beginning, to its end. All randomness comes from (seed, epoch, step).

    With `validate_first` the model is also scored before its first update; that row says where it began and does not
    count as a checkpoint.
    """

    def __init__(
        self,
        config: TrainConfig,
        accelerator: Accelerator,
        model: VideoCLIPModel,
        processor: VideoCLIPProcessor,
        objective: Objective,
        on_row: Callable[[dict], None] | None = None,
        validate_first: bool = False,
    ):
        self.config, self.accelerator, self.model, self.processor = config, accelerator, model, processor
        self.objective, self.on_row, self.validate_first = objective, on_row, validate_first
        self.output = Path(config.output)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.0, betas=config.betas, fused=True)
        self.progress, self._unfinished = load_state(self.output, model, optimizer) or (Progress(), [])
        progress = self.progress
        self.log = Log(self.output, progress.log_rows) if accelerator.is_main_process else None
        self.writer = _tensorboard(self.output, progress.update) if config.tensorboard and self.log else None
        if progress.step and progress.processes != accelerator.num_processes:
            raise ValueError(
                f"{self.output} stopped within an epoch of {progress.processes} processes: go on with as many, "
                f"not {accelerator.num_processes}"
            )
        progress.processes = accelerator.num_processes
        self.loss = accelerator.prepare(objective.loss)
        self.optimizer = accelerator.prepare(optimizer)
        if accelerator.scaler is not None and progress.scaler:
            accelerator.scaler.load_state_dict(progress.scaler)

    def run(self) -> None:
        """Every epoch that is left, the first with the batches it was interrupted in."""
        if self.validate_first and not self.progress.update and (scored := self.objective.validate()):
            self._write(0, scored[0])
        for epoch in range(self.progress.epoch, self.config.epochs + 1):
            batches = self._unfinished or self.objective.batches(epoch, partial(self._write, epoch))
            self.run_epoch(epoch, batches)
            self._unfinished = []

    def run_epoch(self, epoch: int, batches: list[np.ndarray]) -> None:
        """The updates of an epoch from `progress.step` on, then validation and checkpoints."""
        config, rank, world = self.config, self.accelerator.process_index, self.accelerator.num_processes
        steps = range(self.progress.step, len(batches) // world)
        bar = tqdm(
            steps, desc=f"epoch {epoch}/{config.epochs}", leave=False, mininterval=REFRESH, disable=self.log is None
        )
        prepared = ahead(self._inputs(epoch, step, batches[step * world + rank]) for step in steps)
        with contextlib.closing(prepared):  # or a traceback that is kept would keep the thread
            for step, inputs in zip(bar, prepared, strict=True):
                loss, norm, rate = self._update(epoch, step, inputs)
                self.progress.step, self.progress.update = step + 1, self.progress.update + 1
                self._write(epoch, {"loss": loss, "learning_rate": rate, "grad_norm": norm})
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                if self.progress.update % config.save_every == 0:
                    self._save_state(batches)
                if self.progress.update % RETURN_EVERY == 0:
                    return_memory()
        self._finish(epoch)

    def _stream(self, epoch: int, step: int, purpose: int) -> np.random.Generator:
        stream = step * self.accelerator.num_processes + self.accelerator.process_index
        return random_stream(self.config.seed, epoch, stream, purpose)

    def _inputs(self, epoch: int, step: int, batch: np.ndarray) -> tuple:
        return self.objective.inputs(batch, self._stream(epoch, step, TRAINING))

    def _update(self, epoch: int, step: int, inputs: tuple) -> tuple[float, float, float]:
        """One optimiser update: the loss (mean over processes), the gradient's norm, and the rate that was used."""
        config, accelerator = self.config, self.accelerator
        rate = learning_rate(self.progress.update + 1, config.learning_rate, config.warmup_steps, config.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(int(self._stream(epoch, step, DROPOUT).integers(2**63)))
        self.loss.train()
        loss = self.loss(*inputs)
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(self.loss.parameters(), config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        # read last, as the device is waited for
        value = float(torch.as_tensor(reduce(loss.detach(), "mean")))
        if not math.isfinite(value):
            raise ValueError(
                f"the loss is {value} at update {self.progress.update + 1} (epoch {epoch}): lower learning_rate "
                f"({config.learning_rate}) or train in fp32; the last checkpoint is in {self.output}"
            )
        return value, float(torch.as_tensor(norm)), rate

    def _finish(self, epoch: int) -> None:
        if scored := self.objective.validate():
            row, value = scored
            self._write(epoch, row)
            if self.progress.best is None or value < self.progress.best:
                self.progress.best = value
                self._save_weights("best")
        elif epoch == self.config.epochs:
            self._save_weights("best")
        self._save_weights("last")
        self.progress.epoch, self.progress.step = epoch + 1, 0
        self._save_state([])
        return_memory()

    def _save_weights(self, name: str) -> None:
        """A `from_pretrained` folder with the processor; the weights are replaced as a whole."""
        if self.log is None:
            return
        folder = self.output / name
        folder.mkdir(exist_ok=True)
        self.model.config.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        weights = {name: value.detach().cpu().contiguous() for name, value in self.model.state_dict().items()}
        write_tensors(folder / "model.safetensors", weights, {"format": "pt"})

    def _save_state(self, batches: list[np.ndarray]) -> None:
        if self.log is None:
            return
        self.progress.log_rows = self.log.rows
        if self.accelerator.scaler is not None:
            self.progress.scaler = self.accelerator.scaler.state_dict()
        save_state(self.output, self.progress, self.model, self.optimizer.optimizer, batches)

    def _write(self, epoch: int, values: dict) -> None:
        if self.log is None:
            return
        row = {"update": self.progress.update, "epoch": epoch} | values
        self.log.append(row)
        if self.writer is not None:
            for name, value in values.items():
                if isinstance(value, float):
                    self.writer.add_scalar(name, value, row["update"])
        if self.on_row is not None:
            self.on_row(row)


def random_stream(seed: int, epoch: int, step: int, purpose: int) -> np.random.Generator:
    """The generator of one purpose at one place of a run."""
    return np.random.default_rng([seed, epoch, step, purpose])


def return_memory() -> None:
    """Give freed memory back to the system, where the C library is glibc.

    Its heap keeps freed tensors below 32 MB, and batches of ever new shapes leave ever more holes in it: of 1.5 GB
    after an epoch of the sample recipe 0.5 were in use, and a run of 13 epochs held 3. What stays resident is then
    flat over a run; the peaks in between are as high as without.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _tensorboard(output: Path, update: int) -> Any:
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(output / "tensorboard"), purge_step=update + 1)
