"""Table 7's rows as edits of one small config, and the training corpora of the two further experiments."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from shipped import truth

from vclip.data.corpus import Corpus
from vclip.data.text import refuse_unknown
from vclip.datasets._records import Dataset
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

VIDEOS = 8  # in a batch, with 8 clips each: 64 pairs
STEPS = 375  # five epochs of the shipped corpus
LAG = 4.0  # standard deviation (s) of the lag of MiniHowTo's narration
STREAM = 2  # last number of the seed sequence for drawing topics and videos


def ablation_base(corpus: str | Path = "", **changes) -> PretrainConfig:
    """The full method, small enough to train and score on one CPU thread. Every row edits this config.

    Learning rate, width and length were chosen on MiniHowTo's validation videos with the full method alone. A video's
    vector is the mean of 2 clips (16 in the paper), so the row "first 32 s", the vector of one clip, differs less from
    it. Nothing is validated during a run; its last weights count.

    Args:
        corpus: folder of the training corpus; empty for MiniHowTo's. `epochs` follow from its size: every corpus gets
            as many steps, up to part of an epoch.
        **changes: fields of `PretrainConfig` to set instead.

    Returns:
        The config.

    Example:
        >>> ablation_base(seed=3).epochs
        5
    """
    folder = Path(corpus) if corpus else minihowto() / "train"
    tower = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 384}
    tower |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    tower |= {"max_position_embeddings": 96, "vocab_size": 1200}
    values: dict = {
        "corpus": folder,
        "tokenizer": minihowto() / "tokenizer",
        "model": {"video_config": tower, "text_config": tower},
        "epochs": max(1, round(STEPS / max(1, len(Corpus.open(folder)) // VIDEOS))),
        "videos_per_batch": VIDEOS,
        "clips_per_video": 8,
        "candidates": 2 * VIDEOS,
        "retrieval_clips": 2,
        "learning_rate": 3e-3,
        "warmup_steps": 37,
        "total_steps": STEPS,
    }
    return PretrainConfig(**values | changes)


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
class Trial:
    """One run: a row of the table, a seed, and what it trains on.

    Args:
        row: a key of `ROWS`.
        seed: of every random choice.
        corpus: folder of the training corpus; empty for MiniHowTo's.
        lag: standard deviation (s) of the lag of its narration; 4 for MiniHowTo's own.
        among: topics; retrieval is scored among their clips alone, too.
        changes: fields of the base config to set, for another size of the whole table.

    Raises:
        TypeError: the row or a topic is unknown, or `changes` sets the corpus, the seed or the output.
        ValueError: another lag of MiniHowTo's own corpus.

    Example:
        >>> Trial("w/o overlap", seed=0).config().sampler
        'aligned'
    """

    row: str
    seed: int
    corpus: str = ""
    lag: float = LAG
    among: tuple[str, ...] = ()
    changes: dict = field(default_factory=dict)

    def __post_init__(self):
        refuse_unknown([self.row], ROWS, "row of the table")
        refuse_unknown(self.among, all_topics(), "topic")
        if own := {"corpus", "seed", "output"} & self.changes.keys():
            raise TypeError(f"changes hold {', '.join(sorted(own))}: set these by the trial and the cache")
        if not self.corpus and self.lag != LAG:
            raise ValueError(f"the narration that ships lags by {LAG:g} s: for lag {self.lag:g} name its corpus")

    def config(self, output: str | Path = "runs/ablation") -> PretrainConfig:
        """The row's edit of the base config."""
        return ROWS[self.row](ablation_base(self.corpus, **self.changes, seed=self.seed, output=output))


@lru_cache
def topic_of() -> dict[str, str]:
    """{video_id: topic} of MiniHowTo's own videos."""
    return {video_id: topic for (video_id, _), (_, _, topic) in truth().items()}


def all_topics() -> list[str]:
    """The 42 topics of MiniHowTo, sorted."""
    return sorted(set(topic_of().values()))


def draw_topics(number: int, seed: int) -> tuple[str, ...]:
    """Draw topics of MiniHowTo by a random stream of their own: the same for every row of a seed.

    Args:
        number: how many.
        seed: of the draw.

    Returns:
        Their names.

    Raises:
        ValueError: there are fewer topics, or `number` is below 1.

    Example:
        >>> len(draw_topics(3, seed=0))
        3
    """
    topics = all_topics()
    if not 1 <= number <= len(topics):
        raise ValueError(f"cannot draw {number} topics: ask for 1 to {len(topics)}")
    return tuple(str(t) for t in np.random.default_rng([seed, number, STREAM]).choice(topics, number, replace=False))


def topic_corpus(topics: tuple[str, ...], folder: str | Path) -> Corpus:
    """Make a corpus of the training videos of some topics; one that is already in `folder` is opened.

    Args:
        topics: names of topics.
        folder: where the corpus lies.

    Returns:
        The corpus.

    Raises:
        TypeError: a topic is unknown.
        ValueError: `folder` holds a corpus of other videos.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     len(topic_corpus(("space lunch",), folder))
        14
    """
    refuse_unknown(topics, all_topics(), "topic")
    whole = Corpus.open(minihowto() / "train")
    return _part(whole, [video_id for video_id in whole.video_ids if topic_of()[video_id] in topics], folder)


def spread_corpus(number: int, seed: int, folder: str | Path) -> Corpus:
    """Make a corpus of a few training videos that show as many topics as they can.

    Topics take turns in random order, each with a random video. Beside a `topic_corpus` of as many videos, only the
    number of topics differs.

    Args:
        number: how many videos.
        seed: of the draw.
        folder: where the corpus lies; one that is already there is opened.

    Returns:
        The corpus.

    Raises:
        ValueError: there are fewer videos, `number` is below 1, or `folder` holds a corpus of other videos.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     corpus = spread_corpus(5, seed=0, folder=folder)
        ...     len({topic_of()[video_id] for video_id in corpus.video_ids})
        5
    """
    whole = Corpus.open(minihowto() / "train")
    rng, turns = np.random.default_rng([seed, number, STREAM]), dict.fromkeys(all_topics(), 0)
    if not 1 <= number <= len(whole):
        raise ValueError(f"cannot draw {number} videos: ask for 1 to {len(whole)}")
    first = {topic: place for place, topic in enumerate(rng.permutation(list(turns)))}
    order = []
    for video_id in rng.permutation(whole.video_ids):
        topic = topic_of()[video_id]
        order.append((turns[topic], first[topic], video_id))
        turns[topic] += 1
    chosen = {video_id for _, _, video_id in sorted(order)[:number]}
    return _part(whole, [video_id for video_id in whole.video_ids if video_id in chosen], folder)


def _part(whole: Corpus, video_ids: list[str], folder: str | Path) -> Corpus:
    """The corpus of some videos of `whole` in `folder`, made unless it is there."""
    folder = Path(folder)
    if (folder / "corpus.json").is_file():
        found = Corpus.open(folder)
        if found.video_ids != video_ids:
            raise ValueError(f"{folder} holds a corpus of other videos: name another folder or remove it")
        return found
    assert whole.spec is not None
    places = [whole.index(video_id) for video_id in video_ids]
    rows = ((whole.video_ids[i], whole.features(i), whole.captions(i)) for i in places)
    return Corpus.create(folder, whole.spec, rows, split=whole.split, licence=whole.licence)


def of_topics(dataset: Dataset, topics: tuple[str, ...]) -> Dataset:
    """The records of MiniHowTo's clips whose video shows one of `topics`."""
    records = [record for record in dataset if topic_of()[record.video_id] in topics]
    return Dataset(f"{dataset.name}, {len(topics)} topics", dataset.split, records, dataset.tasks)
