"""The offline model; tests/search/test_hits.py searches real videos with it."""

import numpy as np
import pytest

import vclip


@pytest.fixture(scope="module")
def offline():
    return vclip.load("offline")


def test_two_loads_embed_alike(offline):
    again = vclip.load("offline")
    assert again.identity == offline.identity and again.spec == offline.spec
    np.testing.assert_array_equal(again.encode_texts(["a cat"]), offline.encode_texts(["a cat"]))


def test_a_corpus_of_its_features_is_searched_without_a_frame(offline, shared, tmp_path):
    vclip.extract(shared / "videos" / "sam2-coffee.mp4", tmp_path / "corpus", "offline")
    assert offline.index(tmp_path / "corpus").search("coffee", k=1)[0].video == "sam2-coffee"
