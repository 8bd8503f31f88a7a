"""Pre-training: clusters of similar videos, overlapped clips, InfoNCE (paper sections 3 and 5.3)."""

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object, reduce
from tokenizers import BertWordPieceTokenizer
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import AutoTokenizer, BertTokenizer

from vclip.data.corpus import Corpus
from vclip.data.samplers import AlignedClips, OverlappedClips
from vclip.data.storage import new_folder
from vclip.encoders.loading import encoder_files
from vclip.losses import info_nce, mil_nce
from vclip.models.config import VideoCLIPConfig
from vclip.models.locked_text import LockedText, LockedTextModel
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.videoclip import VideoCLIPModel
from vclip.models.videoclip_encoder import VideoCLIP
from vclip.tasks import retrieval
from vclip.training.batches import embed_clips, embed_in_mini_batches, gather_embeddings, packed_tensors
from vclip.training.checkpoint import Run, claim, data_hash, read_run
from vclip.training.clusters import VideoIndex, sample_clusters, shuffled_batches, video_vectors
from vclip.training.config import PretrainConfig, sampler_of
from vclip.training.trainer import ORDER, REFRESH, VALIDATION, Trainer, random_stream, start_accelerator

SPECIAL = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}  # as in bert-base-uncased
VIDEOS_AT_ONCE = 64
VALIDATION_CLIPS = 4
OUT_OF_SCALE = 0.5  # fraction of a video's pairs of clips that overlap
SPANS_OF = 256  # videos whose clips are compared


def pretrain(config: PretrainConfig, on_row: Callable[[dict], None] | None = None) -> Run:
    """Train from scratch, from a BERT or on top of a dual encoder, or go on where the run in `config.output` stopped.

    A finished run is only read. The run's folder holds `log.jsonl` (a row for each optimizer step, epoch and retrieval
    stage), `best/` and `last/` (for `vclip.load`), `state.safetensors` and `pretrain.json`.

    Args:
        config: settings, `PretrainConfig.sample()` or `.paper(corpus=...)` for instance.
        on_row: called with each row of the log.

    Raises:
        ValueError: if `output` holds another run or something else, or features or tokenizer are not the model's.
        RuntimeError: while another process trains in `output`.
        OSError: if the disk is full; the last checkpoint is whole.
        KeyboardInterrupt: after Ctrl-C; it says from which step the next start goes on.

    Example:
        >>> import tempfile, vclip
        >>> with tempfile.TemporaryDirectory() as output:
        ...     config = PretrainConfig.sample(epochs=1, clips_per_video=2, retrieval=False, output=output)
        ...     run = pretrain(config)
        >>> len(run.losses), run.scores[0]["n"]
        (9, 256)
    """
    accelerator = start_accelerator(config)
    torch.manual_seed(config.seed)
    corpora = [Corpus.open(path) for path in (config.corpus, config.validation) if path]
    with claim(config, accelerator, "pretrain.json", {f"data of {c.path}": data_hash(c) for c in corpora}):
        clip = _new_clip(config, accelerator, corpora[0])
        with accelerator.main_process_first():
            training, *rest = [Corpus.open(corpus.path).tokenize(clip.tokenizer) for corpus in corpora]
        for corpus in (training, *rest):
            clip.check(corpus)
        objective = Contrast(config, accelerator, clip.model, training, *rest)
        if accelerator.is_main_process and config.clips_per_video > 1:
            warn_of_scale(training, config)
        steps = config.epochs * (len(objective.videos) // (config.videos_per_batch * accelerator.num_processes))
        if steps <= config.warmup_steps:
            what = f"the run ends after {steps} optimizer steps, within its warm-up of {config.warmup_steps}"
            warnings.warn(f"{what}: lower warmup_steps and total_steps, or take PretrainConfig.small", stacklevel=2)
        beside = encoder_files(training.spec, training.path) if training.spec else []
        Trainer(config, accelerator, clip, objective, on_row, beside=beside).run()
    return read_run(config.output)


def _new_clip(config: PretrainConfig, accelerator: Accelerator, corpus: Corpus) -> VideoCLIP:
    model = new_model(config, corpus).to(accelerator.device)
    if isinstance(model, LockedTextModel):
        return LockedText(model)
    with accelerator.main_process_first():
        words = model.config.text_config.vocab_size
        own = config.tokenizer or config.bert or own_word_pieces(corpus, Path(config.output), words)
        tokenizer = AutoTokenizer.from_pretrained(own, trust_remote_code=False)
    return VideoCLIP(model, VideoCLIPProcessor(tokenizer, model.config.max_text_tokens, model.config.max_video_tokens))


def own_word_pieces(corpus: Corpus, output: Path, size: int) -> Path:
    """A tokenizer of at most `size` lower-case word pieces of a corpus's captions, made in a run's folder once."""
    folder = output / f".tokenizer-{size}-{data_hash(corpus)}"
    if not folder.is_dir():
        special = [SPECIAL.get(i, f"[unused{i}]") for i in range(104)]
        pieces, texts = BertWordPieceTokenizer(lowercase=True), (text.as_py() for text in corpus.caption_text)
        pieces.train_from_iterator(texts, size, min_frequency=2, show_progress=False, special_tokens=special)
        made = BertTokenizer(vocab=pieces.get_vocab(), do_lower_case=True, model_max_length=512)
        with new_folder(folder) as making:
            made.save_pretrained(making)
    return folder


def drawn_spans(corpus: Corpus, config: PretrainConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Some videos (V,) of a corpus with tokens, and starts and ends (V, n) of n clips of each, drawn as in a run."""
    rng, n = np.random.default_rng(0), max(2, config.clips_per_video)
    videos = rng.permutation(np.flatnonzero(np.diff(corpus.caption_offsets)))[:SPANS_OF]
    drawn = sampler_of(config).sample(corpus, videos, n, rng)
    end = np.minimum(drawn.video_end, drawn.video_start + config.model.get("max_video_tokens", 32))
    return videos, drawn.video_start.reshape(-1, n), end.reshape(-1, n)


def overlapping(start: np.ndarray, end: np.ndarray) -> float:
    """Fraction of the pairs of clips of one video that share a second."""
    first, second = np.triu_indices(start.shape[1], 1)
    return float(np.mean(np.minimum(end[:, first], end[:, second]) > np.maximum(start[:, first], start[:, second])))


def warn_of_scale(corpus: Corpus, config: PretrainConfig) -> None:
    """Warn where most clips of a video overlap in time: each is then a false negative of the others."""
    _, *spans = drawn_spans(corpus, config)
    shared = overlapping(*spans)
    if shared > OUT_OF_SCALE:
        what = f"{shared:.0%} of the pairs of clips of one video overlap in time (in the paper's data 9%)"
        remedy = "take fewer clips_per_video, or shorter video_seconds and text_tokens"
        warnings.warn(f"{what}, so that many negatives are false: {remedy}", stacklevel=3)


def new_model(config: PretrainConfig, corpus: Corpus) -> VideoCLIPModel:
    """The model that a run starts from: `config.bert`'s towers, or from scratch, for the corpus's features.

    Towers from scratch end in a LayerNorm of weight D ** -0.25, so that the first similarities are as small as
    attention's products, q . k / sqrt(D), and the first loss is that of chance, 2 ln |B|; 0 for a locked text.
    """
    spec = None if corpus.spec is None else dataclasses.asdict(corpus.spec)
    locked = config.text == "locked"
    values = {"feature_spec": spec, "video_feature_dim": corpus.dim, "text": "locked" if locked else "free"}
    values |= config.model
    if config.bert is not None:
        model = VideoCLIPModel.from_bert(config.bert, **values)
        if config.text == "frozen":
            for part in model.towers[-1].requires_grad_(False).modules():
                if isinstance(part, nn.Dropout):
                    part.p = 0.0
        return model
    model = (LockedTextModel if locked else VideoCLIPModel)(VideoCLIPConfig(**values))
    for tower in model.towers:
        last: Any = tower.encoder.layer[-1]
        nn.init.constant_(last.output.LayerNorm.weight, 0 if locked else tower.config.hidden_size**-0.25)
    return model


class Contrast:
    """The objective of `pretrain`: a batch holds positions of videos in the training corpus."""

    def __init__(
        self,
        config: PretrainConfig,
        accelerator: Accelerator,
        model: VideoCLIPModel,
        training: Corpus,
        validation: Corpus | None = None,
    ):
        self.config, self.accelerator, self.model = config, accelerator, model
        self.training, self.validation = training, validation
        self.videos = np.flatnonzero(np.diff(training.caption_offsets))
        if validation is not None:
            self.held_out = np.flatnonzero(np.diff(validation.caption_offsets))
        elif config.held_out:
            self.validation, drawn = training, random_stream(config.seed, 0, 0, ORDER).permutation(self.videos)
            self.held_out, self.videos = map(np.sort, np.split(drawn, [max(1, round(config.held_out * len(drawn)))]))
        if len(self.videos) < config.videos_per_batch * accelerator.num_processes:
            raise ValueError(
                f"{config.corpus} has {len(self.videos)} videos with captions, fewer than videos_per_batch "
                f"({config.videos_per_batch}) on {accelerator.num_processes} processes: make it smaller"
            )
        if validation is not None and not len(validation.caption_start):
            raise ValueError(f"{config.validation} has no captions to validate on: name another corpus, or None")
        longest = model.config.max_text_tokens
        self.sampler = sampler_of(config, longest)
        self.validation_sampler = OverlappedClips(config.video_seconds, config.text_tokens, longest)

    def batches(self, epoch: int, write: Callable[[dict], None]) -> list[np.ndarray]:
        """Algorithm 1, lines 2 to 5: |C| = videos / k clusters of similar videos; or the videos shuffled."""
        config, accelerator = self.config, self.accelerator
        rng = random_stream(config.seed, epoch, 0, ORDER)
        if not config.retrieval:
            batches = shuffled_batches(len(self.videos), config.videos_per_batch, rng)
        else:
            write({"stage": "retrieval"})
            vectors, embedded = self.video_vectors(epoch)
            write({"videos_embedded": gather_object([embedded])})
            index, count = VideoIndex(vectors, device=accelerator.device), len(vectors) // config.videos_per_batch
            batches = sample_clusters(index, count, config.videos_per_batch, config.candidates, rng, accelerator)
        return [self.videos[batch] for batch in batches]

    def video_vectors(self, epoch: int) -> tuple[np.ndarray, int]:
        """Vectors (N, D) of all videos with captions, the same on every process, and how many this one embedded."""
        config = self.config
        text_tokens, clips = (None, 1) if config.retrieval_first else (config.text_tokens, config.retrieval_clips)
        sampler = AlignedClips(text_tokens, self.model.config.max_text_tokens, first=config.retrieval_first)
        vectors = np.zeros((len(self.videos), self.model.config.text_config.hidden_size), np.float32)
        blocks = range(0, len(vectors), VIDEOS_AT_ONCE)
        mine = blocks[self.accelerator.process_index :: self.accelerator.num_processes]
        embedded, silent = 0, not self.accelerator.is_main_process
        for first in tqdm(mine, desc=f"retrieval {epoch}", leave=False, mininterval=REFRESH, disable=silent, delay=5):
            videos = self.videos[first : first + VIDEOS_AT_ONCE]
            # a block draws the same clips whichever process has it
            rng = random_stream(config.seed, epoch, 1 + first, ORDER)
            embeddings = self._embed(self.training, videos, sampler.sample(self.training, videos, clips, rng))
            z_v, z_t = (z.reshape(len(videos), clips, -1) for z in embeddings)
            vectors[first : first + len(videos)] = video_vectors(z_v, z_t)
            embedded += len(videos)
        if self.accelerator.num_processes > 1:
            total = reduce(torch.from_numpy(vectors).to(self.accelerator.device), "sum")
            vectors = torch.as_tensor(total).cpu().numpy()
        return vectors, embedded

    def inputs(self, batch: np.ndarray, rng: np.random.Generator) -> tuple:
        clips = self.sampler.sample(self.training, batch, self.config.clips_per_video, rng)
        return packed_tensors(self.model, self.training, batch, clips, self.config.sampler == "mil_nce")

    def loss(self, model: VideoCLIPModel, *packed: Any) -> Tensor:
        """The loss of one packed batch, from `packed_tensors`: MIL-NCE where text rows have owners, else InfoNCE."""
        *batch, owner = packed
        z_v, z_t = embed_in_mini_batches(model, *batch, size=self.config.mini_batch_size)
        if owner is not None:
            return mil_nce(z_v, z_t, owner)
        if self.config.gather_negatives:
            z_v, z_t = gather_embeddings(z_v, z_t)
        return info_nce(z_v, z_t, self.config.temperature)

    def validate(self) -> tuple[dict, float] | None:
        """InfoNCE in batches of `videos_per_batch` videos, and text-to-video retrieval among all, on fixed clips."""
        config, corpus = self.config, self.validation
        if corpus is None:
            return None
        rng = random_stream(config.seed, 0, 0, VALIDATION)
        losses, embedded = [], []
        for first in range(0, len(self.held_out), config.videos_per_batch):
            group = self.held_out[first : first + config.videos_per_batch]
            clips = self.validation_sampler.sample(corpus, group, VALIDATION_CLIPS, rng)
            z_v, z_t = (torch.from_numpy(z) for z in self._embed(corpus, group, clips))
            losses.append(float(info_nce(z_v, z_t, config.temperature)))
            embedded.append((z_v, z_t))
        z_v, z_t = (torch.cat(z) for z in zip(*embedded, strict=True))
        found = retrieval.score(z_t @ z_v.T)
        row = {"validation_loss": float(np.mean(losses)), "n": found.n, **found.values(), "chance_r1": found.chance.r1}
        return row, row["validation_loss"]

    def _embed(self, corpus: Corpus, videos: np.ndarray, clips) -> tuple[np.ndarray, np.ndarray]:
        with self.accelerator.autocast():
            return embed_clips(self.model, corpus, videos, clips)
