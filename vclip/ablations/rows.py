"""Table 7's rows as edits of one small config, and the corpora that the two further experiments train on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vclip.corpus import Corpus
from vclip.datasets import Dataset
from vclip.recipe import (
    PretrainConfig,
    exact_alignment,
    first_32_seconds,
    mil_nce_clips,
    retrieve_k,
    shared_towers,
    use_cls,
    without_retrieval,
)
from vclip.samples import minihowto, truth

VIDEOS = 8  # a batch; with as many clips of each, 64 pairs
UPDATES = 375  # five epochs of the shipped corpus
TOPICS = 2  # last number of the seed sequence that draws topics


def ablation_base(corpus: str | Path = "", **changes) -> PretrainConfig:
    """The full method at a size that one CPU thread trains and scores within a minute: what every row edits.

    `corpus` is the training corpus's folder, MiniHowTo's by default; `epochs` follow from its size, so that any corpus
    gets as many updates, up to part of an epoch. Learning rate, width and length were chosen on MiniHowTo's validation
    videos by the full method alone. There is no validation during a run: its last weights count.
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
    """Shuffled batches of clips that are exactly aligned: the only row that changes two things."""
    return exact_alignment(without_retrieval(config))


# Table 7 in its order, as we read it: each row but the third changes one thing of the full method. The last is ours.
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

    `corpus` is a folder, "" MiniHowTo's training corpus; `lag` (s) is the standard deviation of its narration's lag,
    `topics` are the only ones that its videos show, () if it shows all. `changes` are fields of the base config: for
    another size of the whole table.
    """

    row: str
    seed: int
    corpus: str = ""
    lag: float = 4.0
    topics: tuple[str, ...] = ()
    changes: dict = field(default_factory=dict)

    def config(self, output: str | Path = "runs/ablation") -> PretrainConfig:
        """The row's edit of the base config; KeyError that names an unknown row."""
        return ROWS[self.row](ablation_base(self.corpus, **self.changes, seed=self.seed, output=output))


def draw_topics(number: int, seed: int) -> tuple[str, ...]:
    """`number` of MiniHowTo's topics, by their own random stream: the same for every row of a seed."""
    topics = sorted({topic for _, _, topic in truth().values()})
    return tuple(str(t) for t in np.random.default_rng([seed, number, TOPICS]).choice(topics, number, replace=False))


def topic_corpus(topics: tuple[str, ...], folder: str | Path) -> Corpus:
    """The training videos of MiniHowTo that show one of `topics`, as a corpus in `folder`; one there is just opened."""
    folder = Path(folder)
    if (folder / "corpus.json").is_file():
        return Corpus.open(folder)
    whole = Corpus.open(minihowto() / "train")
    shown = {video_id for (video_id, _), (_, _, topic) in truth().items() if topic in topics}
    chosen = [i for i, video_id in enumerate(whole.video_ids) if video_id in shown]
    if whole.spec is None:
        raise ValueError(f"{whole.path} names no features: is this MiniHowTo?")
    rows = ((whole.video_ids[i], whole.features(i), whole.captions(i)) for i in chosen)
    return Corpus.create(folder, whole.spec, rows, split=whole.split, licence=whole.licence)


def of_topics(dataset: Dataset, topics: tuple[str, ...]) -> Dataset:
    """The records of MiniHowTo's clips whose video shows one of `topics`."""
    shown = {video_id for (video_id, _), (_, _, topic) in truth().items() if topic in topics}
    records = [record for record in dataset if record.video_id in shown]
    return Dataset(f"{dataset.name}, {len(topics)} topics", dataset.split, records, dataset.tasks)
