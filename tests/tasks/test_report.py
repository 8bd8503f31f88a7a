import json

import numpy as np
import pandas as pd
import pytest
import torch

from vclip.corpus import Corpus
from vclip.datasets._records import Dataset
from vclip.datasets.didemo import Description
from vclip.model import VideoCLIPConfig, VideoCLIPModel
from vclip.tasks.report import Report, about, coverage, covered, weights_hash

import corpora

TOWER = {
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "vocab_size": 200,
}


def report(**changes) -> Report:
    values = {
        "task": "retrieval",
        "scores": {"r1": 0.41753653, "median_rank": 10.5, "edit": float("nan")},
        "floors": {"chance": {"r1": 0.002, "median_rank": 240.0}},
        "n": 479,
        "unit": "texts",
        "examples": pd.DataFrame({"video_id": ["a", "b"], "rank": [1, 2], "scores": [np.ones(2), np.zeros(2)]}),
        "coverage": {"videos": 119, "of": 120, "missing": ["gone"]},
        "about": {"data": {"name": "YouCook2", "split": "validation"}, "seed": 0, "options": {}},
    }
    return Report(**values | changes)


def strict(text: str):
    """JSON as the standard has it: no NaN, no Infinity."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


def test_a_table_beside_the_floors():
    lines = repr(report()).splitlines()
    assert lines[0] == "retrieval, YouCook2 validation: n = 479 texts, 119 of 120 videos have features"
    assert [line.split() for line in lines[1:]] == [
        ["score", "chance"],
        ["r1", "0.4175", "0.002"],
        ["median_rank", "10.5", "240"],
        ["edit", "–", "–"],
    ]
    assert [line.split() for line in repr(report(scores={"r1": 1.0, "median_rank": 50000.5})).splitlines()[2:]] == [
        ["r1", "1", "0.002"],
        ["median_rank", "50000.5", "240"],
    ]


def test_markup_in_names_is_shown_not_run():
    hostile = "<script>alert(1)</script>&"
    shown = report(
        task=hostile,
        unit=hostile,
        scores={hostile: 0.5},
        floors={hostile + "f": {hostile: 0.1}},
        about={"data": {"name": hostile, "split": hostile}},
    )._repr_html_()
    assert "<script" not in shown and shown.count("&lt;script&gt;") == 6
    assert "<td>0.5</td>" in shown and "<td>0.1</td>" in shown


def test_what_is_saved_is_plain_json(tmp_path):
    options = {"ties": "against", "rule": {"k": np.int64(3), "share": np.float32(0.5), 4: (1, torch.float32)}}
    made = report(
        scores={"r1": np.float64(0.25), "edit": float("nan"), "far": np.float32("inf")},
        floors={"chance": {"edit": float("nan")}},
        about={"options": options},
    )
    path = made.save(tmp_path / "new" / "folder")
    saved = strict(path.read_text())
    assert path.name == "scores.json"
    assert saved["scores"] == {"r1": 0.25, "edit": None, "far": None} and saved["floors"] == {"chance": {"edit": None}}
    assert saved["options"] == {"ties": "against", "rule": {"k": 3, "share": 0.5, "4": [1, "torch.float32"]}}
    assert {"vclip", "torch", "transformers", "numpy", "python"} <= saved["versions"].keys()
    assert (saved["n"], saved["unit"], saved["coverage"]["missing"]) == (479, "texts", ["gone"])
    rows = [strict(line) for line in (path.parent / "examples.json").read_text().splitlines()]
    assert rows == [
        {"video_id": "a", "rank": 1, "scores": [1.0, 1.0]},
        {"video_id": "b", "rank": 2, "scores": [0.0, 0.0]},
    ]
    made.save(path.parent)
    assert sorted(file.name for file in path.parent.iterdir()) == ["examples.json", "scores.json"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    return corpora.make(tmp_path_factory.mktemp("corpus") / "c", 3)


def described(*video_ids: str) -> Dataset:
    return Dataset("made", "all", [Description(video_id, "w1", ((0, 0),)) for video_id in video_ids], (), ["listed"])


def test_coverage_counts_videos(corpus):
    dataset = described("video 1", "gone", "video 1", "gone", "lost", "video 0")
    assert coverage(dataset, corpus) == {"videos": 2, "of": 4, "missing": ["gone", "lost"]}
    assert covered(dataset, corpus) == [0, 2, 5]
    with pytest.raises(ValueError, match="none of the 2 videos of made all"):
        coverage(described("gone", "lost"), corpus)
    with pytest.raises(ValueError, match="made all: 0 records .*nothing to score"):
        coverage(described(), corpus)


def test_about_tells_models_and_data_apart(corpus):
    def model(seed: int) -> VideoCLIPModel:
        torch.manual_seed(seed)
        return VideoCLIPModel(VideoCLIPConfig(video_config=TOWER, text_config=TOWER, video_feature_dim=corpora.DIM))

    first, same, other = model(0), model(0), model(1)
    assert weights_hash(first) == weights_hash(same) != weights_hash(other)
    assert weights_hash(first.bfloat16()) != weights_hash(same)
    first.config._name_or_path = "/home/someone/runs/best"
    made = about(first, described("video 0"), corpus, 3, {"ties": "against"})
    assert made["model"]["name"] == "best" and made["seed"] == 3 and made["options"] == {"ties": "against"}
    assert made["features"]["encoder"] == "made" and made["data"]["left_out"] == 1
    again, others = (about(same, described(*ids), corpus, 3, {}) for ids in (["video 0"], ["video 1"]))
    assert made["data"] == again["data"] != others["data"]
