"""The notebooks of the tasks run on other files than those that ship: the original's tiny sets, in official formats."""

import json
from pathlib import Path

import papermill
import pytest

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"


@pytest.mark.long
@pytest.mark.parametrize(
    ("notebook", "annotations", "parameters", "expected"),
    [
        ("04_text_video_retrieval", "msrvtt", {"dataset": "msrvtt"}, "r1"),
        ("04_text_video_retrieval", "didemo", {"dataset": "didemo"}, "r1"),
        ("05_videoqa", "msrvtt_qa/MSR_MC_test.csv", {}, "accuracy"),
        ("06_action_segmentation", "coin", {}, "f1_25"),
        ("07_step_localization", "crosstask/crosstask_release", {"n_train": 2}, "recall"),
    ],
)
def test_a_tasks_notebook_takes_the_readers_files(zero_shot, tmp_path, notebook, annotations, parameters, expected):
    zero_shot.model.save_pretrained(tmp_path / "model")
    zero_shot.processor.save_pretrained(tmp_path / "model")
    given = {
        "annotations": str(zero_shot.folder / annotations), "features": str(zero_shot.features),
        "checkpoint": str(tmp_path / "model"), "output": str(tmp_path / "out"),
    }  # fmt: skip
    papermill.execute_notebook(
        NOTEBOOKS / f"{notebook}.ipynb", tmp_path / "done.ipynb", given | parameters, cwd=tmp_path, progress_bar=False
    )
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    reports = [report for name, report in scores.items() if name != "versions"]
    assert reports and all("MiniHowTo" not in report["data"]["name"] for report in reports)
    assert any(expected in report["scores"] for report in reports)


@pytest.mark.long
@pytest.mark.parametrize(
    ("dataset", "annotations", "split", "tasks"),
    [
        ("msrvtt", "msrvtt_qa/MSR_MC_test.csv", "multiple_choice", ["videoqa"]),
        ("didemo", "didemo", "", ["moment_retrieval", "paragraph_retrieval"]),
        ("coin", "coin", "", ["segmentation"]),
    ],
)
def test_the_comparison_takes_the_readers_models_and_files(zero_shot, tmp_path, dataset, annotations, split, tasks):
    for name in ("one", "two"):
        zero_shot.model.save_pretrained(tmp_path / name)
        zero_shot.processor.save_pretrained(tmp_path / name)
    given = {
        "models": f"{tmp_path / 'one'}, {tmp_path / 'two'}", "dataset": dataset, "split": split,
        "annotations": str(zero_shot.folder / annotations), "features": f"{zero_shot.features},{zero_shot.features}",
        "output": str(tmp_path / "out"),
    }  # fmt: skip
    papermill.execute_notebook(
        NOTEBOOKS / "12_comparison.ipynb", tmp_path / "done.ipynb", given, cwd=tmp_path, progress_bar=False
    )
    scores = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert scores.keys() == {f"{task} {name}" for task in tasks for name in ("one", "two")} | {"versions"}
    for task in tasks:
        assert scores[f"{task} one"]["scores"] == scores[f"{task} two"]["scores"]
