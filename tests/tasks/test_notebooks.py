"""The notebooks of the tasks run on other files than those that ship: the original's tiny sets, in official formats."""

import json
import shutil
from pathlib import Path

import nbformat
import papermill
import pytest

from vclip import minihowto

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


HOSTILE = "<img src=x onerror=alert(1)> $ \\frac{ $ \x1b[31m \u202e"


@pytest.mark.long
@pytest.mark.parametrize(
    ("notebook", "dataset"), [("06_action_segmentation", "coin"), ("07_step_localization", "crosstask")]
)
def test_texts_of_a_data_set_are_shown_as_texts(tmp_path, notebook, dataset):
    """A label or a task's number that is HTML, a formula and an escape sequence, in tables and pictures."""
    shutil.copytree(minihowto() / dataset / "test", tmp_path / "set", ignore=shutil.ignore_patterns("features"))
    if dataset == "coin":
        file = tmp_path / "set" / "COIN.json"
        first = json.loads(file.read_text())["database"]["coin-test000"]["annotation"][0]["label"]
        file.write_text(file.read_text().replace(json.dumps(first), json.dumps(HOSTILE)))
    else:
        for file in [f for f in (tmp_path / "set").rglob("*") if f.is_file()]:
            file.write_text(file.read_text().replace("10003", HOSTILE))
            file.rename(file.with_name(file.name.replace("10003", HOSTILE)))
    given = {"annotations": str(tmp_path / "set"), "features": str(minihowto() / dataset / "test" / "features")}
    given |= {"n_train": 2} if dataset == "crosstask" else {}
    papermill.execute_notebook(
        NOTEBOOKS / f"{notebook}.ipynb", tmp_path / "done.ipynb", given | {"output": str(tmp_path / "out")},
        cwd=tmp_path, progress_bar=False,
    )  # fmt: skip
    cells = nbformat.read(tmp_path / "done.ipynb", 4).cells
    outputs = [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    shown = [output.data.get("text/html", "") for output in outputs if "data" in output]
    assert any("onerror" in html for html in shown) == (dataset == "crosstask")
    assert not any("<img" in html for html in shown)
