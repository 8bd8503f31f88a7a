"""Small corpora made on the spot, in which what is said tells what is seen."""

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from vclip.captions import Captions
from vclip.corpus import Corpus, FeatureSpec

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
