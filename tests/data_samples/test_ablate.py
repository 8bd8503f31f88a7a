"""The script behind the ablation's results plans every run once, and leaves what ships alone unless told."""

import sys
from collections import Counter

import ablate
import worlds
from ablations.results import shipped_results
from ablations.rows import ROWS


def test_every_row_and_both_rows_of_every_place_in_the_maps(tmp_path, monkeypatch):
    monkeypatch.setattr(ablate, "make", lambda world, folder: tmp_path)  # nothing is trained: no world is needed
    trials = ablate.trials(2, 1, 1, tmp_path)
    table = Counter(
        (trial.row, str(trial.setting))
        for trial in trials
        if set(trial.setting) <= {"steps"} and trial.setting.get("steps") not in ablate.WORLD_STEPS
    )
    for row in ROWS:
        seeds = 2 if row in ablate.CLAIMS else 1
        assert [table[row, str({"steps": steps})] for steps in ablate.STEPS] == [seeds] * len(ablate.STEPS)
        assert table[row, "{}"] == seeds
    for setting in ({"lag": 8.0, "clip": 1.6}, {"dish": 0.25, "videos_per_batch": 64}, {"steps": 2000}):
        rows = [trial.row for trial in trials if trial.setting == setting]
        assert rows == ["full", "w/o overlap" if "lag" in setting else "w/o retrieval"]
    places = len(ablate.LAGS) * len(ablate.CLIPS) + len(ablate.DISHES) * len(ablate.BATCHES) + len(ablate.WORLD_STEPS)
    assert len(trials) == (1 + len(ablate.STEPS)) * (2 * 3 + 6) + places * 2


def test_a_place_in_a_map_changes_what_it_is_named_after(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(ablate, "make", lambda world, folder: made.append(world) or folder)
    for trial in ablate.retrieval_map(1, tmp_path):
        if "dish" in trial.setting:
            assert f"dish_{trial.setting['dish']:g}" in trial.corpus or trial.setting["dish"] == worlds.World().dish
            assert trial.changes["videos_per_batch"] == trial.setting["videos_per_batch"]
            assert trial.changes["videos_per_batch"] * trial.changes["clips_per_video"] == 64
    for trial in ablate.overlap_map(1, tmp_path):
        assert f"lag_{trial.setting['lag']:g}" in trial.corpus or trial.setting["lag"] == worlds.World().lag
        low, high = trial.changes.get("video_seconds", (0, 0))
        assert trial.row == "w/o overlap" or abs((low + high) / 2 / 11 - trial.setting["clip"]) < 0.1  # steps of 11 s
    assert {world.lag for world in made} == {*ablate.LAGS} and {world.dish for world in made} == {*ablate.DISHES}


def test_what_ships_is_replaced_only_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(ablate, "make", lambda world, folder: tmp_path)
    nothing = [word for name in ("seeds", "others", "mapped") for word in (f"--{name}", "0")]
    before = shipped_results().read_bytes()
    monkeypatch.setattr(sys, "argv", ["ablate.py", *nothing, "--work", str(tmp_path)])
    ablate.main()
    assert (tmp_path / "results.jsonl").read_text() == "" and shipped_results().read_bytes() == before
