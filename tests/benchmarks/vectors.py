"""Video vectors to search, as many as a benchmark asks for."""

import numpy as np

from vclip.corpus import Corpus
from vclip.embedding import embed_clips
from vclip.model import VideoCLIPModel
from vclip.samplers import AlignedClips
from vclip.samples import minihowto

DIM = 768
AT_ONCE = 16_384


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
