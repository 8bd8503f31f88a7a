"""A small model and labelled data that fine-tuning is tested on."""

import pytest


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The checkpoint and the features of `labelled.data`."""
    import vclip  # here, as this file may be read before shapes are checked

    import labelled

    folder = labelled.data(tmp_path_factory.mktemp("data"))
    clip = vclip.load(folder / "checkpoint")
    clip.model.eval()
    return clip, labelled.corpus(folder)
