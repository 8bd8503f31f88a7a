"""Narration with another lag: the shipped captions at 4 s, the same videos and words at any."""

import numpy as np
import pytest
from ablations.runs import corpus_hash
from narration import LAG_SD
from narrations import folder_of, with_lag

from vclip.data.corpus import Corpus


def test_the_shipped_lag_gives_the_shipped_corpus(minihowto, tmp_path):
    corpus = with_lag(LAG_SD, tmp_path / "lag")
    assert corpus_hash(str(corpus.path)) == corpus_hash(str(minihowto / "train"))


@pytest.mark.parametrize("lag_sd", [0.0, 8.0])
def test_another_lag_moves_captions_alone(minihowto, tmp_path, lag_sd):
    shipped = Corpus.open(minihowto / "train")
    corpus = with_lag(lag_sd, folder_of(lag_sd, tmp_path))
    assert corpus.path.name == f"lag_{lag_sd:g}" and corpus.spec == shipped.spec
    assert corpus.video_ids == shipped.video_ids
    for i in (0, 299, 599):
        assert (corpus.features(i) == shipped.features(i)).all()
    assert not np.array_equal(corpus.caption_start, shipped.caption_start)
    assert corpus_hash(str(with_lag(LAG_SD, corpus.path).path)) == corpus_hash(str(corpus.path)), "taken as it is"
