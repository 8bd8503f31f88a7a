import importlib
import shutil

import numpy as np
import pytest
import shipped

from vclip import minihowto


def test_thumbnails_are_small_pictures_of_test_videos():
    pictures = shipped.thumbnails()
    assert {video.rstrip("0123456789") for video, _ in pictures} == {"test", "unseen"}
    for picture in list(pictures.values())[::211]:
        assert picture.shape == (96, 96, 3) and picture.dtype == np.uint8 and picture.std() > 5


def test_the_truth_names_every_clip():
    known = shipped.truth()
    for records, _ in shipped.evaluation_sets("youcook2").values():
        assert all((clip.video_id, clip.start) in known for clip in records)
    assert known["test0000", 6] == ("fry", "cactus", "space lunch")


@pytest.mark.parametrize(
    ("dataset", "shown"),
    [
        ("youcook2", "MiniHowTo train, as YouCook2 training: 2683 records of 600 videos"),
        ("msrvtt", "MiniHowTo train, as MSR-VTT train: 1200 records of 240 videos"),
        ("coin", "MiniHowTo test, as COIN training: 32 records of 32 videos"),
        ("crosstask", "MiniHowTo test, as CrossTask train: 48 records of 48 videos"),
    ],
)
def test_training_sets_and_their_features(dataset, shown):
    records, corpus = shipped.training_set(dataset)
    assert repr(records) == shown and not records.missing(corpus)


def test_crosstasks_videos_are_trained_on_scored_or_for_validation():
    records, _ = shipped.training_set("crosstask")
    whole, left = shipped.evaluation_sets("crosstask"), shipped.evaluation_sets("crosstask", excluding=records)
    assert {name: len(found) for name, (found, _) in whole.items()} == {"test": 72, "unseen": 72}
    assert {name: len(found) for name, (found, _) in left.items()} == {"test": 24, "unseen": 72}
    assert set(whole["test"][0].video_ids) == {*left["test"][0].video_ids, *records.video_ids}
    assert {task: [r.task for r in records].count(task) for task in {r.task for r in records}} == dict.fromkeys(
        {r.task for r in whole["test"][0]}, 8
    )
    rest = shipped.evaluation_sets("crosstask", n_train=8)["test"][0]  # the released split says the same
    assert list(rest) == list(left["test"][0])
    validation = set(shipped.evaluation_sets("crosstask", split="validation")["test"][0].video_ids)
    assert len(validation) == 24 and not validation & set(whole["test"][0].video_ids)
    fewer, _ = shipped.training_set("crosstask", n_train=2)
    assert len(fewer) == 12


def test_a_training_set_of_ones_own_files(tmp_path):
    folder = tmp_path / "coin"
    shutil.copytree(minihowto() / "coin" / "test", folder)
    records, corpus = shipped.training_set("coin", folder, folder / "features")
    assert repr(records) == "COIN training: 32 records of 32 videos" and "coin-training000" in corpus
    with pytest.raises(ValueError, match="annotations and features go together"):
        shipped.training_set("coin", folder)
    with pytest.raises(
        TypeError, match="data set with videos for training 'didemo'.*coin, crosstask, msrvtt, youcook2"
    ):
        shipped.training_set("didemo")


@pytest.mark.parametrize(
    ("dataset", "name"),
    list(zip(shipped.DATASETS, ("YouCook2", "MSR-VTT", "DiDeMo", "COIN", "CrossTask"), strict=True)),
)
def test_what_is_made_says_so(dataset, name):
    for style, (records, _) in shipped.evaluation_sets(dataset).items():
        assert records.name == f"MiniHowTo {style}, as {name}"
    load = importlib.import_module(f"vclip.datasets.{dataset}").load
    assert load(minihowto() / dataset / "test").name == name  # the reader knows the layout alone
