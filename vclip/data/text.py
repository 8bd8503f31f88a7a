"""Check user-supplied names and values; make names printable, values short; say what a wrong file is."""

import difflib
import reprlib
import zipfile
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from pydantic_core import ArgsKwargs

Number = TypeVar("Number", bound=float)
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100

DOWNLOADED = {  # in place of a file, by its first bytes
    (b"<!doctype html", b"<html", b"<?xml"): "it is a web page: fetch the file itself",
    (b"version https://git-lfs",): "it is a Git LFS pointer: run git lfs pull",
}


def short(value: object) -> str:
    """A value for a message, at most a line of it."""
    return text if len(text := _SHORT.repr(value)) <= 200 else f"{text[:200]}..."


def printable(text: str) -> str:
    """Escape what UTF-8 cannot hold, as `\\udcff`: a file name or caption may hold half of a surrogate pair."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def decoded(where: object, data: bytes) -> str:
    """UTF-8 as text, without a byte order mark; ValueError names the line of what is not UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{where}, line {line}: byte {data[error.start]:#04x} is not UTF-8; convert it") from None


def what_is_wrong(file: str | Path, error: object) -> str:
    """Why a file cannot be read: what a failed download left in its place, else the `error`."""
    with open(file, "rb") as opened:
        head = opened.read(64).lstrip().lower()
    if head.startswith(b"pk\x03\x04") and not zipfile.is_zipfile(file):
        return "its end is missing: fetch it again"
    return next((what for begins, what in DOWNLOADED.items() if head.startswith(begins)), str(error))


def refuse_unknown(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise TypeError for the first name in `given` that is not in `known`, with the nearest known name."""
    known = sorted(known)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)
            raise TypeError(f"unknown {what} {name!r}: did you mean {near[0]!r}? There are: {', '.join(known)}")


def in_order(span: tuple[Number, Number]) -> tuple[Number, Number]:
    if span[1] < span[0]:
        raise ValueError("the second number must not be smaller than the first")
    return span


def first_error(where: str, error: ValidationError) -> str:
    """The first of pydantic's errors as one line: where, place, reason, value."""
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))[:200]
    told = first["type"] in ("missing", "json_invalid") or isinstance(first["input"], ArgsKwargs)
    value = "" if told else f", not {short(first['input'])[:80]}"
    return f"{where}: {place}{': ' if place else ''}{first['msg'].removeprefix('Value error, ')}{value}"


class Settings(type):
    """Metaclass of a pydantic dataclass: a name or value that cannot be is an error of one line."""

    def __call__(cls, *args, **values):
        refuse_unknown(values, (f.name for f in fields(cls)), f"field of {cls.__name__}")  # pyright: ignore[reportArgumentType]
        try:
            return super().__call__(*args, **values)
        except ValidationError as error:
            raise ValueError(first_error(cls.__name__, error)) from None
