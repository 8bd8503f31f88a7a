"""Table 7's rows as edits of one small config, and the corpora that the two further experiments train on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from vclip.data.corpus import Corpus
from vclip.data.text import refuse_unknown
from vclip.datasets._records import Dataset
from vclip.datasets.minihowto import minihowto, truth
from vclip.training.config import PretrainConfig
from vclip.training.table7 import (
    exact_alignment,
    first_32_seconds,
    mil_nce_clips,
    retrieve_k,
    shared_towers,
    use_cls,
    without_retrieval,
)

VIDEOS = 8  # a batch; with as many clips of each, 64 pairs
UPDATES = 375  # five epochs of the shipped corpus
LAG = 4.0  # standard deviation (s) of the lag of MiniHowTo's narration
STREAM = 2  # last number of the seed sequence that draws topics and videos


def ablation_base(corpus: str | Path = "", **changes) -> PretrainConfig:
    """The full method at a size that a single CPU thread can train and score: what every row edits.

    `corpus` is the training corpus's folder, MiniHowTo's by default; `epochs` follow from its size, so that any corpus
    gets as many updates, up to part of an epoch. Learning rate, width and length were chosen on MiniHowTo's validation
    videos by the full method alone. A video's vector is the mean of 2 clips (16 in the paper), which brings the row
    "first 32 s", the vector of one, nearer to it. There is no validation during a run: its last weights count.
    """
    folder = Path(corpus) if corpus else minihowto() / "train"
    tower = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 384}
    tower |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    tower |= {"max_position_embeddings": 96, "vocab_size": 1200}
    values: dict = {
        "corpus": folder,
        "tokenizer": minihowto() / "tokenizer",
        "model": {"video_config": tower, "text_config": tower},
        "epochs": max(1, round(UPDATES / max(1, len(Corpus.open(folder)) // VIDEOS))),
        "videos_per_batch": VIDEOS,
        "clips_per_video": 8,
        "candidates": 2 * VIDEOS,
        "retrieval_clips": 2,
        "learning_rate": 3e-3,
        "warmup_steps": 37,
        "total_steps": UPDATES,
    }
    return PretrainConfig(**values | changes)


def full(config: PretrainConfig) -> PretrainConfig:
    """The method as published."""
    return config


def without_retrieval_and_overlap(config: PretrainConfig) -> PretrainConfig:
    """Shuffled batches of clips that are exactly aligned."""
    return exact_alignment(without_retrieval(config))


# Table 7 in its order, as we read it. Third and fourth change two things (retrieval and clips; clips and loss), the
# others one; the last is ours. "w/o retrieval" shuffles, where the released code takes videos in groups as they follow.
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

    `corpus` is a folder, "" MiniHowTo's training corpus, whose narration lags by `lag` (s, a standard deviation) = 4.
    `among` are topics among whose clips alone retrieval is scored too. `changes` are fields of the base config: for
    another size of the whole table. Raises TypeError for an unknown row or topic, or a change of what the trial itself
    decides, ValueError for another lag of MiniHowTo's own corpus.
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
            raise TypeError(f"changes hold {', '.join(sorted(own))}: these are the trial's own, or the cache's, to say")
        if not self.corpus and self.lag != LAG:
            raise ValueError(f"narration of the corpus that ships lags by {LAG:g} s: lag {self.lag:g} needs its corpus")

    def config(self, output: str | Path = "runs/ablation") -> PretrainConfig:
        """The row's edit of the base config."""
        return ROWS[self.row](ablation_base(self.corpus, **self.changes, seed=self.seed, output=output))


@lru_cache
def topic_of() -> dict[str, str]:
    """The topic of each of MiniHowTo's own videos, by video_id."""
    return {video_id: topic for (video_id, _), (_, _, topic) in truth().items()}


def all_topics() -> list[str]:
    return sorted(set(topic_of().values()))


def draw_topics(number: int, seed: int) -> tuple[str, ...]:
    """`number` of MiniHowTo's topics, by their own random stream: the same for every row of a seed.

    Raises ValueError unless there are so many.
    """
    topics = all_topics()
    if not 1 <= number <= len(topics):
        raise ValueError(f"{number} topics cannot be drawn: there are {len(topics)}, and one is the least")
    return tuple(str(t) for t in np.random.default_rng([seed, number, STREAM]).choice(topics, number, replace=False))


def topic_corpus(topics: tuple[str, ...], folder: str | Path) -> Corpus:
    """The training videos of MiniHowTo that show one of `topics`, as a corpus in `folder`.

    One that is there is just opened; ValueError if its videos are others.
    """
    refuse_unknown(topics, all_topics(), "topic")
    whole = Corpus.open(minihowto() / "train")
    return _part(whole, [video_id for video_id in whole.video_ids if topic_of()[video_id] in topics], folder)


def spread_corpus(number: int, seed: int, folder: str | Path) -> Corpus:
    """`number` training videos of MiniHowTo that show as many topics as they can; else as `topic_corpus`.

    Topics take turns, in random order, and give a random video each time: beside a `topic_corpus` of as many videos,
    only the number of topics differs.
    """
    whole = Corpus.open(minihowto() / "train")
    rng, turns = np.random.default_rng([seed, number, STREAM]), dict.fromkeys(all_topics(), 0)
    if not 1 <= number <= len(whole):
        raise ValueError(f"{number} videos cannot be drawn: there are {len(whole)}, and one is the least")
    first = {topic: place for place, topic in enumerate(rng.permutation(list(turns)))}
    order = []
    for video_id in rng.permutation(whole.video_ids):
        topic = topic_of()[video_id]
        order.append((turns[topic], first[topic], video_id))
        turns[topic] += 1
    chosen = {video_id for _, _, video_id in sorted(order)[:number]}
    return _part(whole, [video_id for video_id in whole.video_ids if video_id in chosen], folder)


def _part(whole: Corpus, video_ids: list[str], folder: str | Path) -> Corpus:
    folder = Path(folder)
    if (folder / "corpus.json").is_file():
        found = Corpus.open(folder)
        if found.video_ids != video_ids:
            raise ValueError(f"{folder} holds a corpus of other videos: name another folder, or remove it")
        return found
    if whole.spec is None:
        raise ValueError(f"{whole.path} names no features: is this MiniHowTo?")
    places = [whole.index(video_id) for video_id in video_ids]
    rows = ((whole.video_ids[i], whole.features(i), whole.captions(i)) for i in places)
    return Corpus.create(folder, whole.spec, rows, split=whole.split, licence=whole.licence)


def of_topics(dataset: Dataset, topics: tuple[str, ...]) -> Dataset:
    """The records of MiniHowTo's clips whose video shows one of `topics`."""
    records = [record for record in dataset if topic_of()[record.video_id] in topics]
    return Dataset(f"{dataset.name}, {len(topics)} topics", dataset.split, records, dataset.tasks)
