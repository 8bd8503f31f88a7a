"""The folder of a run: settings, log, training state and weights, each file whole at every moment.

`state.safetensors`: weights, Adam's state, the running epoch's batches and where the run stands, to go on from there.
`state.previous.safetensors`: the state before it, to go on from where the disk has damaged the last.
"""

import hashlib
import json
import math
import os
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from vclip.data.corpus import Corpus
from vclip.data.storage import copy_into, locked, replace, write_json
from vclip.models.loading import open_videoclip
from vclip.models.videoclip_encoder import VideoCLIP
from vclip.training.config import TrainConfig

STATE, PREVIOUS = "state.safetensors", "state.previous.safetensors"
LOG = "log.jsonl"
ADAM = ("step", "exp_avg", "exp_avg_sq")  # what it keeps of each parameter


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


@contextmanager
def claim(config: TrainConfig, accelerator: Accelerator, file: str, data: dict) -> Iterator[None]:
    """Hold a run's folder while all processes train; settings, and `data` that must stay the same, are in `file`."""
    output = Path(config.output)
    there = {found.name for found in output.glob("[!.]*")}
    if there and file not in there:
        raise ValueError(f"{output} holds {min(there)!r} and no {file}: choose another output, or an empty folder")
    with locked(output, ".lock") if accelerator.is_main_process else nullcontext():
        if accelerator.is_main_process:
            _settle(output, config, file, data)
        accelerator.wait_for_everyone()
        yield
        accelerator.wait_for_everyone()


def _settle(output: Path, config: TrainConfig, file: str, data: dict) -> None:
    # of a process that was killed while it wrote: our temporary names, and safetensors' own
    for folder in (output, output / "best", output / "last") if (output / file).exists() else ():
        for unfinished in [*folder.glob(".*.[0-9]*.tmp"), *folder.glob(".tmp??????")]:
            unfinished.unlink(missing_ok=True)
    if (output / PREVIOUS).exists():
        try:
            read_state(output / STATE)
        except (FileNotFoundError, ValueError) as error:
            warnings.warn(f"going on from the state before the last: {error}", stacklevel=2)
            os.replace(output / PREVIOUS, output / STATE)
    wanted = json.loads(json.dumps(asdict(config) | data, default=lambda tower: tower.to_diff_dict()))
    if (output / STATE).exists():  # else there is nothing to lose
        there = wanted | json.loads((output / file).read_text(encoding="utf-8"))  # an older run may lack some
        differing = [name for name in wanted if name not in ("epochs", "output") and there[name] != wanted[name]]
        if differing:
            found = "; ".join(f"{name}: {there[name]!r} against {wanted[name]!r}" for name in differing)
            what = "choose another output, or remove it to start anew"
            raise ValueError(f"{output} holds a run with other settings ({found}): {what}")
        print(f"{output} holds an earlier start of this run: going on from its last state")
    write_json(output / file, wanted)


def data_hash(corpus: Corpus) -> str:
    """16 digits of the SHA-256 of a corpus's videos and captions; of the features, the spec and how many there are."""
    digest = hashlib.sha256(json.dumps([corpus.video_ids, corpus.spec and asdict(corpus.spec)]).encode())
    for column in (corpus.seconds, corpus.caption_offsets, corpus.caption_start, corpus.caption_end):
        digest.update(np.ascontiguousarray(column).data)
    for texts in corpus.caption_text.chunks:  # of a million captions at most, wherever the file has their bounds
        digest.update("\0".join([*texts.to_pylist(), ""]).encode())
    return digest.hexdigest()[:16]


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
            for key in ADAM:
                tensors[f"{key}.{name}"] = optimizer.state[parameter][key]
    tensors["batches"] = torch.from_numpy(np.concatenate([*batches, np.zeros(0, np.int64)]))
    tensors["batch_sizes"] = torch.tensor([len(batch) for batch in batches], dtype=torch.int64)
    tensors, values = {name: value.cpu() for name, value in tensors.items()}, asdict(progress)
    # one key: safetensors writes several in an order that differs from run to run
    values["crc32"] = _checksum(tensors, values)
    _write_tensors(folder / STATE, tensors, {"progress": json.dumps(values)})


def _checksum(tensors: dict[str, torch.Tensor], values: dict) -> int:
    crc = zlib.crc32(json.dumps(values).encode())
    for name, value in sorted(tensors.items()):
        crc = zlib.crc32(f"{name} {value.dtype} {tuple(value.shape)}".encode(), crc)
        crc = zlib.crc32(value.reshape(-1, 1).view(torch.uint8).numpy().data, crc)
    return crc


def read_state(file: Path) -> tuple[Progress, dict[str, torch.Tensor]]:
    """What `save_state` wrote; ValueError if a bit of it has changed."""
    try:
        with safe_open(file, "pt") as opened:
            values = dict(json.loads((opened.metadata() or {})["progress"]))
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        if values.pop("crc32", None) not in (None, _checksum(tensors, values)):  # older runs have none
            raise ValueError("its checksum differs")
        return Progress(**values), tensors
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file} is damaged ({error}); to start anew remove {file.parent}") from None


def load_state(
    folder: Path, model: torch.nn.Module, optimizer: torch.optim.Adam
) -> tuple[Progress, list[np.ndarray]] | None:
    """Put the state in `folder` into model and optimizer; None if there is none."""
    if not (folder / STATE).is_file():
        return None
    progress, tensors = read_state(folder / STATE)
    try:
        model.load_state_dict({n.removeprefix("model."): t for n, t in tensors.items() if n.startswith("model.")})
    except RuntimeError as error:
        raise ValueError(f"{folder / STATE} is another model's: choose another output, or remove it") from error
    for name, parameter in model.named_parameters():
        if f"exp_avg.{name}" in tensors:
            optimizer.state[parameter] = {key: tensors[f"{key}.{name}"].to(parameter.device) for key in ADAM}
    batches, sizes = tensors["batches"].numpy(), tensors["batch_sizes"].numpy()
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
    def write(temporary: Path) -> None:
        save_file(tensors, temporary, metadata)
        if path.name == STATE and path.exists():
            os.replace(path, path.with_name(PREVIOUS))

    # a sum takes a tenth of the time of looking at each number
    if not all(value.sum(dtype=torch.float32).isfinite() for value in tensors.values()):
        what = "lower learning_rate or train in fp32, and go on from the last state"
        raise ValueError(f"weights or Adam's moments are not finite, so {path} is not written: {what}")
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    try:
        replace(path, write)
    except (OSError, SafetensorError) as error:
        what = "free some space and start again: the last one is whole"
        raise OSError(f"could not write {path} ({error}); {what}") from error


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
