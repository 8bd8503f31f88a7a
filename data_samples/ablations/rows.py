"""Table 7's rows as edits of a config, and one run: a row, what it trains on and what it is scored on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from worlds import epochs_for, is_world, world_base

from vclip.data.corpus import Corpus
from vclip.data.text import refuse_unknown
from vclip.datasets.minihowto import minihowto
from vclip.training.config import (
    PretrainConfig,
    exact_alignment,
    first_32_seconds,
    mil_nce_clips,
    retrieve_k,
    shared_towers,
    use_cls,
    without_retrieval,
)

VIDEOS = 32  # in a batch, with 2 clips each: 64 pairs
STEPS = 375  # some twenty epochs of the shipped corpus


def ablation_base(corpus: str | Path = "", **changes) -> PretrainConfig:
    """The full method, small enough to train and score on one CPU thread. Every row edits this config.

    Clips are those of `PretrainConfig.sample`, with narrower towers, no dropout and a quarter of the pairs. Learning
    rate and width were chosen on MiniHowTo's validation videos with the full method alone. A video's vector is the mean
    of 2 clips (16 in the paper), so the row "first 32 s", the vector of one clip, differs less from it. Nothing is
    validated during a run; its last weights count.

    Args:
        corpus: folder of the training corpus; empty for MiniHowTo's.
        **changes: fields of `PretrainConfig` to set instead. Warm-up and `epochs` follow from `total_steps`, the latter
            up to part of an epoch.

    Returns:
        The config.

    Example:
        >>> ablation_base(seed=3).epochs
        21
    """
    folder = Path(corpus) if corpus else minihowto() / "train"
    steps, videos = changes.get("total_steps", STEPS), changes.get("videos_per_batch", VIDEOS)
    tower = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 384}
    tower |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    tower |= {"max_position_embeddings": 96, "vocab_size": 1200}
    values: dict = {
        "corpus": folder, "validation": None,
        "model": {"max_video_tokens": 10, "video_config": tower, "text_config": tower},
        "epochs": epochs_for(steps, len(Corpus.open(folder)), videos), "warmup_steps": steps // 10,
        "videos_per_batch": videos, "clips_per_video": 2, "candidates": 2 * videos, "total_steps": steps,
        "save_every": 1000,
    }  # fmt: skip
    return PretrainConfig.sample(**values | changes)


def full(config: PretrainConfig) -> PretrainConfig:
    """The method as published."""
    return config


def without_retrieval_and_overlap(config: PretrainConfig) -> PretrainConfig:
    """Shuffled batches of exactly aligned clips."""
    return exact_alignment(without_retrieval(config))


# Table 7 in its order, as we read it; the last row is ours. The third and fourth rows change two things (retrieval and
# clips; clips and loss). "w/o retrieval" shuffles the videos; the released code takes them in consecutive groups.
ROWS: dict[str, Callable[[PretrainConfig], PretrainConfig]] = {
    "full": full,
    "w/o retrieval": without_retrieval,
    "w/o retrieval and overlap": without_retrieval_and_overlap,
    "MIL-NCE clips and loss": mil_nce_clips,
    "shared towers": shared_towers,
    "retrieve k": retrieve_k,
    "first 32 s for retrieval": first_32_seconds,
    "[CLS]": use_cls,
    "w/o overlap": exact_alignment,
}


@dataclass(frozen=True)
class Scored:
    """One task on one data set, to score instead of MiniHowTo's sets.

    Args:
        dataset: a module of `vclip.datasets`, such as "youcook2".
        task: a task of its records, such as "retrieval".
        annotations: folder of the official files.
        features: folder of a corpus of the videos.
        options: of the data set's `load`, such as `{"split": "multiple_choice"}`.

    Example:
        >>> Scored("youcook2", "retrieval", "youcook2", "features").options
        {}
    """

    dataset: str
    task: str
    annotations: str
    features: str
    options: dict = field(default_factory=dict)


@dataclass(frozen=True)
class Trial:
    """One run: a row of the table, a seed, what it trains on and what it is scored on.

    Args:
        row: a key of `ROWS`.
        seed: of every random choice.
        corpus: folder of the training corpus, or of a world as `worlds.make` writes it; empty for MiniHowTo's.
        setting: {name: value} that tells this run from others of its row in tables; it decides nothing.
        changes: fields of the base config to set. The base is `ablation_base`, or `world_base` for a world.
        scored: what to score; None for the world's test set, or MiniHowTo's sets.
        paper: the base is `PretrainConfig.paper`, for a corpus of real videos.

    Raises:
        TypeError: the row is unknown, or `changes` sets the corpus, the seed or the output.
        ValueError: `paper` without a corpus and what to score.

    Example:
        >>> Trial("w/o overlap", seed=0).config().sampler
        'aligned'
    """

    row: str
    seed: int
    corpus: str = ""
    setting: dict = field(default_factory=dict)
    changes: dict = field(default_factory=dict)
    scored: Scored | None = None
    paper: bool = False

    def __post_init__(self):
        refuse_unknown([self.row], ROWS, "row of the table")
        if self.paper and not (self.corpus and self.scored):
            raise ValueError("the paper's config is for real videos: name a corpus, and what to score")
        if own := {"corpus", "seed", "output"} & self.changes.keys():
            raise TypeError(f"changes hold {', '.join(sorted(own))}: set these by the trial and the cache")

    def config(self, output: str | Path = "runs/ablation") -> PretrainConfig:
        """The row's edit of the base config."""
        changes = self.changes | {"seed": self.seed, "output": output}
        if self.paper:
            return ROWS[self.row](PretrainConfig.paper(corpus=self.corpus, **changes))
        return ROWS[self.row](
            world_base(self.corpus, **changes) if self.world else ablation_base(self.corpus, **changes)
        )

    @property
    def world(self) -> bool:
        """Whether it trains in a world of numbers."""
        return bool(self.corpus) and is_world(self.corpus)

    @property
    def data(self) -> str:
        """The name of what it trains on."""
        return "world" if self.world else Path(self.corpus).name if self.corpus else "MiniHowTo"

    def to_score(self) -> Scored | None:
        """What to score instead of MiniHowTo's sets."""
        if self.scored is None and self.world:
            folder = Path(self.corpus)
            return Scored("youcook2", "retrieval", str(folder / "youcook2" / "test"), str(folder / "test"))
        return self.scored
