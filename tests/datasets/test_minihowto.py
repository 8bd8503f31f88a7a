import pytest

from vclip.data.corpus import Corpus
from vclip.datasets import minihowto


def test_the_corpus_that_ships_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(Corpus.open(minihowto.minihowto() / "val")) == 64


def test_an_installation_without_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(minihowto, "__file__", str(tmp_path / "site-packages/vclip/datasets/minihowto.py"))
    with pytest.raises(FileNotFoundError, match="install from a clone"):
        minihowto.minihowto()
