"""Runs as small dataclasses: what every run decides, what pre-training adds, and the rows of Table 7 as edits of it."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from os import PathLike, fspath

from vclip.data.text import refuse_unknown
from vclip.tasks.localization import PROBABILITIES


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """What every run decides, whatever it trains for (`vclip.training.trainer`).

    output: folder for checkpoints and log; a run that finds its own state there goes on.
    epochs, seed: passes over the training data; what every random choice comes from.
    learning_rate, betas: peak rate and moments of Adam.
    warmup_steps, total_steps: updates of the linear rise to the peak; length of the linear decay to 0, not of the run.
    clip_norm: largest norm of all gradients together.
    precision: "fp32", "bf16" or "fp16"; Accelerate has no fp16 on a CPU and computes in fp32 there.
    save_every: updates between two states within an epoch; each epoch's end is saved too.
    tensorboard: write its event files beside the log.
    """

    output: str | PathLike[str] = "runs/train"
    epochs: int = 1
    seed: int = 0
    learning_rate: float = 5e-5
    betas: tuple[float, float] = (0.9, 0.98)
    warmup_steps: int = 1000
    total_steps: int = 1_000_000
    clip_norm: float = 2.0
    precision: str = "fp32"
    save_every: int = 1000
    tensorboard: bool = False

    def __new__(cls, **values):
        refuse_unknown(values, (f.name for f in fields(cls)), f"field of {cls.__name__}")
        return super().__new__(cls)

    def __post_init__(self):
        self._one_of("precision", ("fp32", "bf16", "fp16"))
        self._at_least(1, "epochs", "save_every", "total_steps")
        self._at_least(0, "warmup_steps")
        self._positive("learning_rate", "clip_norm")
        self._plain(paths=("output",), tuples=("betas",))

    def _one_of(self, name: str, allowed: Sequence[str]) -> None:
        if (value := getattr(self, name)) not in allowed:
            raise ValueError(f"{name} is one of {', '.join(allowed)}, not {value!r}")

    def _at_least(self, least: int, *names: str) -> None:
        for name in names:
            if not isinstance(value := getattr(self, name), int) or value < least:
                raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}")

    def _positive(self, *names: str) -> None:
        for name in names:
            if not isinstance(value := getattr(self, name), int | float) or not 0 < value < math.inf:
                raise ValueError(f"{name} must be a number above 0, not {value!r}")

    def _plain(self, paths: Sequence[str], tuples: Sequence[str] = ()) -> None:
        """Paths as strings, and as tuples what comes from a file as a list."""
        for name in paths:
            if (path := getattr(self, name)) is not None:
                object.__setattr__(self, name, fspath(path))
        for name in tuples:
            object.__setattr__(self, name, tuple(getattr(self, name)))


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(TrainConfig):
    """All that decides a pre-training run, beside the fields of `TrainConfig`.

    `paper()` is section 4.2 of the paper, `sample()` the same for the corpus that ships.

    corpus, validation: folders of the training corpus and of one of held-out videos; without the latter there is no
        validation, and the last weights count as the best.
    tokenizer: Hugging Face tokenizer, a folder or a hub id.
    bert: a BERT to start from, a folder or a hub id; None: from scratch.
    model: arguments of VideoCLIPConfig that differ from its defaults.
    videos_per_batch, clips_per_video: a batch is their product of pairs, |B| in the paper; of each process, so eight
        make an eighth of the updates.
    sampler: "overlapped" (section 3.3), "aligned" (exactly in time), "mil_nce" (candidate captions, MIL-NCE loss).
    video_seconds, text_tokens: shortest and longest video clip (s) and text clip (word pieces), both included.
    retrieval: train on clusters of similar videos (section 3.4, Algorithm 1); False: on shuffled batches.
    candidates: nearest videos, the seed counted, that a cluster's videos are drawn from; 2k in the paper.
    retrieval_clips: clips a video whose mean is its vector.
    retrieval_first: the vector from its first caption's clip alone, Table 7's "first 32 s".
    temperature: tau of InfoNCE, 1 in the paper.
    micro_batch: clips, or texts, embedded at a time, for a batch that does not fit the memory; None: all of them. The
        gradient is the whole batch's (`vclip.training.large_batches`); the towers' forward pass is computed twice.
    gather_negatives: contrast with the clips of all processes, not of one's own alone as in the paper; InfoNCE only.
    """

    corpus: str | PathLike[str] = "corpus"
    validation: str | PathLike[str] | None = None
    output: str | PathLike[str] = "runs/pretrain"
    tokenizer: str | PathLike[str] = "bert-base-uncased"
    bert: str | PathLike[str] | None = None
    model: dict = field(default_factory=dict)
    epochs: int = 25
    videos_per_batch: int = 32
    clips_per_video: int = 16
    sampler: str = "overlapped"
    video_seconds: tuple[int, int] = (3, 32)
    text_tokens: tuple[int, int] = (8, 64)
    retrieval: bool = True
    candidates: int = 64
    retrieval_clips: int = 16
    retrieval_first: bool = False
    temperature: float = 1.0
    micro_batch: int | None = None
    gather_negatives: bool = False

    def __post_init__(self):
        super().__post_init__()
        self._one_of("sampler", ("overlapped", "aligned", "mil_nce"))
        self._at_least(1, "videos_per_batch", "clips_per_video", "retrieval_clips")
        self._positive("temperature")
        if self.micro_batch is not None:
            self._at_least(1, "micro_batch")
        if self.gather_negatives and self.sampler == "mil_nce":
            raise ValueError("gather_negatives is for InfoNCE: sampler 'mil_nce' contrasts within its process alone")
        if self.retrieval and self.candidates < self.videos_per_batch:
            raise ValueError(
                f"candidates ({self.candidates}) must be at least videos_per_batch ({self.videos_per_batch}): "
                "a cluster's videos are drawn from them"
            )
        self._plain(paths=("corpus", "validation", "tokenizer", "bert"), tuples=("video_seconds", "text_tokens"))

    @classmethod
    def paper(cls, **changes) -> "PretrainConfig":
        """Section 4.2 and projects/retri/videoclip/how2.yaml; `corpus` is yours to name."""
        values: dict = {"bert": "bert-base-uncased", "precision": "fp16"}
        return cls(**values | changes)

    @classmethod
    def sample(cls, **changes) -> "PretrainConfig":
        """The shipped corpus in minutes on two cores: small towers from scratch, 16 clips of 16 videos a batch.

        The learning rate falls to 0 over the run: `total_steps` is 40 an epoch unless given (MiniHowTo has 37).
        """
        from vclip.datasets.minihowto import minihowto

        tower = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 512}
        tower |= {"max_position_embeddings": 96, "vocab_size": 1200}
        values: dict = {
            "corpus": str(minihowto() / "train"),
            "validation": str(minihowto() / "val"),
            "tokenizer": str(minihowto() / "tokenizer"),
            "model": {"video_config": tower, "text_config": tower},
            "epochs": 13,
            "videos_per_batch": 16,
            "candidates": 32,
            "retrieval_clips": 4,
            "learning_rate": 3e-3,
            "warmup_steps": 50,
            "save_every": 10,
        }
        changes.setdefault("total_steps", 40 * changes.get("epochs", values["epochs"]))
        return cls(**values | changes)


def without_retrieval(config: PretrainConfig) -> PretrainConfig:
    """Shuffled batches instead of clusters."""
    return dataclasses.replace(config, retrieval=False)


def exact_alignment(config: PretrainConfig) -> PretrainConfig:
    """A video clip spans exactly its text clip: no overlap, no length of its own."""
    return dataclasses.replace(config, sampler="aligned")


def mil_nce_clips(config: PretrainConfig) -> PretrainConfig:
    """Short clips with several candidate captions, and the MIL-NCE loss."""
    return dataclasses.replace(config, sampler="mil_nce")


def shared_towers(config: PretrainConfig) -> PretrainConfig:
    """One tower for both modalities, as deep as the text tower."""
    model = dict(config.model)
    text = model.pop("text_config", None)
    if text is not None:
        model["video_config"] = text
    return dataclasses.replace(config, model=model | {"share_towers": True})


def retrieve_k(config: PretrainConfig) -> PretrainConfig:
    """A cluster is the k nearest videos, not k drawn from 2k."""
    return dataclasses.replace(config, candidates=config.videos_per_batch)


def first_32_seconds(config: PretrainConfig) -> PretrainConfig:
    """A video's vector comes from the clip of its first caption alone."""
    return dataclasses.replace(config, retrieval_first=True)


def use_cls(config: PretrainConfig) -> PretrainConfig:
    """z_v and z_t are the states of [CLS] instead of means."""
    return dataclasses.replace(config, model=config.model | {"pooling": "cls"})


def learning_rate(update: int, peak: float, warmup: int, total: int) -> float:
    """Linear warm-up to `peak`, then linear decay to 0 at `total`, 0 from there on; `update` counts from 1."""
    if update <= warmup:
        return peak * update / warmup
    if update >= total:
        return 0.0
    return peak * (1 - (update - warmup) / (total - warmup))


# projects/retri/videoclip/{youcook,vttqa,coin,crosstask}_videoclip.yaml
RELEASED: dict[str, dict] = {
    "retrieval": {"epochs": 10, "batch_size": 128},
    "videoqa": {"epochs": 5, "batch_size": 128, "repeats": 20},
    "segmentation": {"epochs": 8, "batch_size": 1, "stride": 8},
    "localization": {"epochs": 5, "batch_size": 1, "stride": 16},
}

# released with fairseq's checkpoint_best, that of the least loss; the other recipes try every epoch on test data
BEST_BY_LOSS = ("segmentation", "localization")

# learning rates and epochs were chosen by scores on validation videos
SAMPLE: dict[str, dict] = {
    "retrieval": {"epochs": 4, "learning_rate": 3e-4},
    "videoqa": {"epochs": 5, "learning_rate": 1e-4, "repeats": 5, "candidates": 48},
    "segmentation": {"epochs": 8, "learning_rate": 1e-3},
    "localization": {"epochs": 5, "learning_rate": 3e-4, "probability": "sigmoid"},
}


@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(TrainConfig):
    """What decides a fine-tuning run, beside the fields of `TrainConfig` and the data, which `finetune` is given.

    `paper(task)` is the released recipe, `sample(task)` suits the data that ship.

    checkpoint: folder or hub id of the model to start from, with its processor.
    batch_size: pairs (retrieval, videoqa) or videos (segmentation, localization) a batch, of each process.
    repeats: visits of a clip an epoch, each with a sentence drawn from all of the clip's. All clips come once before
        any comes again, so that hardly a batch contrasts a clip with itself.
    window, stride: a long video is trained in windows of so many seconds, one every `stride` seconds.
    selection: which epoch is the best is decided by the task's score on "validation" data or, "released", on test data,
        there by the least loss for segmentation and localization.
    held_out: share of the training videos that are held out for validation, where no other videos are given for it.
    candidates: sentences of a validation question (videoqa), of which one is right.
    probability: of a step at a second when validation puts steps (localization), see `localization.assign_steps`:
        "softmax" as released, or "sigmoid", which is what the loss trains.
    """

    output: str | PathLike[str] = "runs/finetune"
    checkpoint: str | PathLike[str] = "checkpoint"
    epochs: int = 10
    warmup_steps: int = 122
    batch_size: int = 1
    repeats: int = 1
    window: int = 32
    stride: int = 16
    selection: str = "validation"
    held_out: float = 0.2
    candidates: int = 5
    probability: str = "softmax"

    def __post_init__(self):
        super().__post_init__()
        self._one_of("selection", ("validation", "released"))
        self._one_of("probability", PROBABILITIES)
        self._at_least(1, "batch_size", "repeats", "window", "stride")
        self._at_least(2, "candidates")
        if self.stride > self.window:
            raise ValueError(f"stride ({self.stride} s) above window ({self.window} s) would leave seconds unseen")
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out is a share between 0 and 1, not {self.held_out}")
        self._plain(paths=("checkpoint",))

    @classmethod
    def paper(cls, task: str, **changes) -> "FinetuneConfig":
        """The released configuration of a task: Adam as in pre-training, a warm-up of 122 updates, 1e6 to decay over.

        Retrieval is YouCook2's; MSR-VTT's is `paper("retrieval", batch_size=224, repeats=20)`, on the split "train" and
        the videos of "test.full" that are not in JSFusion's test. VideoQA has "train" alone. Batches are those of one
        GPU; the authors had 2, and 8 for segmentation.
        `checkpoint` is yours to name.
        Raises TypeError for an unknown task.
        """
        refuse_unknown([task], RELEASED, "task to fine-tune on")
        values: dict = {"precision": "fp16"}
        return cls(**values | RELEASED[task] | changes)

    @classmethod
    def sample(cls, task: str, **changes) -> "FinetuneConfig":
        """The shipped checkpoint on MiniHowTo's training sets, a minute or so on two cores. Raises as `paper`."""
        from vclip.datasets.minihowto import minihowto

        refuse_unknown([task], SAMPLE, "task to fine-tune on")
        values: dict = {"checkpoint": str(minihowto() / "checkpoint"), "warmup_steps": 20, "save_every": 50}
        return cls(**values | RELEASED[task] | SAMPLE[task] | changes)
