import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import papermill
import pytest
from error_kinds import KINDS, Meaning, errors, kind, meaning

import vclip
from vclip.datasets.youcook2 import Clip

NOTEBOOK = Path(__file__).resolve().parents[2] / "notebooks" / "10_error_analysis.ipynb"
SOUGHT = Meaning("chop", frozenset({"onion"}), "salad")


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Meaning("fry", frozenset({"onion", "pan"}), "stew"), "same thing, other action"),
        (Meaning("chop", frozenset({"leek"}), "stew"), "same action, other thing"),
        (Meaning("fry", frozenset({"leek"}), "salad"), "same topic, other step"),
        (Meaning("fry", frozenset({"leek"}), "stew"), "other topic"),
        # the same words in another video: the thing, not the action, must then be another one
        (Meaning("chop", frozenset({"onion"}), "stew"), "same action, other thing"),
    ],
)
def test_kinds(found, expected):
    assert kind(SOUGHT, found) == expected in KINDS


def test_topics_that_nobody_knows_are_not_the_same():
    unknown = Meaning("chop", frozenset(), None)
    assert kind(unknown, Meaning("fry", frozenset(), None)) == "other topic"


def test_meaning_comes_from_the_truth_or_from_the_words():
    clip = Clip("v", 0, 3, 9, "Dice the aubergine, and some leek into small pieces.", "113")
    assert meaning(clip) == Meaning("dice", frozenset({"aubergine", "leek", "small", "pieces"}), "113")
    assert meaning(clip, {("v", 3): ("chop", "eggplant", "stew")}) == Meaning("chop", frozenset({"eggplant"}), "stew")
    assert meaning(SimpleNamespace(video_id="v", sentence="")) == Meaning("", frozenset(), None)


def test_only_wrong_answers_are_errors():
    clips = [Clip("a", 0, 0, 9, "chop the onion", "1"), Clip("b", 0, 5, 50, "chop the leek", "2"),
             Clip("c", 0, 1, 9, "fry it", "2")]  # fmt: skip
    examples = pd.DataFrame({
        "video_id": ["a", "b", "c"], "start": [0, 5, 1], "rank": [2, 3, 1],
        "top_video_id": ["b", "c", "c"], "top_start": [5, 1, 1],
    })  # fmt: skip
    found = errors(examples, clips)
    assert found["kind"].tolist() == ["same action, other thing", "longer than 32 s"]
    assert found["top_sentence"].tolist() == ["chop the leek", "fry it"]
    assert "kind" not in examples


@pytest.mark.long
def test_notebook_10_takes_the_readers_files(tmp_path):
    """Videos with captions, one of them broken, their annotations and another checkpoint; then the first one again."""
    sample, clips, own = vclip.minihowto(), tmp_path / "clips", tmp_path / "own"
    for folder in (clips, own, tmp_path / "run"):
        folder.mkdir()
    name = "youcookii_annotations_trainval.json"
    annotations = json.loads((sample / "youcook2" / "test" / name).read_text())
    some = dict(sorted(annotations["database"].items())[:12])
    (clips / name).write_text(json.dumps(annotations | {"database": some}))
    for stem in ("test0000", "test0001"):
        for suffix in (".mp4", ".vtt"):
            shutil.copy(sample / "videos" / f"{stem}{suffix}", own)
    (own / "test0002.mp4").write_bytes(b"no video")
    model = vclip.VideoCLIPModel.from_pretrained(sample / "checkpoint")
    for weights in model.parameters():
        weights.data *= 1.05
    model.save_pretrained(tmp_path / "run" / "best")
    vclip.VideoCLIPProcessor.from_pretrained(sample / "checkpoint").save_pretrained(tmp_path / "run" / "best")
    shutil.copy(sample / "projection.safetensors", tmp_path / "run")

    given = {"videos": str(own), "output": str(tmp_path / "out"), "query": "stir the soup"}
    of_clips = {"annotations": str(clips), "features": str(sample / "test")}
    another = {"checkpoint": str(tmp_path / "run" / "best"), "other": str(sample / "checkpoint")}
    for more in (another, {}):
        notebook = papermill.execute_notebook(
            NOTEBOOK, tmp_path / "done.ipynb", given | of_clips | more, cwd=tmp_path, progress_bar=False
        )
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        assert any("image/jpeg" in output.get("data", {}) for output in outputs), "frames of the reader's own videos"
        assert "test0002.mp4" in str(outputs) and "2 videos" in str(outputs), "the broken file is named"
        reports = json.loads((tmp_path / "out" / "scores.json").read_text())["scores"]
        assert set(reports) == {f"{name}, youcook2" for name in ("model", "other")[: 1 + bool(more)]}
        assert all(report["coverage"]["videos"] == 12 for report in reports.values())
    assert len(list((tmp_path / "out/index/index").iterdir())) == 2, "each model has window vectors of its own"
    # without videos there is nothing to show or to browse, and nothing stops
    papermill.execute_notebook(
        NOTEBOOK,
        tmp_path / "done.ipynb",
        of_clips | {"output": str(tmp_path / "out")},
        cwd=tmp_path,
        progress_bar=False,
    )
