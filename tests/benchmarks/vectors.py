"""Video vectors to search, as many as a benchmark asks for, and how many of their neighbours were found."""

import numpy as np

from vclip.data.corpus import Corpus
from vclip.data.samplers import AlignedClips
from vclip.datasets.minihowto import minihowto
from vclip.models.videoclip import VideoCLIPModel
from vclip.training.batches import embed_clips

DIM = 768
AT_ONCE = 16_384
FOUND = 64  # neighbours of a seed


def like_a_trained_models(n: int) -> np.ndarray:
    """(n, 768) float32: (z_v + z_t) / 2 of the shipped model's clips of MiniHowTo, drawn and jittered.

    Its 128 numbers stand there six times over, each time with a jitter of its own that has the clips' covariance and
    half their standard deviation. (To turn the whole would change no distance.)
    """
    rng, corpus = np.random.default_rng(0), Corpus.open(minihowto() / "train")
    videos = np.flatnonzero(np.diff(corpus.caption_offsets))
    model = VideoCLIPModel.from_pretrained(minihowto() / "checkpoint").eval()
    z_v, z_t = embed_clips(model, corpus, videos, AlignedClips().sample(corpus, videos, 4, rng))
    z = (z_v + z_t) / 2
    root = 0.5 * np.linalg.cholesky(np.cov(z.T)).T.astype(np.float32)
    vectors = np.empty((n, DIM // len(root), len(root)), np.float32)
    for first in range(0, n, AT_ONCE):
        block = vectors[first : first + AT_ONCE]
        jitter = rng.standard_normal((block.size // len(root), len(root)), np.float32) @ root
        np.add(jitter.reshape(block.shape), z[rng.integers(0, len(z), len(block)), None], out=block)
    return vectors.reshape(n, DIM)


def true_neighbours(vectors: np.ndarray, seeds: np.ndarray) -> np.ndarray:
    """By distances in float64."""
    queries = vectors[seeds].astype(np.float64)
    parts = []
    for first in range(0, len(vectors), AT_ONCE):
        rows = vectors[first : first + AT_ONCE].astype(np.float64)
        parts.append(np.square(rows).sum(1) - 2 * queries @ rows.T)
    return np.argpartition(np.concatenate(parts, axis=1), FOUND, axis=1)[:, :FOUND]


def recall(found: np.ndarray, true: np.ndarray) -> float:
    return float(np.mean([len({*a} & {*b}) / FOUND for a, b in zip(found.tolist(), true.tolist(), strict=True)]))
