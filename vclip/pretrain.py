"""Pre-training: clusters of similar videos, overlapped clips, InfoNCE (paper sections 3 and 4.2).

From a notebook `pretrain(PretrainConfig.sample(output="runs/mine"))`, from a shell
`python -m vclip.pretrain --preset sample --output runs/mine` or, in several processes, `accelerate launch -m ...`.
Every random choice comes from (seed, epoch, step) alone, so a run that was interrupted ends with the same tensors.
"""

import argparse
import ast
import contextlib
import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object, reduce
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import AutoTokenizer

from vclip.batching import VideoIndex, sample_clusters, shuffled_batches, video_vectors
from vclip.corpus import Corpus
from vclip.losses import info_nce, mil_nce
from vclip.model import VideoCLIPConfig, VideoCLIPModel
from vclip.names import refuse_unknown
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
from vclip.samplers import AlignedClips, MILNCEClips, OverlappedClips, pack
from vclip.state import Log, Progress, load_state, read_log, save_state, write_tensors
from vclip.storage import replace
from vclip.tasks import retrieval

CONFIG = "pretrain.json"
VIDEOS_AT_ONCE = 64
VALIDATION_CLIPS = 4
# what a random stream is for; the last number of its seed sequence
TRAINING, RETRIEVAL, VALIDATION, DROPOUT = range(4)


@dataclass(frozen=True)
class Run:
    """A finished run: `losses` one a training update, `scores` one dict an epoch, `checkpoint` the best weights' folder."""

    losses: list[float]
    scores: list[dict]
    checkpoint: Path


class ContrastiveStep(nn.Module):
    """The loss of one packed batch, as one module so that several processes can average its gradients."""

    def __init__(self, model: VideoCLIPModel, temperature: float):
        super().__init__()
        self.model, self.temperature = model, temperature

    def forward(self, features: Tensor, seconds: Tensor, ids: Tensor, pieces: Tensor, owner: Tensor | None) -> Tensor:
        z_v, z_t = self.model.embed_packed(features, seconds, ids, pieces)
        return info_nce(z_v, z_t, self.temperature) if owner is None else mil_nce(z_v, z_t, owner)


def pretrain(config: PretrainConfig, on_row: Callable[[dict], None] | None = None) -> Run:
    """Train from `config`, or go on where the run in `config.output` stopped; a finished run is only read.

    Writes into `config.output`: `log.jsonl` (a row an update, an epoch and a retrieval stage; `on_row` sees each),
    `best/` and `last/` (`from_pretrained` folders with the processor), `state.safetensors`, `pretrain.json`.
    Raises ValueError if `output` belongs to another config, if the corpus has too few videos with captions, if its
    features are not those the model wants, or if the loss is no longer finite.
    """
    output = Path(config.output)
    accelerator = _accelerator(config)
    if accelerator.is_main_process:
        _claim(output, config)
    accelerator.wait_for_everyone()
    tokenizer = AutoTokenizer.from_pretrained(config.tokenizer)
    corpora = [_open(path, tokenizer, accelerator) for path in (config.corpus, config.validation) if path]
    training, validation = corpora[0], corpora[1] if len(corpora) > 1 else None

    torch.manual_seed(config.seed)
    model = _new_model(config, training)
    for corpus in corpora:
        corpus.check(model.config)
    processor = VideoCLIPProcessor(
        tokenizer, max_text_tokens=model.config.max_text_tokens, max_video_tokens=model.config.max_video_tokens
    )
    model.to(accelerator.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0, betas=config.betas, fused=True)
    progress, batches = load_state(output, model, optimizer) or (Progress(), [])
    trainer = _Trainer(config, accelerator, model, optimizer, training, validation, processor, progress, on_row)
    for epoch in range(progress.epoch, config.epochs + 1):
        trainer.epoch(epoch, batches)
        batches = []
    accelerator.wait_for_everyone()
    return read_run(output)


def read_run(output: str | Path) -> Run:
    """The losses, scores and best checkpoint of a run from its folder."""
    rows = list(read_log(Path(output)))
    losses = [row["loss"] for row in rows if "loss" in row]
    return Run(losses, [row for row in rows if "validation_loss" in row], Path(output) / "best")


class _Trainer:
    """What stays the same over the epochs of a run."""

    def __init__(self, config, accelerator, model, optimizer, training, validation, processor, progress, on_row):
        self.config, self.accelerator, self.model = config, accelerator, model
        self.training, self.validation, self.processor = training, validation, processor
        self.progress, self.on_row = progress, on_row
        self.output = Path(config.output)
        self.log = Log(self.output, progress.log_rows) if accelerator.is_main_process else None
        self.writer = _tensorboard(self.output, progress.update) if config.tensorboard and self.log else None
        self.with_captions = np.flatnonzero(np.diff(training.caption_offsets))
        if len(self.with_captions) < config.videos_per_batch:
            raise ValueError(
                f"{config.corpus} has {len(self.with_captions)} videos with captions, fewer than videos_per_batch "
                f"({config.videos_per_batch})"
            )
        self.sampler = {"overlapped": OverlappedClips, "aligned": AlignedClips, "mil_nce": MILNCEClips}[config.sampler]
        limits = {"text_tokens": config.text_tokens, "max_text_tokens": model.config.max_text_tokens}
        if config.sampler == "overlapped":
            self.sampler = OverlappedClips(video_seconds=config.video_seconds, **limits)
        elif config.sampler == "aligned":
            self.sampler = AlignedClips(**limits)
        else:
            self.sampler = MILNCEClips()
        self.step = accelerator.prepare(ContrastiveStep(model, config.temperature))
        self.optimizer = accelerator.prepare(optimizer)
        if accelerator.scaler is not None and progress.scaler:
            accelerator.scaler.load_state_dict(progress.scaler)

    def epoch(self, epoch: int, batches: list[np.ndarray]) -> None:
        """One pass over the batches of an epoch, from `progress.step` on, validation and both checkpoints."""
        config, rank, world = self.config, self.accelerator.process_index, self.accelerator.num_processes
        batches = batches or self._batches(epoch)
        steps = range(self.progress.step, len(batches) // world)
        bar = tqdm(steps, desc=f"epoch {epoch}/{config.epochs}", leave=False, disable=self.log is None)
        for step in bar:
            loss, norm, rate = self._update(epoch, step, batches[step * world + rank])
            self.progress.step, self.progress.update = step + 1, self.progress.update + 1
            row = {
                "update": self.progress.update,
                "epoch": epoch,
                "loss": loss,
                "learning_rate": rate,
                "grad_norm": norm,
            }
            self._write(row)
            bar.set_postfix(loss=f"{loss:.3f}")
            if self.progress.update % config.save_every == 0:
                self._save(batches)
        self._finish(epoch)

    def _batches(self, epoch: int) -> list[np.ndarray]:
        """Algorithm 1, lines 2 to 5: clusters of similar videos, or shuffled ones."""
        config, rng = self.config, _rng(self.config, epoch, 0, RETRIEVAL)
        count = len(self.with_captions) // config.videos_per_batch
        if not config.retrieval:
            batches = shuffled_batches(len(self.with_captions), config.videos_per_batch, rng)
        else:
            self._write({"update": self.progress.update, "epoch": epoch, "stage": "retrieval"})
            vectors, embedded = self._video_vectors(epoch)
            digests = gather_object([hashlib.sha256(vectors.tobytes()).hexdigest()[:16]])
            row = {"update": self.progress.update, "epoch": epoch, "videos_embedded": gather_object([embedded])}
            self._write(row | {"index": digests})
            index = VideoIndex(vectors)
            candidates = min(config.candidates, len(index))
            batches = sample_clusters(index, count, config.videos_per_batch, candidates, rng)
        return [self.with_captions[batch] for batch in batches]

    def _video_vectors(self, epoch: int) -> tuple[np.ndarray, int]:
        """Vectors (N, D) of all videos with captions, the same on every process; each embeds its share once."""
        config, model = self.config, self.model
        text_tokens = None if config.retrieval_first else config.text_tokens
        sampler = AlignedClips(text_tokens, model.config.max_text_tokens, first=config.retrieval_first)
        clips = 1 if config.retrieval_first else config.retrieval_clips
        vectors = np.zeros((len(self.with_captions), model.config.text_config.hidden_size), np.float32)
        blocks = range(0, len(vectors), VIDEOS_AT_ONCE)
        mine = blocks[self.accelerator.process_index :: self.accelerator.num_processes]
        embedded = 0
        for first in tqdm(mine, desc=f"retrieval {epoch}", leave=False, disable=self.log is None):
            videos = self.with_captions[first : first + VIDEOS_AT_ONCE]
            # a block draws the same clips whichever process has it
            drawn = sampler.sample(self.training, videos, clips, _rng(config, epoch, 1 + first, RETRIEVAL))
            z_v, z_t = (z.reshape(len(videos), clips, -1) for z in self._embed(self.training, videos, drawn))
            vectors[first : first + len(videos)] = video_vectors(z_v, z_t)
            embedded += len(videos)
        if self.accelerator.num_processes > 1:
            total = reduce(torch.from_numpy(vectors).to(self.accelerator.device), "sum")
            vectors = total.cpu().numpy()
        return vectors, embedded

    def _update(self, epoch: int, step: int, videos: np.ndarray) -> tuple[float, float, float]:
        """One optimiser update; the loss (mean over processes), the gradient's norm and the rate that was used."""
        config, accelerator = self.config, self.accelerator
        clips = self.sampler.sample(self.training, videos, config.clips_per_video, _rng(config, epoch, step, TRAINING))
        rate = learning_rate(self.progress.update + 1, config.learning_rate, config.warmup_steps, config.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        dropout = _rng(config, epoch, step * accelerator.num_processes + accelerator.process_index, DROPOUT)
        torch.manual_seed(int(dropout.integers(2**63)))
        self.step.train()
        with accelerator.autocast():
            loss = self.step(*self._tensors(self.training, videos, clips))
        if not torch.isfinite(loss):
            raise ValueError(
                f"the loss is {loss.item()} at update {self.progress.update + 1} (epoch {epoch}): lower learning_rate "
                f"({config.learning_rate}), or train in fp32; the last checkpoint is in {self.output}"
            )
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(self.step.parameters(), config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(reduce(loss.detach(), "mean")), float(norm), rate

    def _tensors(self, corpus: Corpus, videos: np.ndarray, clips) -> tuple:
        config, device = self.model.config, self.accelerator.device
        batch = pack(
            corpus,
            videos,
            clips,
            max_video_tokens=config.max_video_tokens,
            max_text_tokens=config.max_text_tokens,
            cls_token_id=config.cls_token_id,
            sep_token_id=config.sep_token_id,
            separate_captions=self.config.sampler == "mil_nce" and corpus is self.training and self.step.training,
        )
        owner = None if batch.owner is None else torch.from_numpy(batch.owner).to(device)
        features, seconds, ids, pieces = (torch.from_numpy(array) for array in batch[:4])
        return features.to(device), seconds, ids.to(device), pieces, owner

    @torch.inference_mode()
    def _embed(self, corpus: Corpus, videos: np.ndarray, clips) -> tuple[np.ndarray, np.ndarray]:
        """z_v and z_t (clips, D) float32 in eval mode."""
        self.step.eval()
        with self.accelerator.autocast():
            z_v, z_t = self.model.embed_packed(*self._tensors(corpus, videos, clips)[:4])
        return z_v.float().cpu().numpy(), z_t.float().cpu().numpy()

    def _validate(self) -> dict:
        """Loss in batches as large as training's, and text-to-video retrieval among all clips, on fixed clips."""
        config, corpus = self.config, self.validation
        videos = np.flatnonzero(np.diff(corpus.caption_offsets))
        sampler = OverlappedClips(config.video_seconds, config.text_tokens, self.model.config.max_text_tokens)
        clips = sampler.sample(corpus, videos, VALIDATION_CLIPS, _rng(config, 0, 0, VALIDATION))
        z_v, z_t = (torch.from_numpy(z) for z in self._embed(corpus, videos, clips))
        size = config.videos_per_batch * VALIDATION_CLIPS
        losses = [info_nce(a, b, config.temperature) for a, b in zip(z_v.split(size), z_t.split(size), strict=True)]
        score = retrieval.score(z_t @ z_v.T)
        row = {"validation_loss": float(torch.stack(losses).mean()), "r1": score.r1, "r5": score.r5, "r10": score.r10}
        return row | {"median_rank": score.median_rank, "n": score.n, "chance_r1": score.chance.r1}

    def _finish(self, epoch: int) -> None:
        if self.validation is not None:
            row = self._validate()
            self._write({"update": self.progress.update, "epoch": epoch} | row)
            if self.progress.best is None or row["validation_loss"] < self.progress.best:
                self.progress.best = row["validation_loss"]
                self._save_weights("best")
        elif epoch == self.config.epochs:
            self._save_weights("best")
        self.progress.epoch, self.progress.step = epoch + 1, 0
        self._save_weights("last")
        self._save([])

    def _save_weights(self, name: str) -> None:
        """A `from_pretrained` folder; the weights are replaced as a whole."""
        if self.log is None:
            return
        folder = self.output / name
        folder.mkdir(exist_ok=True)
        self.model.config.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        weights = {name: value.detach().cpu().contiguous() for name, value in self.model.state_dict().items()}
        write_tensors(folder / "model.safetensors", weights, {"format": "pt"})

    def _save(self, batches: list[np.ndarray]) -> None:
        if self.log is None:
            return
        self.progress.log_rows = self.log.rows
        if self.accelerator.scaler is not None:
            self.progress.scaler = self.accelerator.scaler.state_dict()
        save_state(self.output, self.progress, self.model, self.optimizer.optimizer, batches)

    def _write(self, row: dict) -> None:
        if self.log is None:
            return
        self.log.append(row)
        if self.writer is not None:
            for name, value in row.items():
                if isinstance(value, float):
                    self.writer.add_scalar(name, value, row["update"])
        if self.on_row is not None:
            self.on_row(row)


def _accelerator(config: PretrainConfig) -> Accelerator:
    precision = "no" if config.precision == "fp32" else config.precision
    if AcceleratorState._shared_state and AcceleratorState().mixed_precision != precision:
        # a second run in one notebook may want another precision
        AcceleratorState._reset_state()
    return Accelerator(mixed_precision=precision)


def _claim(output: Path, config: PretrainConfig) -> None:
    """Make `output` this config's own, or refuse if it is another's."""
    output.mkdir(parents=True, exist_ok=True)
    wanted = json.loads(json.dumps(dataclasses.asdict(config)))
    if (output / CONFIG).exists():
        there = json.loads((output / CONFIG).read_text(encoding="utf-8"))
        differing = [f"{k}: {there.get(k)!r} against {v!r}" for k, v in wanted.items() if there.get(k) != v]
        # a longer run is the same run
        differing = [d for d in differing if not d.startswith(("epochs:", "output:"))]
        if differing:
            raise ValueError(
                f"{output} holds a run with other settings ({'; '.join(differing)}): "
                "choose another output, or remove it to start anew"
            )
    text = json.dumps(wanted, indent=1) + "\n"
    replace(output / CONFIG, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _open(path: str, tokenizer, accelerator: Accelerator) -> Corpus:
    with accelerator.main_process_first():
        return Corpus.open(path).tokenize(tokenizer)


def _new_model(config: PretrainConfig, corpus: Corpus) -> VideoCLIPModel:
    spec = None if corpus.spec is None else dataclasses.asdict(corpus.spec)
    values = {"feature_spec": spec, **({} if spec is None else {"video_feature_dim": spec["dim"]})} | config.model
    if config.bert is not None:
        return VideoCLIPModel.from_bert(config.bert, **values)
    return VideoCLIPModel(VideoCLIPConfig(**values))


def _rng(config: PretrainConfig, epoch: int, step: int, purpose: int) -> np.random.Generator:
    return np.random.default_rng([config.seed, epoch, step, purpose])


def _tensorboard(output: Path, update: int):
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(output / "tensorboard"), purge_step=update + 1)


def main(arguments: list[str] | None = None) -> None:
    """`--preset paper|sample` and any field of PretrainConfig as `--name value`."""
    parser = argparse.ArgumentParser(prog="python -m vclip.pretrain", description=__doc__, allow_abbrev=False)
    parser.add_argument("--preset", choices=("paper", "sample"), default="paper")
    parser.add_argument("--field", metavar="VALUE", help="any field of PretrainConfig, for instance --epochs 3")
    known, rest = parser.parse_known_args(arguments)
    if len(rest) % 2 or not all(name.startswith("--") for name in rest[::2]):
        parser.error(f"expected pairs of --name value, got {' '.join(rest)}")
    values = {
        name.removeprefix("--").replace("-", "_"): _value(text)
        for name, text in zip(rest[::2], rest[1::2], strict=True)
    }
    try:
        refuse_unknown(values, (f.name for f in dataclasses.fields(PretrainConfig)), "field of PretrainConfig")
        config = getattr(PretrainConfig, known.preset)(**values)
    except (TypeError, ValueError) as error:
        parser.error(str(error))
    run = pretrain(config)
    print(f"{len(run.losses)} updates, last loss {run.losses[-1]:.3f}; best weights in {run.checkpoint}")


def _value(text: str):
    with contextlib.suppress(ValueError, SyntaxError):
        return ast.literal_eval(text)
    return text


__all__ = [
    "PretrainConfig",
    "Run",
    "exact_alignment",
    "first_32_seconds",
    "learning_rate",
    "mil_nce_clips",
    "pretrain",
    "read_run",
    "retrieve_k",
    "shared_towers",
    "use_cls",
    "without_retrieval",
]

if __name__ == "__main__":
    main()
