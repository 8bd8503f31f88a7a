"""The records of a data set."""

import copy
from collections.abc import Container, Sequence
from typing import Any, Generic, TypeVar

R = TypeVar("R")
D = TypeVar("D", bound="Dataset")


class Dataset(Sequence[R], Generic[R]):
    """The records of one split, in the order of their file.

    Args:
        name, split: the data set, and which part of it.
        records: dataclasses with a `video_id`.
        tasks: the modules of `vclip.tasks` that score such records, the usual one first.
        left_out: the ids that a list asked for and the annotations say nothing of.

    Example:
        >>> Dataset("made", "all", [])
        made all: 0 records of 0 videos
    """

    def __init__(self, name: str, split: str, records: Sequence[R], tasks: Sequence[str] = (), left_out: Any = ()):
        self.name, self.split = name, split
        self.records: list[Any] = list(records)
        self.tasks, self.left_out = tuple(tasks), list(left_out)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, i: int | slice) -> Any:
        return self.records[i]

    @property
    def video_ids(self) -> list[str]:
        """The videos, each once, in the order in which the records name them."""
        return list(dict.fromkeys(record.video_id for record in self.records))

    def missing(self, features: Container[str]) -> list[str]:
        """The videos that `features` (a Corpus, to which x.mov is x; a set of ids, anything with `in`) lacks."""
        return [video_id for video_id in self.video_ids if video_id not in features]

    def __repr__(self) -> str:
        left_out = f", {len(self.left_out)} listed left out" if self.left_out else ""
        return f"{self.name} {self.split}: {len(self)} records of {len(self.video_ids)} videos{left_out}"


def subset(dataset: D, records: Sequence, split: str | None = None) -> D:
    """The same data set with these records only."""
    part = copy.copy(dataset)
    part.records, part.split, part.left_out = list(records), split or dataset.split, []
    return part


def check_split(split: str, known: Sequence[str]) -> None:
    if split not in known:
        raise ValueError(f"unknown split {split!r}: one of {', '.join(map(repr, known))}")
