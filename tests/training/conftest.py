"""A small model and labelled data that fine-tuning is tested on."""

import pytest

import vclip

import labelled


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The checkpoint and the features of `labelled.data`."""
    folder = labelled.data(tmp_path_factory.mktemp("data"))
    clip = vclip.load(folder / "checkpoint")
    clip.model.eval()
    return clip, labelled.corpus(folder)
