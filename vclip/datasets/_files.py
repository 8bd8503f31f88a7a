"""How the readers open annotation files, gzip or plain: JSON and csv checked by pydantic, and archives of texts."""

import csv
import io
import json
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from vclip.data.pickles import unpacked

MEMBER_BYTES = 2**26  # captions of an hour are 0.1 MB; a tar file can claim any size
T = TypeVar("T")


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("the text is empty")
    return text


def _in_order(segment: tuple[float, float]) -> tuple[float, float]:
    if segment[1] < segment[0]:
        raise ValueError("the segment ends before it starts")
    return segment


adapter = cache(TypeAdapter)  # a millisecond each
Text = Annotated[str, AfterValidator(_not_blank)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Segment = Annotated[tuple[Seconds, Seconds], AfterValidator(_in_order)]


@dataclass
class Release(Generic[T]):
    """The layout that YouCook2 and COIN share: video id -> annotations."""

    database: dict[Text, T]


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
    """The text of a file, gzip or plain; ValueError that names file and line for bytes that are not UTF-8."""
    return _decode(unpacked(path), str(path))


def _decode(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{where}, line {line}: byte {data[error.start]:#04x} is not UTF-8") from None


def read_texts(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, str, str]]:
    """Name, place and text of each wanted file of a folder or a tar file; ValueError for a name that occurs twice.

    A name is the last part of a path, without .gz in a folder. It is compared and never opened, and nothing of a tar
    file is unpacked to disk.
    """
    seen = set()
    for name, where, text in _members(path, wanted) if path.is_file() else _entries(path, wanted):
        if name in seen:
            raise ValueError(f"{where}: {name} occurs twice")
        seen.add(name)
        yield name, where, text


def _entries(folder: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, str, str]]:
    for file in sorted(folder.iterdir()):
        name = file.name.removesuffix(".gz")
        if wanted(name) and file.is_file():
            yield name, str(file), read_text(file)


def _members(archive: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, str, str]]:
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name, where = member.name.rpartition("/")[2], f"{archive}, {member.name}"
                if member.isdir() or not wanted(name):
                    continue
                stream = tar.extractfile(member) if member.isreg() and member.size <= MEMBER_BYTES else None
                if stream is None:
                    raise ValueError(f"{where}: not a plain file of at most {MEMBER_BYTES} bytes")
                yield name, where, _decode(stream.read(), where)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{archive} is a damaged tar file ({error}); fetch it again") from None


def read_json(path: Path, kind: type[T]) -> T:
    """`parse_json` of a file."""
    return parse_json(read_text(path), str(path), kind)


def parse_json(text: str, where: str, kind: type[T]) -> T:
    """A JSON text as a dataclass or another type that pydantic knows; ValueError that says where it differs."""
    try:
        json.loads(text, object_pairs_hook=_once)  # pydantic keeps the last of two equal keys
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not valid JSON: {error}") from None
    return checked(where, lambda: adapter(kind).validate_json(text, strict=True))


def _once(pairs: list[tuple[str, Any]]) -> None:
    if twice := _repeated([key for key, _ in pairs]):
        raise ValueError(f"the key {twice!r} occurs twice in one object")


def _repeated(names: list[str]) -> str | None:
    return max(names, key=names.count) if len(set(names)) < len(names) else None


def checked(where: str, validate: Callable[[], T]) -> T:
    """What `validate` returns; pydantic's first error as a ValueError of one line: file, place, reason, value."""
    try:
        return validate()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = "".join(f"{part}." for part in first["loc"])[:-1]
        value = "" if first["type"] in ("missing", "json_invalid") else f", not {repr(first['input'])[:80]}"
        reason = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{where}: {place}{': ' if place else ''}{reason}{value}") from None


def read_csv(path: Path, kind: type[T], delimiter: str = ",", header: bool = True) -> Iterator[tuple[str, T]]:
    """`parse_csv` of a file."""
    return parse_csv(read_text(path), str(path), kind, delimiter, header)


def parse_csv(
    text: str, where: str, kind: type[T], delimiter: str = ",", header: bool = True
) -> Iterator[tuple[str, T]]:
    """Each row of a csv as a dataclass or TypedDict, after the words that say where it stands: file and row.

    The first line names at least its fields; without a header these are the columns. Rows are counted from 1, the
    header not among them; empty ones are passed over. ValueError that names file and row.
    """
    # strict: else an open quote swallows the rows up to the next one
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    number = 0
    try:
        names = next(reader, []) if header else list(kind.__annotations__)
        if absent := [column for column in kind.__annotations__ if column not in names]:
            raise ValueError(f"{where} has no column {absent[0]!r}; its first line is {str(names)[:200]}")
        if twice := _repeated(names):
            raise ValueError(f"{where} names the column {twice!r} twice; its first line is {str(names)[:200]}")
        for number, row in enumerate(reader, 1):
            if row and len(row) != len(names):
                raise ValueError(f"{where}, row {number}: {len(row)} fields in place of {len(names)}: {str(row)[:200]}")
            if row:
                place, values = f"{where}, row {number}", dict(zip(names, row, strict=True))
                yield place, checked(place, lambda values=values: adapter(kind).validate_python(values))
    except csv.Error as error:
        raise ValueError(f"{where}, after row {number}: {error} (is a quote not closed?)") from None
