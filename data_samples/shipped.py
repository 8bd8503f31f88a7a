"""MiniHowTo's sets in the official formats, their pictures and what they show: what the notebooks score and draw."""

import importlib
import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from vclip import Scrubber
from vclip.data.corpus import Corpus
from vclip.data.text import refuse_unknown
from vclip.datasets import Dataset
from vclip.datasets.minihowto import minihowto
from vclip.search import playback

STYLES = ("test", "unseen")  # drawn as the training videos are; drawn with icons that no model has seen
DATASETS = ("youcook2", "msrvtt", "didemo", "coin", "crosstask")
TRAINING = {"youcook2": "training", "msrvtt": "train", "coin": "training", "crosstask": "train"}  # splits
CROSSTASK_TRAIN = 8  # of MiniHowTo's videos a task


def evaluation_sets(
    dataset: str, annotations: str | Path = "", features: str | Path = "", excluding: Dataset | None = None, **options
) -> dict[str, tuple[Dataset, Corpus]]:
    """What to score: records and the features of their videos, by name.

    Args:
        dataset: one of `DATASETS`.
        annotations: the official files. Without them the sets are MiniHowTo's in the same format: "test" in the style
            of the training videos, and "unseen".
        features: a corpus of these videos, or a folder of `<video_id>.npy`; goes with `annotations`.
        excluding: the records of `training_set`, whose videos are left out. MiniHowTo's CrossTask alone needs it: its
            "test" is all videos that are not for validation.
        options: for `vclip.datasets.<dataset>.load`; `n_train` of MiniHowTo's CrossTask is 0 unless given.
    """
    refuse_unknown([dataset], DATASETS, "data set")
    _refuse_one(annotations, features)
    if annotations:
        sets = {dataset: _read(dataset, annotations, features, options)}
    else:
        options = {"n_train": 0} | options if dataset == "crosstask" else options
        sets = {style: made_set(dataset, style, **options) for style in STYLES}
    for records, _ in sets.values():
        trained = () if excluding is None else set(excluding.video_ids)
        records.records = [record for record in records if record.video_id not in trained]
    return sets


def training_set(
    dataset: str, annotations: str | Path = "", features: str | Path = "", **options
) -> tuple[Dataset, Corpus]:
    """What to fine-tune on: the records of the split for training, and the features of their videos.

    No video of it is in `evaluation_sets(dataset, excluding=records)`. MiniHowTo's are all drawn in the training
    style. YouCook2's and MSR-VTT's show none of the held-out pairs, but their videos are those of pre-training: to the
    checkpoint that ships a part held out of them is not new, `youcook2/val` is. COIN's and CrossTask's show the steps
    that are scored, for these have to be learnt, and some are held-out pairs. CrossTask's are 8 of the 16 videos a
    task; 4 more are for validation, 4 are left to be scored.

    Args:
        dataset: a key of `TRAINING`.
        annotations, features: as in `evaluation_sets`.
        options: for `vclip.datasets.<dataset>.load`.
    """
    refuse_unknown([dataset], TRAINING, "data set with videos for training")
    _refuse_one(annotations, features)
    options = {"split": TRAINING[dataset]} | options
    if annotations:
        return _read(dataset, annotations, features, options)
    if dataset == "crosstask":
        options = {"n_train": CROSSTASK_TRAIN} | options
    # COIN's and CrossTask's training videos are in the files of their test sets, as in the real ones
    return made_set(dataset, "test" if dataset in ("coin", "crosstask") else "train", **options)


def made_set(dataset: str, style: str, **options) -> tuple[Dataset, Corpus]:
    """The set in the folder `style` ("test", "unseen", of some "train" or "val"): "MiniHowTo test, as COIN"."""
    files = minihowto() / dataset / style
    # the clips in YouCook2's format are of the corpora's own videos
    features = minihowto() / style if dataset == "youcook2" else files / "features"
    records, corpus = _read(dataset, files, features, options)
    records.name = f"MiniHowTo {style}, as {records.name}"
    return records, corpus


def _read(dataset: str, files: str | Path, features: str | Path, options: dict) -> tuple[Dataset, Corpus]:
    corpus = Corpus.open(Path(features))
    if dataset == "crosstask":  # its split depends on which videos have features
        options = {"features": corpus} | options
    return importlib.import_module(f"vclip.datasets.{dataset}").load(Path(files), **options), corpus


def _refuse_one(annotations: str | Path, features: str | Path) -> None:
    if bool(annotations) != bool(features):
        raise ValueError("annotations and features go together: give both, or neither for MiniHowTo")


def thumbnails(dataset: str = "youcook2") -> dict[tuple[str, int], np.ndarray]:
    """(video_id, second) -> RGB frame (96, 96, 3) of a data set's test videos, in both styles.

    "youcook2" has two frames per clip, the first one second in; the others have one per step, mid-step.
    """
    refuse_unknown([dataset], DATASETS, "data set")
    # the clips in YouCook2's format are of the corpora's own videos
    folder = minihowto() if dataset == "youcook2" else minihowto() / dataset
    rows = pq.read_table(folder / "thumbnails.parquet").to_pylist()
    return {(row["video_id"], row["second"]): np.asarray(Image.open(io.BytesIO(row["jpeg"]))) for row in rows}


def picture(pictures: dict[tuple[str, int], np.ndarray], record) -> np.ndarray | None:
    """The frame nearest the middle of a record's clip (`start` to `end`, else the whole video); None if there is none.

    `pictures` is from `thumbnails`.
    """
    start, end = getattr(record, "start", 0), getattr(record, "end", None)
    seconds = [second for video_id, second in pictures if video_id == record.video_id]
    seconds = [second for second in seconds if second >= start and (end is None or second < end)]
    if not seconds:
        return None
    middle = (start + (max(seconds) if end is None else end)) / 2
    return pictures[record.video_id, min(seconds, key=lambda second: abs(second - middle))]


def picture_at(
    pictures: dict[tuple[str, int], np.ndarray], files: Mapping[str, Path], video_id: str, second: float
) -> np.ndarray | None:
    """The frame of a video at a second, from its file, else the nearest of `thumbnails`; None if there is neither."""
    if video_id in files:
        return next(playback.pictures(files[video_id], [second], playback.THUMBNAIL_SIDE))
    near = {abs(at - second): image for (name, at), image in pictures.items() if name == video_id}
    return near[min(near)] if near else None


def film(corpus: Corpus, video_id: str, pictures: dict, files: Mapping[str, Path], **options) -> Scrubber:
    """The scrubber of a video with its captions: of its file, else of its `thumbnails`. `options`: as `Scrubber`'s."""
    place = corpus.index(video_id)
    shown = {float(second): image for (name, second), image in pictures.items() if name == video_id}
    file, said = files.get(video_id), corpus.captions(place)
    options = {"captions": said if len(said) else None} | options
    return Scrubber(int(corpus.seconds[place]), file, None if file else shown, **options)


def truth() -> dict[tuple[str, int], tuple[str, str, str]]:
    """What MiniHowTo's own videos show: (video_id, start of the step in s) -> (action, thing, topic)."""
    rows = pq.read_table(minihowto() / "truth.parquet").to_pylist()
    return {(row["video_id"], row["start"]): (row["action"], row["thing"], row["topic"]) for row in rows}


def shown_classes() -> dict[str, Callable[[Any], str]]:
    """What the clips of MiniHowTo's own videos share or not, for `r1_within`: {name: record -> class}."""
    shown = truth()
    return {
        name: lambda record, place=place: shown[record.video_id, record.start][place]
        for place, name in enumerate(("action", "thing", "topic"))
    }
