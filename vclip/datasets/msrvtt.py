"""MSR-VTT (Xu et al. 2016): 10,000 clips of 10 to 30 s; for text-to-video retrieval and multiple-choice VideoQA."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from vclip.datasets._files import Rows, Source, Text, find_file, read_csv, read_json, read_text
from vclip.datasets._records import Dataset, check_split

LISTS = ("train", "train.9k", "train.7k", "train.full", "val.full", "test.full")
FILES = {
    "test": "MSRVTT_JSFUSION_test.csv",
    "multiple_choice": "MSR_MC_test.csv",
    **{split: f"MSRVTT_{split}.csv" for split in LISTS},
}
CAPTIONS = "MSRVTT_data.json"


@dataclass(frozen=True)
class Video:
    """An id of a list, of which no sentence is known."""

    video_id: Text


@dataclass(frozen=True)
class Clip:
    """A sentence about a video, the whole of it."""

    video_id: Text
    sentence: Annotated[Text, Field(validation_alias=AliasChoices("caption", "sentence"))]


@dataclass(frozen=True)
class Question:
    """Which of the `candidates` describes the video: number `answer`, counted from 0."""

    video_id: str
    candidates: tuple[str, ...]
    answer: int


class _Question(BaseModel):
    model_config = ConfigDict(extra="allow")  # the candidates: a1, a2, ...
    vid_key: Annotated[str, Field(pattern="^msr[0-9]+$")]
    answer: Annotated[int, Field(ge=0)]


@dataclass
class _Captions:
    sentences: Rows[Clip]


def load(path: str | Path, split: str = "test") -> Dataset:
    """The records of one split, in the order of its file.

    Args:
        path: that file, gzip or plain, or the folder that holds it.
        split: "test" (the 1k-A list of JSFusion) holds `Clip`s, "multiple_choice" `Question`s. The lists "train" (on
            which the released recipes train), "train.9k", "train.7k", "train.full", "val.full" and "test.full" name
            videos: with MSRVTT_data.json in the same folder they hold a `Clip` for each of a video's captions (videos
            without any are `left_out`), otherwise `Video`s.

    Example:
        >>> import vclip
        >>> load(vclip.minihowto() / "msrvtt" / "test")
        MSR-VTT test: 200 records of 200 videos
    """
    check_split(split, list(FILES))
    file = find_file(path, FILES[split])
    source = read_text(file)
    if split == "test":
        return Dataset("MSR-VTT", split, [clip for _, clip in read_csv(source, Clip)], ["retrieval"])
    if split == "multiple_choice":
        questions = [_question(where, row) for where, row in read_csv(source, _Question, "\t")]
        return Dataset("MSR-VTT", split, questions, ["videoqa"])
    records, left_out = _listed(source, file.parent)
    tasks = ["retrieval"] if records and isinstance(records[0], Clip) else []
    return Dataset("MSR-VTT", split, records, tasks, left_out)


def _question(where: str, row: _Question) -> Question:
    texts = row.model_extra or {}
    columns = [f"a{i}" for i in range(1, len(texts) + 1)]  # by number, whatever their order in the file
    candidates = tuple(texts[column] for column in columns if column in texts)
    if row.answer >= len(candidates) or not all(text.strip() for text in candidates):
        raise ValueError(f"{where}: answer {row.answer} is none of the candidates, or one is empty: {candidates}")
    return Question("video" + row.vid_key.removeprefix("msr"), candidates, row.answer)


def _listed(source: Source, folder: Path) -> tuple[list[Clip] | list[Video], list[str]]:
    """The clips, or videos, of a list of ids, and the ids that have no caption."""
    videos = [video for _, video in read_csv(source, Video)]
    try:
        annotations = find_file(folder, CAPTIONS)
    except FileNotFoundError:
        return videos, []
    clips = defaultdict(list)
    for clip in read_json(read_text(annotations), _Captions).sentences:
        clips[clip.video_id].append(clip)
    ids = [video.video_id for video in videos]
    listed = [clip for video_id in ids for clip in clips.get(video_id, ())]
    return listed, [video_id for video_id in ids if video_id not in clips]
