"""Results come back as written, effects are paired by seed, and what ships is whole."""

import json

import numpy as np
import pytest

from vclip.ablations import (
    HEADLINE,
    ROWS,
    Trial,
    by_seed,
    config_hash,
    difference,
    effects,
    mean,
    read_runs,
    results,
    run_all,
    shipped_results,
    verdict,
    write_runs,
)
from vclip.intervals import Interval, prediction_interval
from vclip.samples import STYLES


def run(row: str, seed: int, value: float, lag: float = 4.0, topics=()) -> dict:
    scores = {style: {} for style in STYLES}
    for style in STYLES:
        for task, score in HEADLINE:
            scores[style].setdefault(task, {})[score] = [value, 0.1, 9]
    return {"row": row, "seed": seed, "lag": lag, "topics": list(topics), "config": f"{row}{seed}{lag}",
            "scores": scores, "seconds": {"training": 1.0, "scoring": 0.5}}  # fmt: skip


RUNS = [run("w/o overlap", s, 0.2 + s / 100) for s in (1, 0, 2)] + [run("full", s, 0.3 + s / 100) for s in (0, 1, 2)]
CHOSEN = {"style": "test", "task": "retrieval", "score": "r1"}


def test_runs_come_back_from_a_file_and_from_a_cache(tmp_path):
    write_runs([*RUNS, run("full", 0, 0.5, lag=0.0), run("full", 0, 0.6, topics=("a", "b"))], tmp_path / "f.jsonl")
    rows = [json.loads(line)["row"] for line in (tmp_path / "f.jsonl").read_text().splitlines()]
    assert rows == ["full", *["full", "w/o overlap"] * 3, "full"], "by lag, topics, seed and row"
    table = results(tmp_path / "f.jsonl")
    assert by_seed(table, "full", **CHOSEN) == {0: 0.3, 1: 0.31, 2: 0.32}
    assert by_seed(table, "full", **CHOSEN, lag=0.0) == {0: 0.5}
    assert by_seed(table, "full", **CHOSEN, topics=2) == {0: 0.6}
    assert (table["seconds"] == 1.5).all() and (table["floor"] == 0.1).all()
    cache = tmp_path / "cache"
    cache.mkdir()
    for i, one in enumerate(RUNS):
        (cache / f"{i}.json").write_text(json.dumps(one))
    assert by_seed(results(cache), "w/o overlap", **CHOSEN) == pytest.approx({0: 0.2, 1: 0.21, 2: 0.22})


def test_effects_are_paired_by_seed(tmp_path):
    write_runs(RUNS, tmp_path / "f.jsonl")
    table = results(tmp_path / "f.jsonl")
    gain = difference(table, "full", "w/o overlap", **CHOSEN)
    assert gain.mean == pytest.approx(0.1) and gain.half < 1e-9 and gain.n == 3
    assert mean(table, "full", **CHOSEN).half > 0.01
    found = effects(table, {"overlap": ("full", "w/o overlap")})
    assert len(found) == len(HEADLINE) * len(STYLES)
    assert np.allclose(found["low"], 0.1) and set(found["task"]) == set(HEADLINE.values())


def test_what_cannot_be_read_or_is_not_one_value_a_seed_is_refused(tmp_path):
    write_runs([*RUNS, RUNS[0]], tmp_path / "twice.jsonl")
    table = results(tmp_path / "twice.jsonl")
    with pytest.raises(ValueError, match="4 values of .*w/o overlap"):
        by_seed(table, "w/o overlap", **CHOSEN)
    with pytest.raises(ValueError, match="0 values of .*retrieve k"):
        by_seed(table, "retrieve k", **CHOSEN)
    (tmp_path / "cut.jsonl").write_text('{"row": "full", "topics": [], "scores": {}}\n{"row": "fu')
    with pytest.raises(ValueError, match="cut.jsonl, line 2"):
        read_runs(tmp_path / "cut.jsonl")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no finished run"):
        read_runs(tmp_path / "empty")
    with pytest.raises(FileNotFoundError):
        read_runs(tmp_path / "absent.jsonl")


def test_a_verdict_says_what_is_seen_and_what_is_ruled_out():
    assert verdict(Interval(0.05, 0.02, 0.08, 5)) == "+5.0 (+2.0 to +8.0)"
    assert verdict(Interval(0.01, -0.02, 0.04, 5)) == "none seen (-2.0 to +4.0)"


def test_what_ships_is_small_and_has_every_row_with_five_seeds_or_more():
    assert shipped_results().stat().st_size < 500_000
    table = results()
    assert not table["value"].isna().any()
    for row in ROWS:
        assert len(by_seed(table, row, **CHOSEN)) >= 5
    shipped = {run["config"] for run in read_runs()}
    # what a rerun would train is what was trained
    assert {config_hash(Trial(row, seed).config()) for row in ROWS for seed in range(5)} <= shipped


@pytest.mark.long
def test_a_row_trained_again_lands_where_the_shipped_runs_predict(tmp_path):
    """Two minutes on two cores: as many of the row's seeds as that takes."""
    seeds, table = range(3), results()
    again = run_all([Trial("w/o overlap", seed) for seed in seeds], tmp_path)
    for style in STYLES:
        old = by_seed(table, "w/o overlap", style=style, task="retrieval", score="r10")
        new = np.mean([run["scores"][style]["retrieval"]["r10"][0] for run in again])
        assert new in prediction_interval(list(old.values()), len(seeds))
