"""Small corpora made on the spot, in which what is said tells what is seen."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from vclip.data.captions import Captions
from vclip.data.corpus import Corpus
from vclip.data.spec import FeatureSpec
from vclip.training.config import PretrainConfig

TOWER = {
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "vocab_size": 200,
}
WORDS = [f"w{i}" for i in range(60)]
DIM = 8


def spec(**changes) -> FeatureSpec:
    values = {"encoder": "made", "weights": "0" * 16, "fps": 1, "size": 8, "crop": "centre", "normalisation": "none"}
    return FeatureSpec(**values | {"pooling": "none", "projection": None, "dim": DIM} | changes)


def tokenizer() -> PreTrainedTokenizerFast:
    """Whole words, BERT's special ids."""
    names = ["[PAD]", *(f"[unused{i}]" for i in range(99)), "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    inner = Tokenizer(models.WordPiece({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    inner.normalizer, inner.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 101), ("[SEP]", 102)]
    )
    special = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **{f"{k}_token": v for k, v in special.items()})


def videos(n: int, seed: int = 0, seconds: tuple[int, int] = (20, 40)):
    """(id, features, captions): each caption of 4 s says words that its seconds' features encode."""
    rng = np.random.default_rng(seed)
    codes = np.random.default_rng(99).standard_normal((len(WORDS), DIM))
    for i in range(n):
        total = int(rng.integers(*seconds))
        features = rng.standard_normal((total, DIM)) * 0.1
        start, text = np.arange(0, total - 3, 4.0), []
        for s in start.astype(int):
            word = int(rng.integers(len(WORDS)))
            features[s : s + 4] += codes[word]
            text.append(" ".join([WORDS[word]] * 3))
        yield f"video {i}", features.astype(np.float32), Captions(start, start + 4, text)


def make(path, n: int = 12, seed: int = 0, **spec_changes) -> Corpus:
    return Corpus.create(path, spec(**spec_changes), videos(n, seed), split="train", licence="none").tokenize(
        tokenizer()
    )


def on_top(path, clip, n: int = 12, seed: int = 0, **spec_changes) -> Corpus:
    """A corpus of features as a dual encoder of 16 numbers makes them."""
    rows = ((name, np.tile(features, 2), captions) for name, features, captions in videos(n, seed))
    return Corpus.create(path, replace(clip.spec, **spec_changes), rows)


def pretraining_data(folder: Path) -> Path:
    """A training corpus of 48 videos, 12 held-out videos and a tokenizer."""
    make(folder / "train", 48)
    make(folder / "val", 12, seed=1)
    tokenizer().save_pretrained(folder / "tokenizer")
    return folder


def pretrain_config(data: Path, output: Path, **changes) -> PretrainConfig:
    """A run of seconds on `pretraining_data`: 6 steps an epoch, and a checkpoint after the fourth."""
    tower = TOWER | {"num_hidden_layers": 1}
    values = {
        "corpus": str(data / "train"),
        "validation": str(data / "val"),
        "tokenizer": str(data / "tokenizer"),
        "output": str(output),
        "model": {"video_config": tower, "text_config": tower},
        "epochs": 3,
        "videos_per_batch": 8,
        "candidates": 16,
        "clips_per_video": 4,
        "retrieval_clips": 4,
        "learning_rate": 3e-3,
        "warmup_steps": 5,
        "total_steps": 1000,
        "save_every": 4,
    }
    return PretrainConfig(**values | changes)


@dataclass
class Video:
    start: list[float]
    end: list[float]
    cap: list[list[int]]  # tokens of each caption
    n_frames: int


def write_corpus(path, videos: list[Video]) -> Corpus:
    """A corpus with these very tokens; second t of every video has the feature (t, t / 2)."""
    rows = [np.stack([np.arange(v.n_frames), np.arange(v.n_frames) / 2], axis=1) for v in videos]
    captions = [Captions(v.start, v.end, ["text"] * len(v.start)) for v in videos]
    ids = [f"video {k}" for k in range(len(videos))]
    Corpus.create(path, spec(dim=2), zip(ids, rows, captions, strict=True))
    table = pq.read_table(path / "captions.parquet")
    pieces = pa.array([cap for v in videos for cap in v.cap], pa.list_(pa.int32()))
    pq.write_table(table.append_column("input_ids", pieces), path / "captions.parquet")
    return Corpus.open(path)


@st.composite
def narrated(draw_from):
    n = draw_from(st.integers(1, 12))
    times = st.lists(st.floats(0, 600, width=32), min_size=n, max_size=n)
    cap = [list(range(draw_from(st.integers(0, 20)))) for _ in range(n)]
    return Video(draw_from(times), draw_from(times), cap, draw_from(st.integers(1, 60)))
