"""The training loop that pre-training and fine-tuning share; an `Objective` supplies batches, loss and validation."""

import contextlib
import ctypes
import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import reduce
from torch import Tensor, nn
from tqdm.auto import tqdm

from vclip.data.prefetch import prefetch
from vclip.encoders.networks import processes
from vclip.models.videoclip_encoder import VideoCLIP
from vclip.training.checkpoint import Log, Progress, load_state, save_clip, save_state
from vclip.training.config import TrainConfig, learning_rate

REFRESH = 10.0  # seconds between two states of a progress bar: a notebook's client drops messages beyond a thousand
RETURN_EVERY = 100  # steps between two returns of memory
# purpose of a random stream; the last number of its seed sequence
TRAINING, ORDER, VALIDATION, DROPOUT = range(4)


class Objective(Protocol):
    """What a run learns. A batch is an int64 array of positions in the objective's data.

    `batches` are an epoch's, the same on every process; `write` adds a row to the log. `inputs` are the arguments of
    `loss` behind the model. All randomness but dropout comes from `rng`. `validate` gives a row for the log and the
    number that is smallest at the best checkpoint.
    """

    def batches(self, epoch: int, write: Callable[[dict], None]) -> list[np.ndarray]: ...
    def inputs(self, batch: np.ndarray, rng: np.random.Generator) -> tuple: ...
    def loss(self, model: Any, *inputs: Any) -> Tensor: ...
    def validate(self) -> tuple[dict, float] | None: ...


class Loss(nn.Module):
    """`loss(model, *inputs)` as a module with the model's parameters, whose gradients several processes average."""

    def __init__(self, model: nn.Module, loss: Callable[..., Tensor]):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.loss(self.model, *inputs)


class Trainer:
    """A run from its last state, or its beginning, to its end. All randomness comes from (seed, epoch, batch).

    With `validate_first` the model is also scored before its first step; that row does not count as a checkpoint.
    The files `beside` are put beside the weights, for the frozen encoder of whoever loads them.
    """

    def __init__(
        self,
        config: TrainConfig,
        accelerator: Accelerator,
        clip: VideoCLIP,
        objective: Objective,
        on_row: Callable[[dict], None] | None = None,
        validate_first: bool = False,
        beside: Sequence[Path] = (),
    ):
        self.config, self.accelerator, self.clip, self.model = config, accelerator, clip, clip.model
        self.objective, self.on_row, self.validate_first = objective, on_row, validate_first
        self.output, self.beside = Path(config.output), beside
        optimizer = torch.optim.Adam(self.model.parameters(), lr=0.0, betas=config.betas, fused=True)
        self.progress, self._unfinished = load_state(self.output, self.model, optimizer) or (Progress(), [])
        progress, self._saved = self.progress, self.progress.step
        self.log = Log(self.output, progress.log_rows) if accelerator.is_main_process else None
        if progress.batch and progress.processes != accelerator.num_processes:
            there = progress.processes
            raise ValueError(f"{self.output} stopped within an epoch on {there} processes: go on with as many")
        progress.processes = accelerator.num_processes
        self.loss = accelerator.prepare(Loss(self.model, objective.loss))
        self.optimizer = accelerator.prepare(optimizer)
        if accelerator.scaler is not None and progress.scaler:
            accelerator.scaler.load_state_dict(progress.scaler)

    def run(self) -> None:
        """Every epoch that is left, the first with the batches it was interrupted in; an interrupt says so."""
        try:
            if self.validate_first and not self.progress.step and (scored := self.objective.validate()):
                self._write(0, scored[0])
            for epoch in range(self.progress.epoch, self.config.epochs + 1):
                batches = self._unfinished or self.objective.batches(epoch, partial(self._write, epoch))
                self.run_epoch(epoch, batches)
                self._unfinished = []
        except KeyboardInterrupt as stopped:
            what = f"stopped; run this again to go on from step {self._saved}"
            raise KeyboardInterrupt(*(stopped.args or [what])) from None

    def run_epoch(self, epoch: int, batches: list[np.ndarray]) -> None:
        """The steps of an epoch from `progress.batch` on, then validation and checkpoints."""
        config, rank, world = self.config, self.accelerator.process_index, self.accelerator.num_processes
        left, total = range(self.progress.batch, len(batches) // world), config.epochs * (len(batches) // world)
        title, done, silent = f"epoch {epoch}/{config.epochs}", self.progress.step, self.log is None
        bar = tqdm(left, title, total, leave=False, mininterval=REFRESH, disable=silent, initial=done)
        prepared = prefetch(self._inputs(epoch, batch, batches[batch * world + rank]) for batch in left)
        # closed, or a traceback that is kept would keep the thread
        with contextlib.closing(prepared), interrupts() as interrupted:
            for batch, inputs in zip(bar, prepared, strict=True):
                loss, norm, rate = self._step(epoch, batch, inputs)
                self.progress.batch, self.progress.step = batch + 1, self.progress.step + 1
                self._write(epoch, {"loss": loss, "learning_rate": rate, "grad_norm": norm})
                bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
                # of any process, so that all stop at one step
                stop = bool(reduce(torch.tensor(len(interrupted), device=self.accelerator.device), "sum"))
                if self.progress.step % config.save_every == 0 or stop:
                    self._save_state(batches)
                if stop:
                    self.accelerator.wait_for_everyone()  # or torchrun ends the process that saves
                    raise KeyboardInterrupt(f"stopped at step {self.progress.step} of {total}; run this again to go on")
                if self.progress.step % RETURN_EVERY == 0:
                    return_memory()
        self._finish(epoch, batches)

    def _stream(self, epoch: int, batch: int, purpose: int) -> np.random.Generator:
        stream = batch * self.accelerator.num_processes + self.accelerator.process_index
        return random_stream(self.config.seed, epoch, stream, purpose)

    def _inputs(self, epoch: int, batch: int, positions: np.ndarray) -> tuple:
        return self.objective.inputs(positions, self._stream(epoch, batch, TRAINING))

    def _step(self, epoch: int, batch: int, inputs: tuple) -> tuple[float, float, float]:
        """One optimizer step: the loss (mean over processes), the gradient's norm, and the rate that was used."""
        config, accelerator = self.config, self.accelerator
        rate = learning_rate(self.progress.step + 1, config.learning_rate, config.warmup_steps, config.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(int(self._stream(epoch, batch, DROPOUT).integers(2**63)))
        self.loss.train()
        loss = self.loss(*inputs)
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(self.loss.parameters(), config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        # read last, as the device is waited for
        value = float(torch.as_tensor(reduce(loss.detach(), "mean")))
        if not math.isfinite(value):
            what = f"lower learning_rate ({config.learning_rate}) or train in fp32; {self.output} holds a checkpoint"
            raise ValueError(f"the loss is {value} at step {self.progress.step + 1} (epoch {epoch}): {what}")
        return value, float(torch.as_tensor(norm)), rate

    def _finish(self, epoch: int, batches: list[np.ndarray]) -> None:
        try:
            scored = self.objective.validate()
        except KeyboardInterrupt:
            self._save_state(batches)  # only the validation is left
            raise
        if scored:
            row, value = scored
            self._write(epoch, row)
            if self.progress.best is None or value < self.progress.best:
                self.progress.best = value
                self._save_weights("best")
        elif epoch == self.config.epochs:
            self._save_weights("best")
        self._save_weights("last")
        self.progress.epoch, self.progress.batch = epoch + 1, 0
        self._save_state([])
        return_memory()

    def _save_weights(self, name: str) -> None:
        if self.log is not None:
            save_clip(self.output / name, self.clip, self.beside)

    def _save_state(self, batches: list[np.ndarray]) -> None:
        if self.log is not None:
            self.progress.log_rows = self.log.rows
            if self.accelerator.scaler is not None:
                self.progress.scaler = self.accelerator.scaler.state_dict()
            save_state(self.output, self.progress, self.model, self.optimizer.optimizer, batches)
        self._saved = self.progress.step

    def _write(self, epoch: int, values: dict) -> None:
        if self.log is None:
            return
        row = {"step": self.progress.step, "epoch": epoch} | values
        self.log.append(row)
        if self.on_row is not None:
            self.on_row(row)


@contextlib.contextmanager
def interrupts() -> Iterator[list[int]]:
    """The first interrupt, as by Ctrl-C, is noted here, so that a step ends whole; a second one stops at once."""
    caught: list[int] = []

    def note(number: int, frame: Any) -> None:
        caught.append(number)
        signal.signal(signal.SIGINT, before)

    main = threading.current_thread() is threading.main_thread()  # which alone is interrupted
    before = signal.signal(signal.SIGINT, note) if main else None
    try:
        yield caught
    finally:
        if main:
            signal.signal(signal.SIGINT, before)


def start_accelerator(config: TrainConfig) -> Accelerator:
    """Accelerate in the config's precision, over the processes of `torchrun` or `accelerate launch`."""
    processes()
    precision = "no" if config.precision == "fp32" else config.precision
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != precision:
        # a second run in one notebook may want another precision
        AcceleratorState._reset_state()
    return Accelerator(mixed_precision=precision)


def random_stream(seed: int, epoch: int, batch: int, purpose: int) -> np.random.Generator:
    """The generator of one purpose at one place of a run."""
    return np.random.default_rng([seed, epoch, batch, purpose])


def return_memory() -> None:
    """Give freed memory back: glibc's heap keeps the holes that batches of ever new shapes leave (3 GB for 0.5)."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)
