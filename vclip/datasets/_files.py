"""How the readers open annotation files, gzip or plain: JSON and csv checked by pydantic, and archives of texts."""

import csv
import gzip
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Generic, NamedTuple, TypeVar

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from vclip.data.pickles import unpacked
from vclip.data.text import Number, decoded, first_error, in_order

MOST_BYTES = 2**26  # of a member of an archive, which holds one video's captions or steps
T = TypeVar("T")
_adapter = cache(TypeAdapter)  # a millisecond each


Text = Annotated[str, Field(pattern=r"\S")]  # not blank
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rows = Annotated[list[T], Field(fail_fast=True)]  # else each of a million wrong rows costs a kB for its error
Segment = Annotated[tuple[Number, Number], AfterValidator(in_order)]


@dataclass
class Release(Generic[T]):
    """The layout that YouCook2 and COIN share: video id -> annotations."""

    database: dict[Text, T]


class Source(NamedTuple):
    """A text and where it stands, for messages: a file, or a member of an archive."""

    where: str
    text: str


def find_file(path: str | Path, name: str) -> Path:
    """`path` itself if it is a file, else `name` or `name`.gz in that folder."""
    path = Path(path)
    for candidate in (path, path / name, path / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    what = "does not exist" if not path.exists() else f"is neither {name} nor a folder that holds it, plain or as .gz"
    raise FileNotFoundError(f"{path} {what}")


def read_text(path: Path) -> Source:
    return Source(str(path), decoded(path, unpacked(path)))


def read_texts(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, Source]]:
    """Each wanted file of a folder or a tar file, by name (without folders and .gz); a tar is not unpacked to disk."""
    if path.is_dir():
        files = ((file.name.removesuffix(".gz"), file) for file in sorted(path.iterdir()) if file.is_file())
        yield from ((name, read_text(file)) for name, file in files if wanted(name))
        return
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                name = member.name.rpartition("/")[2]
                stream = tar.extractfile(member) if member.isreg() and wanted(name) else None
                if stream is None:
                    continue
                where = f"{path}, {member.name}"
                if member.size > MOST_BYTES:
                    raise ValueError(f"{where}: {member.size} bytes are far more than one video has: fetch it again")
                yield name, Source(where, decoded(where, stream.read()))
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is a damaged tar file ({error}); fetch it again") from None


def read_json(source: Source, kind: Any) -> Any:
    """A JSON text as a dataclass or another type that pydantic knows."""
    return check(source.where, kind, source.text, _adapter(kind).validate_json)


def check(where: str, kind: Any, value: Any, validate: Callable[[Any], Any] | None = None) -> Any:
    """A value as a type that pydantic knows; the first error as a ValueError of a line: file, place, reason, value."""
    try:
        return (validate or _adapter(kind).validate_python)(value)
    except ValidationError as error:
        raise ValueError(first_error(where, error)) from None


def read_csv(source: Source, kind: type[T], delimiter: str = ",", header: bool = True) -> Iterator[tuple[str, T]]:
    """(where, row as `kind`), from row 1; the header names at least its fields, without one these are the columns."""
    where, fields = source.where, list(kind.__annotations__)
    # strict: else an open quote swallows the rows up to the next one
    lines = csv.reader(io.StringIO(source.text, newline=""), delimiter=delimiter, strict=True)
    number = 0
    try:
        names = next(lines, []) if header else fields
        if absent := [field for field in fields if field not in names]:
            raise ValueError(f"{where} has no column {absent[0]!r}; its first line is {str(names)[:200]}")
        for number, row in enumerate(filter(None, lines), 1):
            place = f"{where}, row {number}"
            if len(row) != len(names):
                raise ValueError(f"{place}: {len(row)} fields in place of {len(names)}: {str(row)[:200]}")
            yield place, check(place, kind, dict(zip(names, row, strict=True)))
    except csv.Error as error:
        raise ValueError(f"{where}, after row {number}: {error} (is a quote not closed?)") from None
