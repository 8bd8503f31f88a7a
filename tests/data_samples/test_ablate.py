"""The script behind the ablation's results plans every run once, and leaves what ships alone unless told."""

import sys

import ablate
import pytest
from ablations.results import shipped_results
from ablations.rows import ROWS
from ablations.runs import trial_key

from vclip.data.corpus import Corpus


@pytest.fixture(autouse=True)
def _no_other_lags(monkeypatch):
    monkeypatch.setattr(ablate, "LAGS", ())  # test_narrations has them


def test_every_corpus_is_trained_on_with_both_of_its_rows(tmp_path):
    trials = ablate.trials(range(1), tmp_path)
    assert [trial.row for trial in trials] == [*ROWS, *["full", "w/o retrieval"] * 3]
    assert len({trial_key(trial) for trial in trials}) == len(trials)
    few, many, control = (trials[place] for place in (-6, -4, -2))
    assert (len(few.among), len(many.among)) == (3, 10) and control.among == few.among
    assert len(Corpus.open(control.corpus)) == len(Corpus.open(few.corpus)) < len(Corpus.open(many.corpus))


def test_what_ships_is_replaced_only_by_name(tmp_path, monkeypatch):
    before = shipped_results().read_bytes()
    monkeypatch.setattr(sys, "argv", ["ablate.py", "--seeds", "0", "--work", str(tmp_path)])
    ablate.main()
    assert (tmp_path / "results.jsonl").read_text() == "" and shipped_results().read_bytes() == before
