import json
import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch

from vclip.data.corpus import Corpus
from vclip.datasets import crosstask as crosstask_records
from vclip.datasets._records import Dataset
from vclip.datasets.coin import COIN, Segment, Video
from vclip.datasets.didemo import Description
from vclip.models.config import VideoCLIPConfig
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.videoclip import VideoCLIPModel
from vclip.models.videoclip_encoder import VideoCLIP
from vclip.tasks.report import Report, about, coverage, covered, features_hash

import corpora
from corpora import TOWER


def report(**changes) -> Report:
    values = {
        "task": "retrieval",
        "scores": {"r1": 0.41753653, "median_rank": 10.5, "edit": float("nan")},
        "baselines": {"chance": {"r1": 0.002, "median_rank": 240.0}},
        "n": 479,
        "unit": "texts",
        "examples": pd.DataFrame({"video_id": ["a", "b"], "rank": [1, 2], "scores": [np.ones(2), np.zeros(2)]}),
        "coverage": {"videos": 119, "of": 120, "missing": ["gone"], "records": 479, "of_records": 480},
        "about": {"data": {"name": "YouCook2", "split": "validation"}, "seed": 0, "options": {}},
    }
    return Report(**values | changes)


def strict(text: str):
    """JSON as the standard has it: no NaN, no Infinity."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))


def test_a_table_in_per_cent_beside_the_baselines():
    lines = repr(report()).splitlines()
    assert lines[0] == (
        "retrieval, YouCook2 validation: n = 479 texts, 119 of 120 videos have features (not 'gone'), "
        "479 of 480 records scored"
    )
    assert [line.split() for line in lines[1:]] == [
        ["r1", "%", "median_rank", "edit", "%"],
        ["score", "41.8", "10.5", "–"],
        ["chance", "0.2", "240.0", "–"],
    ]


def test_the_headline_names_what_is_not_scored():
    found = {"videos": 1, "of": 6, "missing": ["a", "b", "c\n", "d", "e"], "records": 8, "of_records": 20}
    about = {"data": {"name": "COIN", "split": "testing", "left_out": 2}}
    headline = repr(report(coverage=found, about=about, details={"left_out": 3})).splitlines()[0]
    assert headline == (
        "retrieval, COIN testing: n = 479 texts, 1 of 6 videos have features (not 'a', 'b', 'c\\n', ...), "
        "5 of 20 records scored, 2 listed left out"
    )
    whole = report(coverage={"videos": 6, "of": 6, "missing": [], "records": 20, "of_records": 20})
    assert "6 of 6 videos have features, 20 of 20 records scored\n" in repr(whole)


def test_markup_in_names_is_shown_not_run():
    hostile = "<script>alert(1)</script>&"
    shown = report(
        task=hostile,
        unit=hostile,
        scores={hostile: 0.5},
        baselines={hostile + "f": {hostile: 0.1}},
        about={"data": {"name": hostile, "split": hostile}},
        coverage={"videos": 1, "of": 2, "missing": [hostile], "records": 1, "of_records": 2},
    )._repr_html_()
    assert "<script" not in shown and shown.count("&lt;script&gt;") == 7
    assert "<td>50.0</td>" in shown and "<td>10.0</td>" in shown


def test_what_is_saved_is_plain_json(tmp_path):
    options = {"ties": "against", "rule": {"k": np.int64(3), "share": np.float32(0.5), 4: (1, torch.float32)}}
    made = report(
        scores={"r1": np.float64(0.25), "edit": float("nan"), "far": np.float32("inf")},
        baselines={"chance": {"edit": float("nan")}},
        about={"options": options},
    )
    path = made.save(tmp_path / "new" / "folder")
    saved = strict(path.read_text())
    assert path.name == "scores.json"
    assert saved["scores"] == {"r1": 0.25, "edit": None, "far": None} and saved["baselines"] == {
        "chance": {"edit": None}
    }
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
    assert coverage(dataset, corpus) == {
        "videos": 2, "of": 4, "missing": ["gone", "lost"], "records": 3, "of_records": 6,
        "seconds": 0, "of_seconds": 0, "short": {},
    }  # fmt: skip
    assert covered(dataset, corpus) == [0, 2, 5]
    sides = r"its ids are like \['video 0', 'video 1', 'video 2'\], not like \['gone', 'lost'\]"
    with pytest.raises(ValueError, match=f"none of the 2 videos of made all.*{sides}"):
        coverage(described("gone", "lost"), corpus)
    with pytest.raises(ValueError, match="made all: 0 records .*nothing to score"):
        coverage(described(), corpus)


def test_few_videos_found_show_the_ids_of_both_sides(corpus):
    sides = r"lacks 2 of the 3 videos of made all: .*: its ids are like \['video 0', .*, not like \['gone', 'lost'\]"
    with pytest.warns(UserWarning, match=sides):
        assert coverage(described("video 1", "gone", "lost"), corpus)["videos"] == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert coverage(described("video 1.mov", "video 2.", "gone", "lost"), corpus)["missing"] == ["gone", "lost"]


@dataclass(frozen=True)
class Clip:
    video_id: str
    end: float
    start: float = 0


def steps(video_id: str, end: float, seconds: float | None = None) -> Video:
    return Video(video_id, seconds, "t", 1, (Segment(0, 1, 1), Segment(end - 1, end, 1)))


def crosstask(video_id: str, end: float) -> crosstask_records.Video:
    return crosstask_records.Video(video_id, "t", "T", ("a",), ((0, end - 1, end), (0, 0, 1)))


@pytest.mark.parametrize("made", [Clip, steps, crosstask])
def test_features_that_end_before_the_annotations(corpus, made):
    last = {video_id: float(n) for video_id, n in zip(corpus.video_ids, corpus.seconds, strict=True)}
    ends = [last["video 0"] + 2, last["video 1"] + 7.5, last["video 2"] - 3, 99]
    dataset = Dataset("made", "all", [made(*row) for row in zip([*last, "gone"], ends, strict=True)])
    found = coverage(dataset, corpus)
    assert found["short"] == {"video 1": 7.5} and found["missing"] == ["gone"]
    assert found["of_seconds"] == sum(ends[:3]) and found["seconds"] == sum(ends[:3]) - 7.5
    said = f"(not 'gone'), 1 of them only {sum(ends[:3]) - 7.5:.0f} of {sum(ends[:3]):.0f} annotated seconds, 3 of"
    assert said in repr(report(coverage=found))


@pytest.mark.parametrize("rate", [0.25, 0.5, 1, 1.5, 2, 4, 30])
def test_features_at_another_rate_are_noticed(tmp_path, rate):
    rng = np.random.default_rng(0)
    ends = rng.uniform(60, 400, 40)
    lengths = ends * (1 + rng.gamma(1.2, 0.16, 40))  # as far as YouCook2's videos go on
    for i, length in enumerate(lengths):
        np.save(tmp_path / f"v{i}.npy", np.ones((int(np.ceil(length * rate)), 4), np.float32))
    corpus = Corpus.open(tmp_path)
    for seconds in ([None] * 40, lengths):
        rows = enumerate(zip(ends, seconds, strict=True))
        dataset = Dataset("made", "all", [steps(f"v{i}", end, length) for i, (end, length) in rows])
        if rate == 1:
            assert coverage(dataset, corpus)["short"] == {}
            continue
        message = rf"about [\d.]+ features for each annotated second of made all.*rate={rate:g}\) makes them one"
        with pytest.raises(ValueError, match=message if rate < 5 else "about 3"):
            coverage(dataset, corpus)
        assert coverage(dataset, Corpus.open(tmp_path, rate=rate))["short"] == {}
        assert (coverage(dataset, Corpus.open(tmp_path, rate=1))["short"] != {}) == (rate < 1)
        few = Dataset("made", "all", dataset[:5])
        assert (coverage(few, corpus)["short"] != {}) == (rate < 1)


def test_videos_cut_at_one_length_or_hardly_annotated_are_no_other_rate(tmp_path):
    rng = np.random.default_rng(0)
    ends = rng.uniform(60, 400, 40)
    for i in range(40):
        np.save(tmp_path / f"v{i}.npy", np.ones((100, 4), np.float32))
    cut = coverage(Dataset("made", "all", [Clip(f"v{i}", end) for i, end in enumerate(ends)]), Corpus.open(tmp_path))
    assert len(cut["short"]) == sum(ends > 102)
    coverage(Dataset("made", "all", [Clip(f"v{i}", rng.uniform(5, 100)) for i in range(40)]), Corpus.open(tmp_path))


def encoder(seed: int, path: str = "") -> VideoCLIP:
    torch.manual_seed(seed)
    model = VideoCLIPModel(VideoCLIPConfig(video_config=TOWER, text_config=TOWER, video_feature_dim=corpora.DIM))
    model.config._name_or_path = path
    return VideoCLIP(model, VideoCLIPProcessor(corpora.tokenizer()))


def test_about_tells_models_and_data_apart(corpus):
    first, same, other = encoder(0, "/home/someone/runs/best"), encoder(0), encoder(1)
    assert first.identity == same.identity != other.identity
    made = about(first, described("video 0"), corpus, 3, {"ties": "against"})
    assert made["model"] == {"name": "runs/best"} | first.identity
    assert made["seed"] == 3 and made["options"] == {"ties": "against"}
    assert made["features"]["encoder"] == "made" and made["data"]["left_out"] == 1
    again, others = (about(same, described(*ids), corpus, 3, {}) for ids in (["video 0"], ["video 1"]))
    assert made["data"] == again["data"] != others["data"]


def test_features_and_labels_are_told_apart(corpus, tmp_path):
    features = {video_id: np.array(corpus.features(i)) for i, video_id in enumerate(corpus.video_ids)}

    def written(name: str, rows: dict[str, np.ndarray]) -> Corpus:
        (tmp_path / name).mkdir()
        for video_id, array in rows.items():
            np.save(tmp_path / name / f"{video_id}.npy", array)
        return Corpus.open(tmp_path / name)

    dataset = described("video 1", "gone", "video 0")
    expected = features_hash(dataset, corpus)
    assert features_hash(described("video 0", "video 1", "video 1"), corpus) == expected
    assert features_hash(dataset, written("same", features)) == expected
    assert features_hash(dataset, written("unused", features | {"video 2": features["video 1"]})) == expected
    changed = features["video 0"].copy()
    changed[-1, -1] += 1
    for name, rows in (("one", changed), ("shorter", features["video 0"][:-1])):
        assert features_hash(dataset, written(name, features | {"video 0": rows})) != expected

    clip = encoder(0)
    videos = [Video("video 0", 9.0, "task", 0, ())]
    hashes = [
        about(clip, COIN("testing", videos, texts), corpus, 0, {})["data"]["hash"]
        for texts in (["a", "b"], ["a", "b"], ["a", "c"])
    ]
    assert hashes[0] == hashes[1] != hashes[2]
    assert about(clip, dataset, Corpus.open(tmp_path / "same"), 0, {})["features"] == {"hash": expected}
