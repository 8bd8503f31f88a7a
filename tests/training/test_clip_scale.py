"""Where clips of one video overlap, the user is told."""

import pytest

from vclip.training.pretrain import warn_of_scale

import corpora


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({}, "take fewer clips_per_video, or shorter video_seconds"),
        ({"sampler": "aligned"}, "take fewer clips_per_video, or shorter video_seconds"),
        ({"sampler": "mil_nce", "clips_per_video": 30}, None),
        ({"video_seconds": (2, 3), "text_tokens": (1, 2)}, None),
    ],
)
def test_a_run_whose_clips_overlap_is_warned_of_in_words_that_help(tmp_path, changes, advice, recwarn):
    corpus = corpora.make(tmp_path / "corpus", 8)
    warn_of_scale(corpus, corpora.pretrain_config(tmp_path, tmp_path, **changes))
    found = [str(warning.message) for warning in recwarn]
    assert len(found) == (advice is not None)
    assert not found or (advice in found[0] and "of the pairs of clips of one video overlap in time" in found[0])
