"""What the readers of annotation files share: finding and opening a file, and refusing it by file, row and value."""

import csv
import gzip
import io
import json
import math
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
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


def find_file(path: str | Path, name: str) -> Path:
    """`path` itself if it is a file, else `name` or `name`.gz in that folder. Raises FileNotFoundError."""
    path = Path(path)
    if path.is_file():
        return path
    for candidate in (path / name, path / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"{path} is neither {name} nor a folder that holds it, plain or as .gz")


def read_text(path: Path) -> str:
    """The text of a file, gzip or plain. Raises ValueError that names file and line for bytes that are not UTF-8."""
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, ValueError) as error:
            raise ValueError(f"{path} is a damaged gzip file ({error}); fetch it again") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}: byte {data[error.start]:#04x} is not UTF-8") from None


def read_json(path: Path) -> Any:
    try:
        return json.loads(read_text(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None


def read_csv(path: Path, columns: Sequence[str], delimiter: str = ",") -> Iterator[tuple[str, dict[str, str]]]:
    """Each row of a csv with a header that names at least `columns`, after the words that say where it stands."""
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), delimiter=delimiter)
    if absent := [column for column in columns if column not in (reader.fieldnames or ())]:
        raise ValueError(f"{path} has no column {absent[0]!r}; its first line is {reader.fieldnames}")
    try:
        for number, row in enumerate(reader, 1):
            where = f"{path}, row {number}"
            if None in row or None in row.values():
                raise ValueError(f"{where}: other fields than the first line names, {list(row.values())}")
            yield where, row
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from None


def field(mapping: Any, key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """`mapping[key]` if it is of that kind, else ValueError that says where."""
    if not isinstance(mapping, dict) or key not in mapping:
        raise ValueError(f"{where}: no {key!r}")
    if not isinstance(mapping[key], kind) or isinstance(mapping[key], bool):
        raise ValueError(f"{where}: {key!r} is {mapping[key]!r}, of another type than the official files'")
    return mapping[key]


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
