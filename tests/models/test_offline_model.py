"""The offline model finds the right one of four real videos."""

import shutil

import numpy as np
import pytest

import vclip

RIGHT = {  # most were looked at while the model was made: a test that it works, not a score
    "a cup of coffee": "sam2-coffee.mp4",
    "a steaming mug": "sam2-coffee.mp4",
    "a rabbit": "rabbit320.mp4",
    "grass": "rabbit320.mp4",
    "a city": "googlework_short.mp4",
    "a desktop computer": "gnome-launching-applications.webm",
    "a screen": "gnome-launching-applications.webm",
}


@pytest.fixture(scope="module")
def offline():
    return vclip.load("offline")


@pytest.fixture(scope="module")
def index(offline, shared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    for video in set(RIGHT.values()):
        shutil.copy(shared / "videos" / video, folder)
    return offline.index(folder)


def test_the_right_one_of_four_real_videos_comes_first_for_most_sentences(index):
    first = {text: index.search(text, k=1)[0].video for text in RIGHT}
    assert sum(first[text] == RIGHT[text] for text in RIGHT) >= 6, first


def test_two_loads_embed_alike(offline):
    again = vclip.load("offline")
    assert again.identity == offline.identity and again.spec == offline.spec
    np.testing.assert_array_equal(again.encode_texts(["a cat"]), offline.encode_texts(["a cat"]))


def test_a_corpus_of_its_features_is_searched_without_a_frame(offline, shared, tmp_path):
    vclip.extract(shared / "videos" / "sam2-coffee.mp4", tmp_path / "corpus", "offline")
    assert offline.index(tmp_path / "corpus").search("coffee", k=1)[0].video == "sam2-coffee"
