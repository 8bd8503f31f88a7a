"""How clips stand to steps is what a loop over drawn pairs counts."""

from itertools import combinations

import numpy as np
import pytest
from clip_scales import clip_scale
from transformers import AutoTokenizer

from vclip import Corpus, OverlappedClips, PretrainConfig, minihowto
from vclip.training.pretrain import SPANS_OF

import corpora


@pytest.fixture(scope="module")
def shipped() -> Corpus:
    return Corpus.open(minihowto() / "train").tokenize(AutoTokenizer.from_pretrained(minihowto() / "tokenizer"))


@pytest.mark.parametrize(
    "seconds, tokens, longest", [((3, 32), (8, 64), 32), ((3, 10), (8, 16), 10), ((3, 32), (8, 64), 10)]
)
def test_it_equals_a_loop_over_pairs(shipped, seconds, tokens, longest):
    config = PretrainConfig.sample(
        video_seconds=seconds,
        text_tokens=tokens,
        videos_per_batch=8,
        clips_per_video=8,
        candidates=8,
        model={"max_video_tokens": longest},
    )
    found = clip_scale(shipped, config, step_seconds=7.9)
    rng, shared, lengths, negatives = np.random.default_rng(0), [], [], []
    videos = rng.permutation(len(shipped))[:SPANS_OF]
    drawn = OverlappedClips(seconds, tokens).sample(shipped, videos, 8, rng)
    for v in range(len(videos)):
        spans = []
        for i in range(8 * v, 8 * v + 8):
            start, end = drawn.video_start[i], min(drawn.video_end[i], drawn.video_start[i] + longest)
            spans.append(set(range(start, end)))
        lengths += [len(span) for span in spans]
        shared += [bool(a & b) for a, b in combinations(spans, 2)]
    owner = np.repeat(np.arange(8), 8)
    negatives = [owner[i] == owner[j] for i in range(64) for j in range(64) if i != j]
    assert found.overlapping == pytest.approx(np.mean(shared))
    assert found.clip_seconds == pytest.approx(np.mean(lengths))
    assert found.same_video == pytest.approx(np.mean(negatives))
    assert found.clips_per_step == pytest.approx(np.mean(lengths) / 7.9)


def test_steps_default_to_the_spacing_of_captions(tmp_path):
    corpus = corpora.make(tmp_path / "corpus", 8)  # a caption every 4 s
    assert clip_scale(corpus, corpora.pretrain_config(tmp_path, tmp_path)).step_seconds == 4
