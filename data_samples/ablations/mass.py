"""How much of InfoNCE's softmax lies on clips of other videos in random batches: B clips, D hidden size."""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from vclip.data.corpus import Corpus
from vclip.models.videoclip_encoder import VideoCLIP
from vclip.training.batches import embed_clips
from vclip.training.clusters import shuffled_batches
from vclip.training.config import PretrainConfig, sampler_of

MASS_VIDEOS = 256  # looked at; a single batch says little where few of its videos are alike


def on_other_videos(
    z_v: Float[Tensor, "B D"], z_t: Float[Tensor, "B D"], video: Int[Tensor, " B"], temperature: float = 1.0
) -> float:
    """Fraction of the softmax that lies on clips of other videos than a clip's own; mean over clips and directions.

    Example:
        >>> round(on_other_videos(torch.eye(2), torch.eye(2), torch.arange(2)), 3)
        0.269
    """
    similarity = z_v @ z_t.T / temperature
    other = video[:, None] != video[None, :]
    masses = [(rows.softmax(dim=1) * other).sum(dim=1).mean() for rows in (similarity, similarity.T)]
    return float(torch.stack(masses).mean())


def mass_on_other_videos(clip: VideoCLIP, config: PretrainConfig) -> float:
    """`on_other_videos` in batches of random videos of a run's training corpus."""
    corpus, rng = Corpus.open(config.corpus).tokenize(clip.tokenizer), np.random.default_rng(config.seed)
    sampler, n = sampler_of(config, clip.model.config.max_text_tokens), config.clips_per_video
    spoken, size = np.flatnonzero(np.diff(corpus.caption_offsets)), config.videos_per_batch
    owner, masses = torch.arange(size).repeat_interleave(n), []
    for batch in shuffled_batches(len(spoken), size, rng)[: max(1, MASS_VIDEOS // size)]:
        clips = sampler.sample(corpus, spoken[batch], n, rng)
        z_v, z_t = (torch.from_numpy(z) for z in embed_clips(clip.model, corpus, spoken[batch], clips))
        masses.append(on_other_videos(z_v, z_t, owner, config.temperature))
    return float(np.mean(masses))
