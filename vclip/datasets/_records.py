"""The records of a data set, and how the readers refuse a value that is wrong: by file, row and value."""

import copy
import math
from collections.abc import Container, Sequence
from typing import Any, Generic, Protocol, TypeVar, overload


class Record(Protocol):
    @property
    def video_id(self) -> str: ...


R = TypeVar("R", bound=Record)


class Dataset(Sequence[R], Generic[R]):
    """The records of one split, in the order of their file.

    `tasks` names the modules of `vclip.tasks` that score such records, the usual one first. `left_out` holds the ids
    that a list asked for and the annotations say nothing of.
    """

    def __init__(
        self, name: str, split: str, records: Sequence[R], tasks: Sequence[str] = (), left_out: Sequence[str] = ()
    ):
        self.name, self.split, self.records = name, split, list(records)
        self.tasks, self.left_out = tuple(tasks), list(left_out)

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, i: int) -> R: ...
    @overload
    def __getitem__(self, i: slice) -> list[R]: ...
    def __getitem__(self, i):
        return self.records[i]

    @property
    def video_ids(self) -> list[str]:
        """The videos, each once, in the order in which the records name them."""
        return list(dict.fromkeys(record.video_id for record in self.records))

    def missing(self, features: Container[str]) -> list[str]:
        """The videos that `features` (a Corpus, a set of ids, anything with `in`) lacks."""
        return [video_id for video_id in self.video_ids if video_id not in features]

    def __repr__(self) -> str:
        left_out = f", {len(self.left_out)} listed left out" if self.left_out else ""
        return f"{self.name} {self.split}: {len(self)} records of {len(self.video_ids)} videos{left_out}"


def field(mapping: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """`mapping[key]` if it is of that kind, else ValueError that says where."""
    if not isinstance(mapping, dict) or key not in mapping:
        raise ValueError(f"{where}: no {key!r}")
    if not isinstance(mapping[key], kind) or isinstance(mapping[key], bool):
        raise ValueError(f"{where}: {key!r} is {mapping[key]!r}, of another type than the official files'")
    return mapping[key]


def text_field(mapping: Any, key: str, where: str) -> str:
    """The text under `key`, which must not be blank."""
    return filled(field(mapping, key, str, where), repr(key), where)


def filled(text: str, name: str, where: str) -> str:
    """`text` if it is not blank, else ValueError that says what is, and where."""
    if not text.strip():
        raise ValueError(f"{where}: {name} is empty")
    return text


def database(data: Any, file: str) -> dict[str, Any]:
    """Video id -> annotations, of the layout that YouCook2 and COIN share."""
    if not isinstance(data, dict) or not isinstance(data.get("database"), dict):
        raise ValueError(f"{file} has no 'database' of videos")
    for video_id in data["database"]:
        filled(video_id, "a video id", file)
    return data["database"]


def segment(value: Any, where: str) -> tuple[float, float]:
    """A pair of seconds, 0 <= start <= end. Raises ValueError that says where."""
    numbers = isinstance(value, list | tuple) and all(
        isinstance(t, int | float) and not isinstance(t, bool) and math.isfinite(t) for t in value
    )
    if not numbers or len(value) != 2:
        raise ValueError(f"{where}: the segment {value!r} is not a pair of seconds")
    start, end = value
    if start < 0 or end < start:
        raise ValueError(
            f"{where}: the segment {value!r} {'starts before 0' if start < 0 else 'ends before it starts'}"
        )
    return start, end


D = TypeVar("D", bound=Dataset)


def subset(dataset: D, records: Sequence, split: str | None = None) -> D:
    """The same data set with these records only."""
    part = copy.copy(dataset)
    part.records, part.split, part.left_out = list(records), split or dataset.split, []
    return part
