import numpy as np
import pytest

from vclip import samples
from vclip.corpus import Corpus


def test_the_corpus_that_ships_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(Corpus.open(samples.minihowto() / "val")) == 64


def test_an_installation_without_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "__file__", str(tmp_path / "site-packages/vclip/samples.py"))
    with pytest.raises(FileNotFoundError, match="install from a clone"):
        samples.minihowto()


def test_thumbnails_are_small_pictures_of_test_videos():
    pictures = samples.thumbnails()
    assert {video.rstrip("0123456789") for video, _ in pictures} == {"test", "unseen"}
    for picture in list(pictures.values())[::211]:
        assert picture.shape == (96, 96, 3) and picture.dtype == np.uint8 and picture.std() > 5


def test_the_truth_names_every_clip():
    known = samples.truth()
    for records, _ in samples.evaluation_sets("youcook2").values():
        assert all((clip.video_id, clip.start) in known for clip in records)
    assert known["test0000", 6] == ("fry", "cactus", "space lunch")
