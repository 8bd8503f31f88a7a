"""YouCook2 (Zhou et al. 2018): cooking videos cut into steps, each with a sentence; for text-to-video retrieval."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from vclip.data.pickles import load_pickle
from vclip.datasets._files import Release, Segment, Text, check, find_file, read_csv, read_json, read_text
from vclip.datasets._records import Dataset, check_split

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
    segment: Segment[Annotated[int, Field(ge=0)]]  # whole seconds
    sentence: Text


@dataclass
class _Video:
    subset: str
    annotations: list[_Step]
    recipe_type: str | int | None = None


@dataclass
class _PickledClip:
    id: Annotated[str, Field(pattern="^.+_[0-9]+$")]
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

    Raises:
        ValueError: unknown split, a value that is not as in the official files, a listed clip that its video or the
            split does not have; it names file, place and value.

    Example:
        >>> import vclip
        >>> load(vclip.minihowto() / "youcook2" / "val")
        YouCook2 validation: 284 records of 64 videos
    """
    check_split(split, ("training", "validation"))
    file = find_file(path, FILE)
    videos = read_json(read_text(file), Release[_Video]).database
    records = []
    for video_id, video in videos.items():
        recipe = None if video.recipe_type is None else str(video.recipe_type)
        for index, step in enumerate(video.annotations if video.subset == split else ()):
            records.append(Clip(video_id, index, *step.segment, step.sentence, recipe))
    if clips is None:
        return Dataset("YouCook2", split, records, TASKS)
    pickled = ".pkl" in Path(clips).suffixes
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
    wanted = []
    for number, row in enumerate(check(str(file), list[_PickledClip], load_pickle(file)), 1):
        video_id, _, index = row.id.rpartition("_")
        wanted.append((f"{file}, row {number}", video_id, int(index), row.caption))
    return wanted


def _read_csv(file: Path) -> list[tuple[str, str, tuple[int, int], str]]:
    """(where, video_id, (start, end), text) of each row."""
    rows = read_csv(read_text(file), _ListedClip)
    return [(where, row.video_id, (row.start, row.end), row.text) for where, row in rows]
