"""The epochs of a pre-training run: retrieval stage, updates, validation, checkpoints."""

import contextlib
import ctypes
import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, reduce
from torch import Tensor, nn
from tqdm.auto import tqdm

from vclip.batching import VideoIndex, sample_clusters, shuffled_batches, video_vectors
from vclip.corpus import Corpus
from vclip.embedding import embed_clips, packed_tensors
from vclip.losses import info_nce, mil_nce
from vclip.model import VideoCLIPModel
from vclip.processing import VideoCLIPProcessor
from vclip.recipe import PretrainConfig, learning_rate
from vclip.samplers import AlignedClips, MILNCEClips, OverlappedClips
from vclip.state import Log, Progress, load_state, save_state, write_tensors
from vclip.tasks import retrieval

VIDEOS_AT_ONCE = 64
VALIDATION_CLIPS = 4
REFRESH = 10.0  # seconds between two steps of a progress bar: a notebook's client drops messages beyond a thousand
# what a random stream is for; the last number of its seed sequence
TRAINING, RETRIEVAL, VALIDATION, DROPOUT = range(4)


class ContrastiveStep(nn.Module):
    """The loss of one packed batch, as one module so that several processes can average its gradients."""

    def __init__(self, model: VideoCLIPModel, temperature: float):
        super().__init__()
        self.model, self.temperature = model, temperature

    def forward(self, features: Tensor, seconds: Tensor, ids: Tensor, pieces: Tensor, owner: Tensor | None) -> Tensor:
        z_v, z_t = self.model.embed_packed(features, seconds, ids, pieces)
        return info_nce(z_v, z_t, self.temperature) if owner is None else mil_nce(z_v, z_t, owner)


class Trainer:
    """A run from its last state, or its beginning, to its end. All randomness comes from (seed, epoch, step)."""

    def __init__(
        self,
        config: PretrainConfig,
        accelerator: Accelerator,
        model: VideoCLIPModel,
        processor: VideoCLIPProcessor,
        training: Corpus,
        validation: Corpus | None,
        on_row: Callable[[dict], None] | None,
    ):
        self.config, self.accelerator, self.model, self.processor = config, accelerator, model, processor
        self.training, self.validation = training, validation
        self.on_row, self.output = on_row, Path(config.output)
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
        self.videos = np.flatnonzero(np.diff(training.caption_offsets))
        if len(self.videos) < config.videos_per_batch * accelerator.num_processes:
            raise ValueError(
                f"{config.corpus} has {len(self.videos)} videos with captions, fewer than videos_per_batch "
                f"({config.videos_per_batch}) on {accelerator.num_processes} processes: take a smaller videos_per_batch"
            )
        if validation is not None and not len(validation.caption_start):
            raise ValueError(f"{config.validation} has no captions to validate on: name another corpus, or None")
        self.sampler: OverlappedClips | AlignedClips | MILNCEClips
        if config.sampler == "overlapped":
            self.sampler = OverlappedClips(config.video_seconds, config.text_tokens, model.config.max_text_tokens)
        elif config.sampler == "aligned":
            self.sampler = AlignedClips(config.text_tokens, model.config.max_text_tokens)
        else:
            self.sampler = MILNCEClips()
        self.step = accelerator.prepare(ContrastiveStep(model, config.temperature))
        self.optimizer = accelerator.prepare(optimizer)
        if accelerator.scaler is not None and progress.scaler:
            accelerator.scaler.load_state_dict(progress.scaler)

    def run(self) -> None:
        """Every epoch that is left, the first with the batches it was interrupted in."""
        for epoch in range(self.progress.epoch, self.config.epochs + 1):
            self.run_epoch(epoch, self._unfinished or self._batches(epoch))
            self._unfinished = []

    def run_epoch(self, epoch: int, batches: list[np.ndarray]) -> None:
        """The updates of an epoch from `progress.step` on, then validation and checkpoints."""
        config, rank, world = self.config, self.accelerator.process_index, self.accelerator.num_processes
        steps = range(self.progress.step, len(batches) // world)
        bar = tqdm(
            steps, desc=f"epoch {epoch}/{config.epochs}", leave=False, mininterval=REFRESH, disable=self.log is None
        )
        for step in bar:
            loss, norm, rate = self._update(epoch, step, batches[step * world + rank])
            self.progress.step, self.progress.update = step + 1, self.progress.update + 1
            self._write(epoch, {"loss": loss, "learning_rate": rate, "grad_norm": norm})
            bar.set_postfix(loss=f"{loss:.3f}", refresh=False)
            if self.progress.update % config.save_every == 0:
                self._save_state(batches)
        self._finish(epoch)

    def _batches(self, epoch: int) -> list[np.ndarray]:
        """Algorithm 1, lines 2 to 5: |C| = videos / k clusters of similar videos; or the videos shuffled."""
        config, rng = self.config, self._rng(epoch, 0, RETRIEVAL)
        if not config.retrieval:
            batches = shuffled_batches(len(self.videos), config.videos_per_batch, rng)
        else:
            self._write(epoch, {"stage": "retrieval"})
            vectors, embedded = self._video_vectors(epoch)
            digests = gather_object([hashlib.sha256(vectors.tobytes()).hexdigest()[:16]])
            self._write(epoch, {"videos_embedded": gather_object([embedded]), "index": digests})
            index, count = VideoIndex(vectors), len(vectors) // config.videos_per_batch
            batches = sample_clusters(index, count, config.videos_per_batch, config.candidates, rng)
        return [self.videos[batch] for batch in batches]

    def _video_vectors(self, epoch: int) -> tuple[np.ndarray, int]:
        """Vectors (N, D) of all videos with captions, the same on every process; each embeds its share once."""
        config = self.config
        text_tokens, clips = (None, 1) if config.retrieval_first else (config.text_tokens, config.retrieval_clips)
        sampler = AlignedClips(text_tokens, self.model.config.max_text_tokens, first=config.retrieval_first)
        vectors = np.zeros((len(self.videos), self.model.config.text_config.hidden_size), np.float32)
        blocks = range(0, len(vectors), VIDEOS_AT_ONCE)
        mine = blocks[self.accelerator.process_index :: self.accelerator.num_processes]
        embedded = 0
        short = self.log is None or len(mine) < 32  # a few seconds
        for first in tqdm(mine, desc=f"retrieval {epoch}", leave=False, mininterval=REFRESH, disable=short):
            videos = self.videos[first : first + VIDEOS_AT_ONCE]
            # a block draws the same clips whichever process has it
            drawn = sampler.sample(self.training, videos, clips, self._rng(epoch, 1 + first, RETRIEVAL))
            z_v, z_t = (z.reshape(len(videos), clips, -1) for z in self._embed(self.training, videos, drawn))
            vectors[first : first + len(videos)] = video_vectors(z_v, z_t)
            embedded += len(videos)
        if self.accelerator.num_processes > 1:
            total = reduce(torch.from_numpy(vectors).to(self.accelerator.device), "sum")
            vectors = torch.as_tensor(total).cpu().numpy()
        return vectors, embedded

    def _update(self, epoch: int, step: int, videos: np.ndarray) -> tuple[float, float, float]:
        """One optimiser update: the loss (mean over processes), the gradient's norm, and the rate that was used."""
        config, accelerator = self.config, self.accelerator
        stream = step * accelerator.num_processes + accelerator.process_index
        clips = self.sampler.sample(self.training, videos, config.clips_per_video, self._rng(epoch, stream, TRAINING))
        rate = learning_rate(self.progress.update + 1, config.learning_rate, config.warmup_steps, config.total_steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        torch.manual_seed(int(self._rng(epoch, stream, DROPOUT).integers(2**63)))
        self.step.train()
        separate = config.sampler == "mil_nce"
        loss = self.step(*packed_tensors(self.model, self.training, videos, clips, separate))
        if not torch.isfinite(loss):
            raise ValueError(
                f"the loss is {loss.item()} at update {self.progress.update + 1} (epoch {epoch}): lower learning_rate "
                f"({config.learning_rate}) or train in fp32; the last checkpoint is in {self.output}"
            )
        accelerator.backward(loss)
        norm = accelerator.clip_grad_norm_(self.step.parameters(), config.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(torch.as_tensor(reduce(loss.detach(), "mean"))), float(torch.as_tensor(norm)), rate

    def _embed(self, corpus: Corpus, videos: np.ndarray, clips) -> tuple[np.ndarray, np.ndarray]:
        with self.accelerator.autocast():
            return embed_clips(self.model, corpus, videos, clips)

    def _validate(self, corpus: Corpus) -> dict:
        """InfoNCE in batches of `videos_per_batch` videos, and text-to-video retrieval among all, on fixed clips."""
        config = self.config
        videos = np.flatnonzero(np.diff(corpus.caption_offsets))
        sampler = OverlappedClips(config.video_seconds, config.text_tokens, self.model.config.max_text_tokens)
        rng = self._rng(0, 0, VALIDATION)
        losses, embedded = [], []
        for first in range(0, len(videos), config.videos_per_batch):
            group = videos[first : first + config.videos_per_batch]
            clips = sampler.sample(corpus, group, VALIDATION_CLIPS, rng)
            z_v, z_t = (torch.from_numpy(z) for z in self._embed(corpus, group, clips))
            losses.append(float(info_nce(z_v, z_t, config.temperature)))
            embedded.append((z_v, z_t))
        z_v, z_t = (torch.cat(z) for z in zip(*embedded, strict=True))
        score = retrieval.score(z_t @ z_v.T)
        values = dataclasses.asdict(score)
        chance = values.pop("chance")
        return {"validation_loss": float(np.mean(losses)), **values, "chance_r1": chance["r1"]}

    def _finish(self, epoch: int) -> None:
        if self.validation is not None:
            row = self._validate(self.validation)
            self._write(epoch, row)
            if self.progress.best is None or row["validation_loss"] < self.progress.best:
                self.progress.best = row["validation_loss"]
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

    def _rng(self, epoch: int, step: int, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, epoch, step, purpose])


def return_memory() -> None:
    """Give freed memory back to the system, where the C library is glibc.

    Its heap keeps freed tensors below 32 MB, and batches of ever new shapes leave ever more holes in it: of 1.5 GB
    after an epoch of the sample recipe 0.5 were in use, and a run of 13 epochs held 3.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def _tensorboard(output: Path, update: int):
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(output / "tensorboard"), purge_step=update + 1)
