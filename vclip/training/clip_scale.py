"""Clips as a run draws them: where those of one video overlap, their texts tell what the others show."""

import numpy as np

from vclip.data.corpus import Corpus
from vclip.data.samplers import AlignedClips, MILNCEClips, OverlappedClips
from vclip.training.config import PretrainConfig

VIDEOS = 256  # looked at


def sampler_of(config: PretrainConfig, max_text_tokens: int = 61) -> OverlappedClips | AlignedClips | MILNCEClips:
    """The sampler that a config names."""
    if config.sampler == "overlapped":
        return OverlappedClips(config.video_seconds, config.text_tokens, max_text_tokens)
    return AlignedClips(config.text_tokens, max_text_tokens) if config.sampler == "aligned" else MILNCEClips()


def drawn_spans(corpus: Corpus, config: PretrainConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Some videos (V,) of a corpus with tokens, and starts and ends (V, n) of n clips of each, drawn as in a run."""
    rng, n = np.random.default_rng(0), max(2, config.clips_per_video)
    videos = np.flatnonzero(np.diff(corpus.caption_offsets))
    if not len(videos):
        raise ValueError(f"{corpus.path} has no captions to draw clips from: name a corpus with captions")
    videos = rng.permutation(videos)[:VIDEOS]
    drawn = sampler_of(config).sample(corpus, videos, n, rng)
    end = np.minimum(drawn.video_end, drawn.video_start + config.model.get("max_video_tokens", 32))
    return videos, drawn.video_start.reshape(-1, n), end.reshape(-1, n)


def overlapping(start: np.ndarray, end: np.ndarray) -> float:
    """Fraction of the pairs of clips of one video that share a second."""
    first, second = np.triu_indices(start.shape[1], 1)
    return float(np.mean(np.minimum(end[:, first], end[:, second]) > np.maximum(start[:, first], start[:, second])))
