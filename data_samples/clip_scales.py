"""Clip length relative to step length, and the fraction of same-video pairs: if either is large, many negatives are
false, since their texts tell what the clip shows."""

from dataclasses import dataclass

import numpy as np

from vclip.data.corpus import Corpus
from vclip.training.config import PretrainConfig
from vclip.training.pretrain import drawn_spans, overlapping

# on the paper's data, where a video clip lasts 17.5 s and a step 19.6 s
PAPER = {"clips_per_step": 0.9, "overlapping": 0.09, "same_video": 0.029}


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
    videos, start, end = drawn_spans(corpus, config)
    if step_seconds is None:
        gaps = [np.diff(np.sort(corpus.captions(i).start)) for i in videos]
        step_seconds = float(np.mean(np.concatenate(gaps))) if any(map(len, gaps)) else float("nan")
    clips = config.videos_per_batch * config.clips_per_video
    same_video = (config.clips_per_video - 1) / max(1, clips - 1)
    return ClipScale(float(np.mean(end - start)), step_seconds, overlapping(start, end), same_video)
