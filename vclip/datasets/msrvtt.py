"""MSR-VTT (Xu et al. 2016): 10,000 clips of 10 to 30 s; for text-to-video retrieval and multiple-choice VideoQA."""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from vclip.datasets._files import Text, find_file, parse_json, read_csv, read_json, read_text
from vclip.datasets._records import Dataset

LISTS = ("train", "train.9k", "train.7k", "train.full", "val.full", "test.full")
SAMPLE = "txt_msrvtt-retrieval_sample.json"
FILES = {
    "test": "MSRVTT_JSFUSION_test.csv",
    "multiple_choice": "MSR_MC_test.csv",
    **{split: f"MSRVTT_{split}.csv" for split in LISTS},
    "val.qa": "msrvtt_qa_val.jsonl",
    **{f"{part}.sample": SAMPLE for part in ("train", "val", "test")},
}
CAPTIONS = "MSRVTT_data.json"
ANSWERS = "msrvtt_qa_ans2label.json"


@dataclass(frozen=True)
class Video:
    """An id of a list, of which no sentence is known."""

    video_id: Text


@dataclass(frozen=True)
class Clip:
    """A sentence about a video, the whole of it."""

    video_id: Text
    sentence: Text


@dataclass(frozen=True)
class Question:
    """Which of two or more `candidates` describes the video: number `answer`, counted from 0."""

    video_id: str
    candidates: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class OpenQuestion:
    """A question about a video and its one-word answer; `answer_type` is what, who, how, when or where."""

    video_id: Text
    question: Text
    answer: Text
    answer_type: Text


class _Question(BaseModel):
    model_config = ConfigDict(extra="allow")  # the candidates: a1, a2, ...
    vid_key: Annotated[str, Field(pattern="^msr[0-9]+$")]
    answer: Annotated[str, Field(pattern="^[0-9]{1,9}$")]


@dataclass
class _Caption:
    video_id: Text
    caption: Text


@dataclass
class _Captions:
    sentences: list[_Caption]


@dataclass
class _Sample:
    video: Text
    caption: Text


@dataclass
class _Samples:
    train: list[_Sample]
    val: list[_Sample]
    test: list[_Sample]


def load(path: str | Path, split: str = "test") -> Dataset:
    """The records of one split, in the order of its file.

    Args:
        path: that file, gzip or plain, or the folder that holds it.
        split: "test" (the 1k-A list of JSFusion), "train.sample", "val.sample" and "test.sample" hold `Clip`s,
            "multiple_choice" `Question`s, "val.qa" `OpenQuestion`s. The lists "train" (MSRVTT_train.csv, on which the
            released recipes train, for retrieval together with what JSFusion leaves of "test.full"), "train.9k",
            "train.7k", "train.full", "val.full" and "test.full" name videos: with MSRVTT_data.json in the same folder
            they hold a `Clip` for each of a video's captions (videos without any are `left_out`), otherwise `Video`s.

    Returns:
        A `Dataset` of these records.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: unknown split, a missing column or key, an empty id or sentence, a vid_key that is not
            msr<number>, fewer than two candidates, an answer that is not the index of one; it names file and row.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "MSRVTT_JSFUSION_test.csv"
        ...     _ = file.write_text("key,vid_key,video_id,sentence\\nret0,msr7,video7,a man sings\\n")
        ...     load(file)[0]
        Clip(video_id='video7', sentence='a man sings')
    """
    if split not in FILES:
        raise ValueError(f"unknown split {split!r}: one of {', '.join(map(repr, FILES))}")
    file = find_file(path, FILES[split])
    tasks: tuple[str, ...] = ()
    left_out: list[str] = []
    if split == "test":
        records, tasks = [clip for _, clip in read_csv(file, Clip)], ("retrieval",)
    elif split == "multiple_choice":
        records, tasks = [_question(where, row) for where, row in read_csv(file, _Question, "\t")], ("videoqa",)
    elif split == "val.qa":
        lines = enumerate(read_text(file).rstrip("\n").split("\n"), 1)
        records = [parse_json(line, f"{file}, row {number}", OpenQuestion) for number, line in lines]
    elif split in LISTS:
        records, left_out = _listed(file)
    else:
        sample = getattr(read_json(file, _Samples), split.removesuffix(".sample"))
        records, tasks = [Clip(row.video, row.caption) for row in sample], ("retrieval",)
    return Dataset("MSR-VTT", split, records, tasks, left_out)


def answer_classes(path: str | Path) -> dict[str, int]:
    """The answers of open-ended VideoQA and their class numbers 0, 1, ...

    Args:
        path: msrvtt_qa_ans2label.json, gzip or plain, or its folder.

    Returns:
        Answer -> class number.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the numbers are not those of K answers, 0 to K - 1; it names the file.
    """
    file = find_file(path, ANSWERS)
    classes = read_json(file, dict[str, int])
    if sorted(classes.values()) != list(range(len(classes))):
        raise ValueError(f"{file} does not number its answers 0, 1, 2, ...: is it {ANSWERS}?")
    return classes


def _question(where: str, row: _Question) -> Question:
    texts = {column: text for column, text in (row.model_extra or {}).items() if re.fullmatch(r"a[1-9]\d*", column)}
    # by number, whatever the order of the columns: the answer counts from a1
    candidates = tuple(texts.get(f"a{i + 1}", "") for i in range(len(texts)))
    if len(candidates) < 2:
        raise ValueError(f"{where}: fewer than two candidates, which are the columns a1, a2 and so on")
    if not all(text.strip() for text in candidates):
        raise ValueError(f"{where}: a candidate is empty, or its column is missing: {candidates}")
    if int(row.answer) >= len(candidates):
        raise ValueError(f"{where}: answer {row.answer!r} is not the index of a candidate, 0 to {len(candidates) - 1}")
    return Question("video" + row.vid_key.removeprefix("msr"), candidates, int(row.answer))


def _listed(file: Path) -> tuple[list[Clip] | list[Video], list[str]]:
    """The clips, or videos, of a list of ids, and the ids that have no caption."""
    videos = [video for _, video in read_csv(file, Video)]
    try:
        annotations = find_file(file.parent, CAPTIONS)
    except FileNotFoundError:
        return videos, []
    captions = defaultdict(list)
    for row in read_json(annotations, _Captions).sentences:
        captions[row.video_id].append(row.caption)
    ids = [video.video_id for video in videos]
    clips = [Clip(video_id, sentence) for video_id in ids for sentence in captions.get(video_id, ())]
    return clips, [video_id for video_id in ids if video_id not in captions]
