"""Check user-supplied names against the known ones; make names printable, values short."""

import difflib
import reprlib
from collections.abc import Iterable

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100
short = _SHORT.repr  # a value for a message, less than a line of it


def printable(text: str) -> str:
    """Escape what UTF-8 cannot hold, as `\\udcff`: a file name or caption may hold half of a surrogate pair."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def refuse_unknown(given: Iterable[str], known: Iterable[str], what: str) -> None:
    """Raise TypeError for the first name in `given` that is not in `known`, with the nearest known name."""
    known = sorted(known)
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.0)
            raise TypeError(f"unknown {what} {name!r}: did you mean {near[0]!r}? There are: {', '.join(known)}")
