"""Clip length relative to step length, and the fraction of same-video pairs: if either is large, many negatives are
false, since their texts tell what the clip shows."""

from dataclasses import dataclass

import numpy as np

from vclip.data.corpus import Corpus
from vclip.data.samplers import AlignedClips, MILNCEClips, OverlappedClips
from vclip.training.config import PretrainConfig

# on the paper's data, where a video clip lasts 17.5 s and a step 19.6 s
PAPER = {"clips_per_step": 0.9, "overlapping": 0.09, "same_video": 0.029}
VIDEOS = 256  # looked at


@dataclass(frozen=True)
class ClipScale:
    """What `clip_scale` finds, to be compared with `PAPER`."""

    clip_seconds: float  # mean length of a video clip, as the model sees it
    step_seconds: float  # mean length of a step, or time from one caption to the next
    overlapping: float  # fraction of the pairs of clips of one video in a batch that share a second
    same_video: float  # fraction of a clip's negatives that come from its own video

    @property
    def clips_per_step(self) -> float:
        """Length of a video clip in steps."""
        return self.clip_seconds / self.step_seconds


def sampler_of(config: PretrainConfig, max_text_tokens: int = 61) -> OverlappedClips | AlignedClips | MILNCEClips:
    """The sampler that a config names."""
    if config.sampler == "overlapped":
        return OverlappedClips(config.video_seconds, config.text_tokens, max_text_tokens)
    return AlignedClips(config.text_tokens, max_text_tokens) if config.sampler == "aligned" else MILNCEClips()


def clip_scale(corpus: Corpus, config: PretrainConfig, step_seconds: float | None = None) -> ClipScale:
    """Draw clips as a run would and compare them with the steps of the corpus.

    Args:
        corpus: with tokens.
        config: of the run.
        step_seconds: mean length of a step from annotations, if there are some; None: the mean time from one caption to
            the next, which is shorter where a step is spoken of more than once.

    Example:
        >>> import vclip
        >>> from transformers import AutoTokenizer
        >>> config = PretrainConfig.sample()
        >>> corpus = vclip.Corpus.open(config.corpus).tokenize(AutoTokenizer.from_pretrained(config.tokenizer))
        >>> round(clip_scale(corpus, config, step_seconds=7.9).same_video, 3)
        0.012
    """
    rng, n = np.random.default_rng(0), max(2, config.clips_per_video)
    videos = np.flatnonzero(np.diff(corpus.caption_offsets))
    if not len(videos):
        raise ValueError(f"{corpus.path} has no captions to draw clips from: name a corpus with captions")
    videos = rng.permutation(videos)[:VIDEOS]
    drawn = sampler_of(config).sample(corpus, videos, n, rng)
    longest = config.model.get("max_video_tokens", 32)
    start = drawn.video_start.reshape(-1, n)
    end = np.minimum(drawn.video_end, drawn.video_start + longest).reshape(-1, n)
    first, second = np.triu_indices(n, 1)
    shared = np.minimum(end[:, first], end[:, second]) > np.maximum(start[:, first], start[:, second])
    if step_seconds is None:
        gaps = [np.diff(np.sort(corpus.captions(i).start)) for i in videos]
        step_seconds = float(np.mean(np.concatenate(gaps))) if any(map(len, gaps)) else float("nan")
    clips = config.videos_per_batch * config.clips_per_video
    same_video = (config.clips_per_video - 1) / max(1, clips - 1)
    return ClipScale(float(np.mean(end - start)), step_seconds, float(shared.mean()), same_video)
