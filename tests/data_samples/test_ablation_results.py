"""Results come back as written, effects are paired by seed, and what ships is whole."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import ablate
import numpy as np
import pytest
from ablations.intervals import Interval
from ablations.results import (
    OUTCOMES,
    PRIMARY,
    adjusted,
    by_seed,
    difference,
    effects,
    mean,
    read_runs,
    results,
    shipped_results,
    verdict,
    write_runs,
)
from ablations.rows import ROWS
from ablations.runs import trial_key
from shipped import STYLES

from vclip.datasets.minihowto import minihowto

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "09_ablations.ipynb"


def run(row: str, seed: int, value: float, data: str = "MiniHowTo", **setting) -> dict:
    scores = {style: {} for style in STYLES}
    for style in STYLES:
        for task, score in OUTCOMES:
            scores[style].setdefault(task, {})[score] = [value, 0.1, 9]
    return {"row": row, "seed": seed, "data": data, "setting": setting, "scores": scores, "steps": 7,
            "mass_on_other_videos": value / 2, "config": f"{row}{seed}{data}{setting}",
            "seconds": {"training": 1.0, "scoring": 0.5}}  # fmt: skip


RUNS = [run("w/o overlap", s, 0.2 + s / 100) for s in (1, 0, 2)] + [run("full", s, 0.3 + s / 100) for s in (0, 1, 2)]
CHOSEN = {"style": "test", "task": "retrieval", "score": "r1"}


def test_runs_come_back_from_a_file_and_from_a_cache(tmp_path):
    others = [run("full", 0, 0.5, lag=0.0), run("full", 0, 0.6, lag=0.0, clip=0.4), run("full", 0, 0.7, "world")]
    write_runs([*RUNS, *others], tmp_path / "f.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "f.jsonl").read_text().splitlines()]
    assert [line["data"] for line in lines] == ["MiniHowTo"] * 8 + ["world"]
    assert [line["row"] for line in lines if not line["setting"]] == ["full"] * 3 + ["w/o overlap"] * 3 + ["full"]
    table = results(tmp_path / "f.jsonl")
    assert by_seed(table, "full", **CHOSEN) == {0: 0.3, 1: 0.31, 2: 0.32}
    assert by_seed(table, "full", {"lag": 0.0}, **CHOSEN) == {0: 0.5}
    assert by_seed(table, "full", {"lag": 0.0, "clip": 0.4}, **CHOSEN) == {0: 0.6}
    assert by_seed(table, "full", data="world", **CHOSEN) == {0: 0.7}
    assert by_seed(table, "full", column="mass", **CHOSEN) == {0: 0.15, 1: 0.155, 2: 0.16}
    assert (table["seconds"] == 1.5).all() and (table["baseline"] == 0.1).all() and (table["steps"] == 7).all()
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
    assert len(found) == len(OUTCOMES) * len(STYLES)
    assert np.allclose(found["low"], 0.1) and set(found["task"]) == set(OUTCOMES.values())
    world = [run(row, seed, 0.1 * i, "world") for i, row in enumerate(("w/o overlap", "full")) for seed in (0, 1)]
    for one in world:
        one["scores"] = {"test": {"retrieval": one["scores"]["test"]["retrieval"]}}
    write_runs([*RUNS, *world], tmp_path / "f.jsonl")
    found = effects(results(tmp_path / "f.jsonl"), {"overlap": ("full", "w/o overlap")}, styles=["test"], data="world")
    assert found["task"].tolist() == ["retrieval R@1"] and found["mean"][0] == pytest.approx(0.1)


def test_what_cannot_be_read_or_is_not_one_value_a_seed_is_refused(tmp_path):
    write_runs([*RUNS, RUNS[0]], tmp_path / "twice.jsonl")
    table = results(tmp_path / "twice.jsonl")
    with pytest.raises(ValueError, match="4 values of .*w/o overlap"):
        by_seed(table, "w/o overlap", **CHOSEN)
    with pytest.raises(ValueError, match="0 values of .* at .*'lag': 8"):
        by_seed(table, "full", {"lag": 8}, **CHOSEN)
    with pytest.raises(ValueError, match="0 values of .*retrieve k"):
        by_seed(table, "retrieve k", **CHOSEN)
    (tmp_path / "cut.jsonl").write_text('{"row": "full", "setting": {}, "scores": {}}\n{"row": "fu')
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
    assert verdict(Interval(0.025, 0.0001, 0.05, 5)) == "+2.5 (+0.010 to +5.0)", "an end near 0 keeps its sign"
    assert verdict(Interval(0.025, -0.0002, 0.05, 5)) == "none seen (-0.020 to +5.0)"
    assert verdict(Interval(0.025, -0.0, 0.05, 5)) == "none seen (+0.000 to +5.0)"


def test_primary_and_secondary_effects_are_families_of_their_own(tmp_path):
    full, aligned = ([run(row, s, v) for s, v in enumerate(values)] for row, values in (
        ("full", [0.2, 0.21, 0.2]), ("w/o overlap", [0.1, 0.12, 0.1]),
    ))  # fmt: skip
    write_runs(full + aligned, tmp_path / "f.jsonl")
    gains = effects(results(tmp_path / "f.jsonl"), {"overlap": ("full", "w/o overlap")})
    primary = (gains["style"] == "test") & (gains["task"] == PRIMARY["overlap", "MiniHowTo"])
    found = adjusted(gains, primary)
    assert found["primary"].sum() == 1
    assert (found.loc[found["primary"], "holm"] == found.loc[found["primary"], "p"]).all()
    others = found[~found["primary"]]
    assert len(others) == 11 and np.allclose(others["holm"], 11 * others["p"]), "equal, so each times their number"


def test_runs_of_several_versions_are_warned_of(tmp_path, recwarn):
    versions = [{"torch": "2.13.0", "vclip": "0.1.0"}, {"torch": "2.12.0", "vclip": "0.1.0"}]
    write_runs([one | {"versions": v} for one, v in zip(RUNS, versions, strict=False)], tmp_path / "f.jsonl")
    with pytest.warns(UserWarning, match=r"the runs mix torch 2\.12\.0 and 2\.13\.0") as found:
        results(tmp_path / "f.jsonl")
    assert len(found) == 1
    write_runs([RUNS[0] | {"versions": versions[0]}], tmp_path / "f.jsonl")
    results(tmp_path / "f.jsonl")
    assert not recwarn


def test_what_ships_is_small_and_whole():
    """Every run that the script plans, with the numbers of seeds that its own defaults name."""
    assert shipped_results().stat().st_size < 1_000_000
    table = results()
    assert not table["value"].isna().any()
    for row in ROWS:
        seeds = set(range(8 if row in ablate.CLAIMS else 5))
        for steps in ablate.STEPS:
            assert set(by_seed(table, row, {"steps": steps}, **CHOSEN)) >= seeds, (row, steps)
        assert set(by_seed(table, row, data="world", **CHOSEN)) >= seeds, row
    for dish, (videos, _) in itertools.product(ablate.DISHES, ablate.BATCHES):
        for row in ("full", "w/o retrieval"):
            assert len(by_seed(table, row, {"dish": dish, "videos_per_batch": videos}, data="world", **CHOSEN)) == 3
    for lag, clip in itertools.product(ablate.LAGS, ablate.CLIPS):
        for row in ("full", "w/o overlap"):
            assert len(by_seed(table, row, {"lag": lag, "clip": clip}, data="world", **CHOSEN)) == 3
    shipped = {run["config"] for run in read_runs()}
    trials = ablate.table(8, 5, "", {}, total_steps=ablate.STEPS[0])
    # what a rerun would train is what was trained
    assert {trial_key(trial) for trial in trials} <= shipped


def notebook(folder: Path, **parameters) -> str:
    """Notebook 09 with parameters, in `folder`: the text of its output."""
    command = [sys.executable, "-m", "papermill", str(NOTEBOOK), "out.ipynb"]
    for name, value in parameters.items():
        command += ["-y", json.dumps({name: value})]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    return (folder / "out.ipynb").read_text()


@pytest.mark.long
def test_the_notebook_trains_a_row_again_and_lands_where_the_shipped_runs_predict(tmp_path):
    """One seed of the row that trains fastest. Asked again, it only reads."""
    asked = {"rows": "MIL-NCE clips and loss", "seeds": 1, "output": "o"}
    assert "MIL-NCE clips and loss: R@1" in notebook(tmp_path, **asked)
    (run,) = (tmp_path / "o" / "runs").glob("*.json")
    before = run.stat().st_mtime_ns
    notebook(tmp_path, **asked)
    assert run.stat().st_mtime_ns == before


@pytest.mark.long
def test_the_table_on_other_data_is_one_command(tmp_path, few):
    """A corpus, validation videos, a data set and a task of the reader's."""
    sets = minihowto()
    changes = {"videos_per_batch": 8, "candidates": 8, "epochs": 2, "total_steps": 2}
    notebook(
        tmp_path, rows="full, w/o overlap", seeds=2, corpus=str(few), validation=str(sets / "val"), changes=changes,
        dataset="crosstask", split="validation", task="localization", annotations=str(sets / "crosstask" / "test"),
        features=str(sets / "crosstask" / "test" / "features"), output="o",
    )  # fmt: skip
    table = results(tmp_path / "o" / "results.jsonl")
    assert sorted(set(zip(table["row"], table["seed"], strict=True))) == [
        ("full", 0), ("full", 1), ("w/o overlap", 0), ("w/o overlap", 1)
    ]  # fmt: skip
    assert set(table["task"]) == {"localization"} and set(table["data"]) == {"corpus"} and (table["steps"] == 2).all()
