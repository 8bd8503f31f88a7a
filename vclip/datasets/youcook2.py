"""YouCook2 (Zhou et al. 2018): cooking videos cut into steps, each with a sentence; for text-to-video retrieval."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from vclip.data.pickles import load_pickle
from vclip.datasets._files import find_file, read_csv, read_json, title
from vclip.datasets._records import Dataset, database, field, segment, text_field

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


def load(
    path: str | Path, split: Literal["training", "validation"] = "validation", clips: str | Path | None = None
) -> Dataset[Clip]:
    """The clips of one split, video by video, from the release's folder or its youcookii_annotations_trainval.json.

    `clips` restricts them to a list and takes its order: a .csv with video_id, start, end and text (MIL-NCE's
    validation_youcook.csv) or a .pkl with `id` "<video>_<index>" and `caption` (MMPT's youcook_val.pkl), gzip or plain.
    Raises FileNotFoundError, or ValueError that names file and row, for what is not such a file, a missing key or one
    that occurs twice, an empty id or sentence, a segment that ends before it starts, a listed clip that its video or
    the split does not have. Listed clips of videos without annotation are left out; the dataset's `left_out` names
    them.
    """
    if split not in ("training", "validation"):
        raise ValueError(f"unknown split {split!r}: 'training' or 'validation' (the test split has no annotations)")
    file = find_file(path, FILE)
    videos = database(read_json(file), str(file))
    records = []
    for video_id, video in videos.items():
        if field(video, "subset", str, f"{file}, video {video_id!r}") == split:
            records += _clips(video_id, video, file)
    if clips is None:
        return Dataset(title("YouCook2", file), split, records, TASKS)
    pickled = Path(clips).name.removesuffix(".gz").endswith(".pkl")
    wanted = _read_pickle(Path(clips)) if pickled else _read_csv(Path(clips))
    annotated = [row for row in wanted if row[1] in videos]
    chosen = _choose(records, annotated, f"the {split} split of {file}")
    left_out = [row[1] for row in wanted if row[1] not in videos]
    return Dataset(title("YouCook2", file), split, chosen, TASKS, left_out)


def _clips(video_id: str, video: dict, file: Path) -> list[Clip]:
    recipe_type = video.get("recipe_type")
    clips = []
    for index, annotation in enumerate(field(video, "annotations", list, f"{file}, video {video_id!r}")):
        where = f"{file}, video {video_id!r}, annotation {index}"
        start, end = segment(field(annotation, "segment", list, where), where)
        if start != int(start) or end != int(end):
            raise ValueError(f"{where}: the segment {[start, end]} is not in whole seconds")
        sentence = text_field(annotation, "sentence", where)
        recipe = None if recipe_type is None else str(recipe_type)
        clips.append(Clip(video_id, index, int(start), int(end), sentence, recipe))
    return clips


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
    rows = load_pickle(file)
    if not isinstance(rows, list):
        raise ValueError(f"{file}: expected a list of dicts with 'id' and 'caption', not a {type(rows).__name__}")
    wanted = []
    for number, row in enumerate(rows, 1):
        where = f"{file}, row {number}"
        video_id, _, index = field(row, "id", str, where).rpartition("_")
        if not video_id or not index.isdecimal():
            raise ValueError(f"{where}: the id {row['id']!r} is not <video>_<clip index>")
        # may be empty: nothing but stop words is left of some sentence
        wanted.append((where, video_id, int(index), field(row, "caption", str, where)))
    return wanted


def _read_csv(file: Path) -> list[tuple[str, str, tuple[int, int], str]]:
    """(where, video_id, (start, end), text) of each row."""
    wanted = []
    for where, row in read_csv(file, ("video_id", "start", "end", "text")):
        try:
            which = int(row["start"]), int(row["end"])
        except ValueError:
            raise ValueError(f"{where}: {row['start']!r} to {row['end']!r} are not whole seconds") from None
        wanted.append((where, text_field(row, "video_id", where), which, text_field(row, "text", where)))
    return wanted
