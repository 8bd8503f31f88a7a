"""Names: those a user gave, held against those there are; those of files, made fit to be shown."""

import difflib
from collections.abc import Iterable


def printable(text: str) -> str:
    """`text` with what UTF-8 cannot hold written as `\\udcff`: a file's name or a caption may hold half a character."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def refuse_unknown(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raises TypeError for the first name in `given` that is not in `known`, offering the nearest."""
    known = sorted(known)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)
            raise TypeError(f"unknown {what} {name!r}: did you mean {near[0]!r}? There are: {', '.join(known)}")
