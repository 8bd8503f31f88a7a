"""What training adds to a frozen dual encoder: the rows, and the results that ship."""

import json

import numpy as np
import on_frozen
import pytest

import vclip
from vclip.datasets import youcook2


def test_an_interval_of_r5_is_that_of_hits_among_the_first_five():
    folder = vclip.minihowto()
    records, clip = youcook2.load(folder / "youcook2" / "val"), vclip.load(folder / "checkpoint")
    report = vclip.evaluate(clip, records, folder / "val")
    for k, name in ((1, "r1"), (5, "r5"), (10, "r10")):
        hits = on_frozen.within(report, k).examples["rank"] == 1
        assert hits.mean() == pytest.approx(report.scores[name])
    row = on_frozen.row(report, report)
    assert row["r5_added"] == [0, 0, 0] and row["r1"] == pytest.approx(report.scores["r1"], abs=1e-4)


def test_rows_differ_in_what_their_names_say():
    rows = on_frozen.configs(64)
    assert {name: (row.text, row.retrieval, row.sampler) for name, row in rows.items()} == {
        "locked text": ("locked", True, "overlapped"),
        "locked text, w/o retrieval": ("locked", False, "overlapped"),
        "locked text, w/o overlap": ("locked", True, "aligned"),
        "free text, from scratch": ("free", True, "overlapped"),
    }
    assert len({row.total_steps for row in rows.values()}) == 1


def test_the_results_that_ship():
    found = json.loads((on_frozen.Path(on_frozen.__file__).parent / "ablations" / "on_frozen.json").read_text())
    assert found["n"] == 479 and found["chance"]["r1"] == pytest.approx(1 / 479, abs=1e-4)
    assert found["frozen, averaged"]["r1"] > found["chance"]["r1"]
    for run in (run for name, runs in found.items() if name in on_frozen.configs(64) for run in runs):
        for k in ("r1", "r5", "r10"):
            added, low, high = run[f"{k}_added"]
            assert low <= added <= high
            np.testing.assert_allclose(run[k] - found["frozen, averaged"][k], added, atol=2e-4)
