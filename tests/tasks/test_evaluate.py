import dataclasses
import inspect
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

import vclip
from vclip.data.corpus import Corpus
from vclip.datasets import youcook2
from vclip.datasets._records import Dataset
from vclip.datasets.didemo import TASKS, Description
from vclip.models.config import VideoCLIPConfig
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.videoclip import VideoCLIPModel
from vclip.models.videoclip_encoder import VideoCLIP
from vclip.tasks.evaluate import examiner

import corpora
from corpora import TOWER


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    return corpora.make(tmp_path_factory.mktemp("corpus") / "c", 8)


@pytest.fixture(scope="module")
def model() -> VideoCLIPModel:
    torch.manual_seed(0)
    return VideoCLIPModel(VideoCLIPConfig(video_config=TOWER, text_config=TOWER, video_feature_dim=corpora.DIM))


@pytest.fixture(scope="module")
def processor() -> VideoCLIPProcessor:
    return VideoCLIPProcessor(corpora.tokenizer())


def described(*video_ids: str, tasks=TASKS) -> Dataset:
    records = [Description(video_id, f"w{i} w{2 * i}", ((i % 6, 5),)) for i, video_id in enumerate(video_ids)]
    return Dataset("made", "all", records, tasks)


EIGHT = [f"video {i}" for i in range(8)]


@pytest.mark.parametrize("task", TASKS)
def test_two_runs_write_the_same_scores(model, processor, corpus, tmp_path, task):
    written = []
    for run, features in (("first", corpus), ("second", str(corpus.path))):
        report = vclip.evaluate(VideoCLIP(model.train(), processor), described(*EIGHT), features, task, seed=7)
        assert model.training
        written.append([file.read_bytes() for file in sorted(report.save(tmp_path / run).parent.iterdir())])
    assert written[0] == written[1] and len(written[0]) == 2
    assert report.task == task and report.about["seed"] == 7 and "chance" in report.baselines
    assert all(floor.keys() == report.scores.keys() for floor in report.baselines.values())


def test_the_first_task_is_the_usual_one(model, processor, corpus):
    report = vclip.evaluate(VideoCLIP(model, processor), described(*EIGHT), corpus, padding="reference")
    assert report.task == "moment_retrieval" and report.about["options"] == {"padding": "reference"}


def test_a_report_records_defaults_too(model, processor, corpus):
    def options(task, **given):
        return vclip.evaluate(VideoCLIP(model, processor), described(*EIGHT), corpus, task, **given).about["options"]

    assert options("moment_retrieval") == {"padding": "valid"}
    assert options("paragraph_retrieval") == {"ties": "against"}
    assert options("paragraph_retrieval", ties="reference") == {"ties": "reference"}


@pytest.mark.parametrize("task", TASKS)
def test_missing_features_are_counted_not_fatal(model, processor, corpus, task):
    some = described("gone", *EIGHT[:3], "lost", "gone", EIGHT[0])
    report = vclip.evaluate(VideoCLIP(model, processor), some, corpus, task)
    missing = ["gone", "lost"]
    counts = {"videos": 3, "of": 5, "missing": missing, "records": 4, "of_records": 7}
    assert report.coverage == counts | {"seconds": 0, "of_seconds": 0, "short": {}}
    assert "3 of 5 videos have features (not 'gone', 'lost'), 4 of 7 records scored" in repr(report)
    assert report.n == len(report.examples) == (4 if task == "moment_retrieval" else 3)
    assert set(report.examples["video_id"]) == set(EIGHT[:3])
    assert report.about["data"]["records"] == 7


@pytest.mark.parametrize("task", ["retrieval", *TASKS, "videoqa", "segmentation", "localization"])
def test_a_task_takes_a_seed_only_if_it_draws(task):
    assert ("seed" in inspect.signature(examiner(task)).parameters) == (task == "segmentation")


def test_wrong_tasks_and_options_are_named(model, processor, corpus):
    dataset = described(*EIGHT)
    with pytest.raises(TypeError, match="unknown task of made 'retrieval'.*: moment_retrieval, paragraph_retrieval"):
        vclip.evaluate(VideoCLIP(model, processor), dataset, corpus, "retrieval")
    with pytest.raises(TypeError, match="unknown option of paragraph_retrieval 'tie': did you mean 'ties'"):
        vclip.evaluate(VideoCLIP(model, processor), dataset, corpus, "paragraph_retrieval", tie="against")
    with pytest.raises(TypeError, match="unknown option of moment_retrieval 'ties'"):
        vclip.evaluate(VideoCLIP(model, processor), dataset, corpus, ties="against")
    with pytest.raises(TypeError, match="no task scores the records of made all: 8 records"):
        vclip.evaluate(VideoCLIP(model, processor), described(*EIGHT, tasks=()), corpus)


def test_wrong_data_and_features_are_named(model, processor, corpus, tmp_path):
    with pytest.raises(ValueError, match="made all: 0 records .*nothing to score"):
        vclip.evaluate(VideoCLIP(model, processor), described(), corpus)
    with pytest.raises(ValueError, match="none of the 1 videos of made all"):
        vclip.evaluate(VideoCLIP(model, processor), described("gone"), corpus)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        vclip.evaluate(VideoCLIP(model, processor), described(*EIGHT), tmp_path / "nowhere")
    other = VideoCLIPModel(
        VideoCLIPConfig(
            video_config=TOWER,
            text_config=TOWER,
            video_feature_dim=corpora.DIM,
            feature_spec=vars(corpora.spec(encoder="another")),
        )
    )
    with pytest.raises(ValueError, match="encoder: 'made' against 'another'"):
        vclip.evaluate(VideoCLIP(other, processor), described(*EIGHT), corpus)


def test_a_folder_of_other_tools_will_do(model, processor, corpus, tmp_path):
    for i in range(len(corpus)):
        np.save(tmp_path / f"{corpus.video_ids[i]}.npy", corpus.features(i))
    here, there = (vclip.evaluate(VideoCLIP(model, processor), described(*EIGHT), f) for f in (corpus, tmp_path))
    assert here.scores == there.scores and here.about["features"]["encoder"] == "made"
    assert there.about["features"] == {"hash": here.about["features"]["hash"]}


def test_evaluate_is_found_without_loading_the_tasks():
    code = "import sys, vclip; print('vclip.tasks.retrieval' in sys.modules, 'evaluate' in dir(vclip))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


@pytest.mark.parametrize("span", [(20, 10), (-5, 5), (0, -5), (math.nan, 5), (1, math.nan), (0, math.inf)])
def test_a_segment_that_is_none_is_named(span):
    folder = vclip.minihowto()
    shipped = vclip.load(folder / "checkpoint")
    clips = youcook2.load(folder / "youcook2" / "val")
    wrong = dataclasses.replace(clips[0], start=span[0], end=span[1])
    with pytest.raises(ValueError, match=f"{clips[0].video_id!r} has a segment"):
        vclip.evaluate(shipped, vclip.Dataset("made", "all", [wrong, *clips[1:9]], ["retrieval"]), folder / "val")


def test_other_things_than_a_model_and_a_data_set_are_named(model, processor, corpus):
    for clip, dataset in ((VideoCLIP(model, processor), list(described(*EIGHT))), (model, described(*EIGHT))):
        with pytest.raises(TypeError, match="no task scores .*: pass clip, dataset"):
            vclip.evaluate(clip, dataset, corpus)
