"""How the readers open annotation files, gzip or plain: text, JSON, csv and archives, refused by file and row."""

import csv
import gzip
import io
import json
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

MADE = "MINIHOWTO.txt"  # marks files that were made, and says which
MEMBER_BYTES = 2**26  # captions of an hour are 0.1 MB; a tar file can claim any size
# read from left to right, so that an escaped backslash opens nothing
ESCAPE = re.compile(r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(?P<half>u[dD][89a-fA-F]..)|.)")


def find_file(path: str | Path, name: str) -> Path:
    """`path` itself if it is a file, else `name` or `name`.gz in that folder. Raises FileNotFoundError."""
    path = Path(path)
    if path.is_file():
        return path
    for candidate in (path / name, path / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"{path} is neither {name} nor a folder that holds it, plain or as .gz")


def title(name: str, file: Path) -> str:
    """`name`, the data set that a file or folder is laid out as; of MiniHowTo's "MiniHowTo test, as <name>"."""
    mark = (file if file.is_dir() else file.parent) / MADE
    return f"MiniHowTo {read_text(mark).strip()}, as {name}" if mark.is_file() else name


def read_text(path: Path) -> str:
    """The text of a file, gzip or plain. Raises ValueError that names file and line for bytes that are not UTF-8."""
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path} is a damaged gzip file ({error}); fetch it again") from None
    return _decode(data, str(path))


def read_texts(path: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, str, str]]:
    """Name, the words that say where it stands, and text of each file of a folder or a tar file whose name is wanted.

    A name is the last part of a path (in a folder without .gz); it is compared, never opened, and nothing of a tar file
    is unpacked to disk. Raises ValueError for a name that occurs twice, a damaged tar file and a wanted member of it
    that is a link, a device or too large.
    """
    seen = set()
    for name, where, data in _members(path, wanted) if path.is_file() else _entries(path, wanted):
        if name in seen:
            raise ValueError(f"{where}: {name} occurs twice")
        seen.add(name)
        yield name, where, data


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


def _decode(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{where}, line {line}: byte {data[error.start]:#04x} is not UTF-8") from None


def read_json(path: Path) -> Any:
    return parse_json(read_text(path), str(path))


def parse_json(text: str, where: str) -> Any:
    """What a JSON text holds. Raises ValueError also for a key twice in an object and for half of a surrogate pair."""
    for escape in ESCAPE.finditer(text):
        if escape["half"]:
            around = text[max(0, escape.start() - 40) : escape.end()]
            raise ValueError(f"{where} is not valid JSON: {escape[0]} is half a character, at the end of {around!r}")
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not valid JSON: {error}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if twice := _repeated([key for key, _ in pairs]):
        raise ValueError(f"the key {twice[0]!r} occurs twice in one object")
    return dict(pairs)


def _repeated(names: Sequence[str]) -> list[str]:
    return [name for name, n in Counter(names).items() if n > 1] if len(set(names)) < len(names) else []


def read_csv(path: Path, columns: Sequence[str], delimiter: str = ",") -> Iterator[tuple[str, dict[str, str]]]:
    """`parse_csv` of a file with a header."""
    return parse_csv(read_text(path), str(path), columns, delimiter)


def parse_csv(
    text: str, where: str, columns: Sequence[str], delimiter: str = ",", header: bool = True
) -> Iterator[tuple[str, dict[str, str]]]:
    """Each row of a csv, by column, after the words that say where it stands.

    The first line names at least `columns`; without a header they are all. Rows are counted from 1, the header not
    among them; empty ones are passed over. Raises ValueError that names file and row.
    """
    # strict: else an open quote swallows the rows up to the next one
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    number = 0
    try:
        names = next(reader, []) if header else columns
        if absent := [column for column in columns if column not in names]:
            raise ValueError(f"{where} has no column {absent[0]!r}; its first line is {names}")
        if twice := _repeated(names):
            raise ValueError(f"{where} names the column {twice[0]!r} twice; its first line is {names}")
        for number, row in enumerate(reader, 1):
            if row and len(row) != len(names):
                raise ValueError(f"{where}, row {number}: other fields than {', '.join(names)}: {row}")
            if row:
                yield f"{where}, row {number}", dict(zip(names, row, strict=True))
    except csv.Error as error:
        raise ValueError(f"{where}, after row {number}: {error} (is a quote not closed?)") from None
