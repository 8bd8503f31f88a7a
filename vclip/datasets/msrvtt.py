"""MSR-VTT (Xu et al. 2016): 10,000 clips of 10 to 30 s; for text-to-video retrieval and multiple-choice VideoQA."""

import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from vclip.datasets._files import find_file, parse_json, read_csv, read_json, read_text, title
from vclip.datasets._records import Dataset, field, text_field

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

    video_id: str


@dataclass(frozen=True)
class Clip:
    """A sentence about a video, the whole of it."""

    video_id: str
    sentence: str


@dataclass(frozen=True)
class Question:
    """Which of two or more `candidates` describes the video: number `answer`, counted from 0."""

    video_id: str
    candidates: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class OpenQuestion:
    """A question about a video and its one-word answer; `answer_type` is what, who, how, when or where."""

    video_id: str
    question: str
    answer: str
    answer_type: str


def load(path: str | Path, split: str = "test") -> Dataset:
    """The records of one split, in the order of its file; `path` is that file or the folder that holds it.

    "test" (the 1k-A list of JSFusion) and "train.sample", "val.sample", "test.sample" hold `Clip`s, "multiple_choice"
    `Question`s and "val.qa" `OpenQuestion`s. The lists "train" (MSRVTT_train.csv, which the released recipes train
    on, for retrieval together with what JSFusion leaves of "test.full"), "train.9k", "train.7k", "train.full",
    "val.full", "test.full" name videos: with MSRVTT_data.json in the same folder they hold a `Clip` for each of a
    video's captions (videos without any are `left_out`), otherwise `Video`s.
    Raises ValueError for an unknown split, FileNotFoundError, or ValueError that names file and row for a missing
    column or key, an empty id or sentence, a vid_key that is not msr<number>, fewer than two candidates, an answer
    that is not the index of one.
    """
    if split not in FILES:
        raise ValueError(f"unknown split {split!r}: one of {', '.join(map(repr, FILES))}")
    file = find_file(path, FILES[split])
    tasks: tuple[str, ...] = ()
    left_out: list[str] = []
    if split == "test":
        records, tasks = _sentences(file), ("retrieval",)
    elif split == "multiple_choice":
        records, tasks = _questions(file), ("videoqa",)
    elif split == "val.qa":
        records = _open_questions(file)
    elif split in LISTS:
        records, left_out = _listed(file)
    else:
        records, tasks = _sample(file, split.removesuffix(".sample")), ("retrieval",)
    return Dataset(title("MSR-VTT", file), split, records, tasks, left_out)


def answer_classes(path: str | Path) -> dict[str, int]:
    """Open-ended VideoQA's answers and their class numbers 0, 1, ..., from msrvtt_qa_ans2label.json or its folder.

    Raises ValueError that names the file if the numbers are not those of K answers, 0 to K - 1.
    """
    file = find_file(path, ANSWERS)
    classes = read_json(file)
    if not isinstance(classes, dict) or sorted(map(repr, classes.values())) != sorted(map(repr, range(len(classes)))):
        raise ValueError(f"{file} does not number its answers 0, 1, 2, ...: is it {ANSWERS}?")
    return classes


def _sentences(file: Path) -> list[Clip]:
    rows = read_csv(file, ("video_id", "sentence"))
    return [Clip(text_field(row, "video_id", where), text_field(row, "sentence", where)) for where, row in rows]


def _questions(file: Path) -> list[Question]:
    questions = []
    for where, row in read_csv(file, ("vid_key", "answer"), delimiter="\t"):
        columns = [column for column in row if re.fullmatch(r"a[1-9]\d*", column)]
        if len(columns) < 2:
            raise ValueError(f"{where}: fewer than two candidates; the columns are {', '.join(row)}")
        if not re.fullmatch(r"msr[0-9]+", row["vid_key"]):
            raise ValueError(f"{where}: vid_key {row['vid_key']!r} is not msr<number>")
        # by number, whatever the order of the columns: the answer counts from a1
        candidates = tuple(text_field(row, f"a{i}", where) for i in range(1, len(columns) + 1))
        answer = row["answer"]
        if not re.fullmatch(r"[0-9]{1,9}", answer) or int(answer) >= len(candidates):
            last = len(candidates) - 1
            raise ValueError(f"{where}: answer {answer!r} is not the index of one of a1 to a{last + 1}, 0 to {last}")
        questions.append(Question("video" + row["vid_key"].removeprefix("msr"), candidates, int(answer)))
    return questions


def _open_questions(file: Path) -> list[OpenQuestion]:
    questions = []
    for number, line in enumerate(read_text(file).rstrip("\n").split("\n"), 1):
        where = f"{file}, row {number}"
        row = parse_json(line, where)
        keys = ("video_id", "question", "answer", "answer_type")
        questions.append(OpenQuestion(*(text_field(row, key, where) for key in keys)))
    return questions


def _listed(file: Path) -> tuple[list[Clip] | list[Video], list[str]]:
    """The clips, or videos, of a list of ids, and the ids that have no caption."""
    ids = [text_field(row, "video_id", where) for where, row in read_csv(file, ("video_id",))]
    try:
        captions = _captions(find_file(file.parent, CAPTIONS))
    except FileNotFoundError:
        return [Video(video_id) for video_id in ids], []
    clips = [Clip(video_id, sentence) for video_id in ids for sentence in captions.get(video_id, ())]
    return clips, [video_id for video_id in ids if video_id not in captions]


def _captions(file: Path) -> dict[str, list[str]]:
    """The captions of each video, in the order of the file."""
    captions = defaultdict(list)
    for number, row in enumerate(field(read_json(file), "sentences", list, str(file)), 1):
        where = f"{file}, sentence {number}"
        captions[text_field(row, "video_id", where)].append(text_field(row, "caption", where))
    return dict(captions)


def _sample(file: Path, part: str) -> list[Clip]:
    clips = []
    for number, row in enumerate(field(read_json(file), part, list, str(file)), 1):
        where = f"{file}, {part}, row {number}"
        clips.append(Clip(text_field(row, "video", where), text_field(row, "caption", where)))
    return clips
