"""YouCook2 (Zhou et al. 2018): cooking videos cut into steps, each with a sentence; for text-to-video retrieval."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from vclip.data.pickles import load_pickle
from vclip.datasets._files import Release, Segment, Text, adapter, checked, find_file, read_csv, read_json
from vclip.datasets._records import Dataset

FILE = "youcookii_annotations_trainval.json"
TASKS = ("retrieval",)


@dataclass(frozen=True)
class Clip:
    """Seconds `start`:`end` (whole, end exclusive) of a video, step number `index` of it, and what is done there.

    `recipe_type` is the official number of the recipe, None where the file lacks it; `caption` the text that a list of
    clips brings along (in the released .pkl: the sentence without stop words), None without a list.
    """

    video_id: str
    index: int
    start: int
    end: int
    sentence: str
    recipe_type: str | None = None
    caption: str | None = None


@dataclass
class _Step:
    segment: Segment
    sentence: Text


@dataclass
class _Video:
    subset: str
    annotations: list[_Step]
    recipe_type: str | int | None = None


@dataclass
class _PickledClip:
    id: str
    caption: str  # may be empty: nothing but stop words is left of some sentence


@dataclass
class _ListedClip:
    video_id: Text
    start: int
    end: int
    text: Text


def load(
    path: str | Path, split: Literal["training", "validation"] = "validation", clips: str | Path | None = None
) -> Dataset[Clip]:
    """The clips of one split, video by video.

    Args:
        path: the release's folder or its youcookii_annotations_trainval.json, gzip or plain.
        split: "training" or "validation"; the test split has no annotations.
        clips: restricts to a list, in its order: a .csv with video_id, start, end and text (MIL-NCE's
            validation_youcook.csv) or a .pkl with `id` "<video>_<index>" and `caption` (MMPT's youcook_val.pkl).
            Listed clips of videos without annotation are `left_out`.

    Returns:
        A `Dataset` of `Clip`s.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: unknown split, a value that is not as in the official files, a listed clip that its video or the
            split does not have; it names file, place and value.

    Example:
        >>> import json, tempfile
        >>> step = {"segment": [3, 9], "sentence": "chop the onion"}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     database = {"v": {"subset": "validation", "annotations": [step]}}
        ...     _ = (Path(folder) / FILE).write_text(json.dumps({"database": database}))
        ...     load(folder)[0]
        Clip(video_id='v', index=0, start=3, end=9, sentence='chop the onion', recipe_type=None, caption=None)
    """
    if split not in ("training", "validation"):
        raise ValueError(f"unknown split {split!r}: 'training' or 'validation' (the test split has no annotations)")
    file = find_file(path, FILE)
    videos = read_json(file, Release[_Video]).database
    records = []
    for video_id, video in videos.items():
        recipe = None if video.recipe_type is None else str(video.recipe_type)
        for index, step in enumerate(video.annotations if video.subset == split else ()):
            start, end = map(int, step.segment)
            if (start, end) != step.segment:
                where = f"{file}: database.{video_id}.annotations.{index}"
                raise ValueError(f"{where}: the segment {step.segment} is not in whole seconds")
            records.append(Clip(video_id, index, start, end, step.sentence, recipe))
    if clips is None:
        return Dataset("YouCook2", split, records, TASKS)
    pickled = Path(clips).name.removesuffix(".gz").endswith(".pkl")
    wanted = _read_pickle(Path(clips)) if pickled else _read_csv(Path(clips))
    chosen = _choose(records, [row for row in wanted if row[1] in videos], f"the {split} split of {file}")
    return Dataset("YouCook2", split, chosen, TASKS, [row[1] for row in wanted if row[1] not in videos])


def _choose(records: Sequence[Clip], wanted: Sequence[tuple], of: str) -> list[Clip]:
    found = defaultdict(list)
    for clip in records:
        found[clip.video_id, clip.index].append(clip)
        found[clip.video_id, (clip.start, clip.end)].append(clip)
    chosen = []
    for where, video_id, which, caption in wanted:
        same = found.get((video_id, which))
        if not same:
            raise ValueError(f"{where}: {of} has no clip {which} of video {video_id!r}")
        # two steps of one video can share a segment: they are listed in the order of the annotations
        chosen.append(replace(same.pop(0) if len(same) > 1 else same[0], caption=caption))
    return chosen


def _read_pickle(file: Path) -> list[tuple[str, str, int, str]]:
    """(where, video_id, index, caption) of each record."""
    content, wanted = load_pickle(file), []
    for number, row in enumerate(checked(str(file), lambda: adapter(list[_PickledClip]).validate_python(content)), 1):
        video_id, _, index = row.id.rpartition("_")
        if not video_id or not index.isdecimal():
            raise ValueError(f"{file}, row {number}: the id {row.id!r} is not <video>_<clip index>")
        wanted.append((f"{file}, row {number}", video_id, int(index), row.caption))
    return wanted


def _read_csv(file: Path) -> list[tuple[str, str, tuple[int, int], str]]:
    """(where, video_id, (start, end), text) of each row."""
    rows = read_csv(file, _ListedClip)
    return [(where, row.video_id, (row.start, row.end), row.text) for where, row in rows]
