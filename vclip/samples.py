"""Where the corpus that ships is found, whatever the working directory; its test sets and pictures of their clips."""

import importlib
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vclip.names import refuse_unknown

if TYPE_CHECKING:
    from vclip.corpus import Corpus
    from vclip.datasets import Dataset

STYLES = ("test", "unseen")  # drawn as the training videos are; drawn with icons that no model has seen
DATASETS = ("youcook2", "msrvtt", "didemo", "coin", "crosstask")


def minihowto() -> Path:
    """The folder `data_samples/minihowto` beside the installed package.

    Raises FileNotFoundError if the package was installed without it.
    """
    path = Path(__file__).resolve().parent.parent / "data_samples" / "minihowto"
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is missing: install from a clone of the repository with `pip install -e .`")
    return path


def thumbnails(dataset: str = "youcook2") -> dict[tuple[str, int], np.ndarray]:
    """Small RGB frames by (video_id, second).

    Of the clips in YouCook2's format two each, a second after its start first; of another `dataset` ("msrvtt",
    "didemo", "coin", "crosstask") one in the middle of each step, both styles. Raises FileNotFoundError for any other.
    """
    import pyarrow.parquet as pq
    from PIL import Image

    sets = sorted(path.parent.name for path in minihowto().glob("*/thumbnails.parquet"))
    if dataset not in ("youcook2", *sets):
        raise FileNotFoundError(f"no thumbnails of {dataset!r}: there are those of youcook2, {', '.join(sets)}")
    # the clips in YouCook2's format are of the corpora's own videos
    folder = minihowto() if dataset == "youcook2" else minihowto() / dataset
    rows = pq.read_table(folder / "thumbnails.parquet").to_pylist()
    return {(row["video_id"], row["second"]): np.asarray(Image.open(io.BytesIO(row["jpeg"]))) for row in rows}


def picture(pictures: dict[tuple[str, int], np.ndarray], record) -> np.ndarray | None:
    """Of `thumbnails` the one nearest the middle of a record's clip, `start`:`end` or the whole video; else None."""
    seconds = [second for video_id, second in pictures if video_id == record.video_id]
    start, end = getattr(record, "start", 0), getattr(record, "end", None)
    seconds = [second for second in seconds if second >= start and (end is None or second < end)]
    if not seconds:
        return None
    middle = (start + (max(seconds) if end is None else end)) / 2
    return pictures[record.video_id, min(seconds, key=lambda second: abs(second - middle))]


def truth() -> dict[tuple[str, int], tuple[str, str, str]]:
    """What MiniHowTo's own videos show: (video_id, start of the step) -> (action, thing, topic)."""
    import pyarrow.parquet as pq

    rows = pq.read_table(minihowto() / "truth.parquet").to_pylist()
    return {(row["video_id"], row["start"]): (row["action"], row["thing"], row["topic"]) for row in rows}


def evaluation_sets(
    dataset: str, annotations: str | Path = "", features: str | Path = "", **options
) -> dict[str, "tuple[Dataset, Corpus]"]:
    """What to score, by name: records and the features of their videos.

    The official files at `annotations` and the corpus at `features` (or folder of `<video_id>.npy`); without either,
    MiniHowTo's two sets in the format of `dataset`, "test" in the style of the training videos and "unseen".
    `options` go to `vclip.datasets.<dataset>.load`. Raises TypeError for an unknown data set, ValueError if only one
    of the two paths is given.
    """
    from vclip.corpus import Corpus

    refuse_unknown([dataset], DATASETS, "data set")
    if bool(annotations) != bool(features):
        raise ValueError("annotations and features go together: give both, or neither for MiniHowTo")
    places = {dataset: (Path(annotations), Path(features))}
    if not annotations:
        folders = {style: minihowto() / dataset / style for style in STYLES}
        # the clips in YouCook2's format are of the corpora's own videos
        places = {s: (f, minihowto() / s if dataset == "youcook2" else f / "features") for s, f in folders.items()}
    load = importlib.import_module(f"vclip.datasets.{dataset}").load
    sets = {}
    for name, (files, rows) in places.items():
        corpus = Corpus.open(rows)
        # CrossTask's split depends on which videos have features
        records = load(files, **options, **({"features": corpus} if dataset == "crosstask" else {}))
        if not annotations:
            records.name = f"MiniHowTo {name}, as {records.name}"
        sets[name] = records, corpus
    return sets
