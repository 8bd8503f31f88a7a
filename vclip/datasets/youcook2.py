"""YouCook2 (Zhou et al. 2018): cooking videos cut into steps, each with a sentence; for text-to-video retrieval."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from vclip.data.pickles import load_pickle
from vclip.datasets._files import Release, Rows, Segment, Text, check, find_file, read_csv, read_json, read_text
from vclip.datasets._records import Dataset, check_split

FILE = "youcookii_annotations_trainval.json"
TASKS = ("retrieval",)


@dataclass(frozen=True)
class Clip:
    """Seconds `start`:`end` (whole, end exclusive) of a video, step number `index` of it, and what is done there.

    `recipe_type` is the official number of the recipe, `caption` the text that a list of clips brings along (in the
    released .pkl: the sentence without stop words); None where there is none.
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
    annotations: Rows[_Step]
    recipe_type: Annotated[str | None, Field(coerce_numbers_to_str=True)] = None


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
    """The clips of one split, video by video; the test split has no annotations.

    Args:
        path: the release's folder or its youcookii_annotations_trainval.json, gzip or plain.
        clips: restricts to a list, in its order: a .csv with video_id, start, end and text (MIL-NCE's
            validation_youcook.csv) or a .pkl with `id` "<video>_<index>" and `caption` (MMPT's youcook_val.pkl).
            Listed clips of videos without annotation are `left_out`.

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
        for index, step in enumerate(video.annotations if video.subset == split else ()):
            records.append(Clip(video_id, index, step.segment[0], step.segment[1], step.sentence, video.recipe_type))
    if clips is None:
        return Dataset("YouCook2", split, records, TASKS)
    found = defaultdict(list)
    for clip in records:
        found[clip.video_id, clip.index].append(clip)
        found[clip.video_id, (clip.start, clip.end)].append(clip)
    chosen, left_out = [], []
    for where, video_id, which, caption in _read_list(Path(clips)):
        same = found[video_id, which]
        if video_id not in videos:
            left_out.append(video_id)
        elif not same:
            raise ValueError(f"{where}: the {split} split of {file} has no clip {which} of video {video_id!r}")
        else:
            # two steps of one video can share a segment: they are listed in the order of the annotations
            chosen.append(replace(same.pop(0) if len(same) > 1 else same[0], caption=caption))
    return Dataset("YouCook2", split, chosen, TASKS, left_out)


def _read_list(file: Path) -> Iterator[tuple[str, str, int | tuple[int, int], str]]:
    """(where it stands, video_id, index or (start, end), caption) of each listed clip."""
    if ".pkl" in file.suffixes:
        for number, row in enumerate(check(str(file), Rows[_PickledClip], load_pickle(file)), 1):
            video_id, _, index = row.id.rpartition("_")
            yield f"{file}, row {number}", video_id, int(index), row.caption
    else:
        for where, row in read_csv(read_text(file), _ListedClip):
            yield where, row.video_id, (row.start, row.end), row.text
