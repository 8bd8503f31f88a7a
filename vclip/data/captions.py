"""Timed captions: read from subtitle files, made plain, cut into tokens. Times are seconds from the video's start."""

import math
import random
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float64

from vclip.data.text import decoded, short
from vclip.data.transcripts import CONTAINERS, Row, plain, read_json, read_stream, read_table

_CLOCK = r"(-?)(?:(\d+):)?([0-5]?\d):([0-5]?\d(?:[.,]\d*)?)"
_TIMES = re.compile(rf"\s*{_CLOCK}\s*-->\s*{_CLOCK}(?!\S)")
_LIKE_TIMES = re.compile(r"\s*[-+]?\d+[:.,][\d:.,]*\s*-+>|.*-->\s*[-+]?\d")


@dataclass(frozen=True, eq=False, repr=False)
class Captions:
    """Timed captions of one video in the order of their file; they may overlap and even end before they start.

    Args:
        start, end: seconds, shape (n,).
        text: n strings; a missing text (None, NaN) becomes the empty string.

    Example:
        >>> Captions([0.0, 1.5], [2.0, 4.0], ["peel the", "the carrot"])
        Captions(2 rows, 0.0-4.0 s, 1 overlapping, 0 out of order)
    """

    start: Float64[np.ndarray, " n"]
    end: Float64[np.ndarray, " n"]
    text: list[str]

    def __post_init__(self):
        start, end = np.asarray(self.start, dtype=np.float64), np.asarray(self.end, dtype=np.float64)
        text = ["" if _is_missing(t) else t for t in self.text]
        if start.shape != (len(text),) or end.shape != (len(text),):
            raise ValueError(f"{start.shape} starts, {end.shape} ends and {len(text)} texts: captions need one of each")
        if bad := np.flatnonzero(~(np.isfinite(start) & np.isfinite(end))).tolist():
            raise ValueError(f"caption {bad[0]} has start {start[bad[0]]} and end {end[bad[0]]}: times must be finite")
        if other := [t for t in text if not isinstance(t, str)]:
            raise TypeError(f"caption text must be a string, not {other[0]!r}")
        for name, value in (("start", start), ("end", end), ("text", text)):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.text)

    @property
    def overlapping(self) -> int:
        """How many captions start before the one listed before them has ended."""
        return int(np.sum(self.start[1:] < self.end[:-1]))

    @property
    def disordered(self) -> int:
        """How many captions start before the one listed before them starts."""
        return int(np.sum(self.start[1:] < self.start[:-1]))

    def __repr__(self) -> str:
        span = f", {self.start.min():.1f}-{self.end.max():.1f} s" if len(self) else ""
        return f"Captions({len(self)} rows{span}, {self.overlapping} overlapping, {self.disordered} out of order)"

    def _repr_html_(self) -> str:
        table = pd.DataFrame({"start": self.start, "end": self.end, "text": self.text})
        return table.to_html(index=False, max_rows=20, float_format="%.1f")


def read_captions(path: str | Path, video_id: str | None = None) -> Captions:
    """Read the captions of one video. Rows without a text are skipped; overlapping and disordered ones are kept.

    What a suffix holds is known by its content. A row that cannot be made out is skipped with a warning that names it.

    Args:
        path: a .vtt or .srt (tags are stripped); .json (of HowTo100M's raw_caption.json, of Whisper, WhisperX,
            faster-whisper, whisper.cpp or YouTube); .csv or .tsv (columns start, end, text; seconds, or
            whole milliseconds as Whisper's programs write); YouTube's .json3; or a video file (.mkv, .mp4,
            .mov, .webm) with a stream of text captions: the default one, else the first.
        video_id: which video, where a .json (by key) or .csv (by a column video_id) holds several.

    Returns:
        Seconds from the video's start, and texts, in the order of the file.

    Raises:
        ValueError: names file and row (from 1) where times are not 0 <= start <= end, or where no row can be made out;
            names the file where its format or UTF-8 is broken, or where a video holds no captions as text.

    Example:
        >>> import vclip
        >>> read_captions(vclip.minihowto() / "videos" / "test0000.vtt").text[0]
        "today we're doing space lunch"
    """
    captions, skipped = read_and_skip(path, video_id)
    if skipped:
        warnings.warn(skipped, stacklevel=2)
    return captions


def read_and_skip(path: str | Path, video_id: str | None = None, length: float = math.inf) -> tuple[Captions, str]:
    """`read_captions` of a video of that length, and what to say of the rows that were skipped."""
    path = Path(path).expanduser()
    suffix = path.suffix.lower()
    if suffix in CONTAINERS:
        read = read_stream(path)
    elif suffix in _READERS:
        read = _READERS[suffix](path, decoded(path, path.read_bytes()), video_id)
    else:
        known = ", ".join(CAPTION_SUFFIXES + CONTAINERS)
        raise ValueError(f"{path}: unknown kind of caption file {path.suffix!r}; known are {known}")
    captions, skipped = from_rows(str(path), read)
    if suffix in (".csv", ".tsv"):  # in milliseconds, if all are whole numbers and half of the captions last long
        # whisper.cpp begins each text with a space; whole seconds would lie within the video
        likely = all(t[0] == " " for t in captions.text) or 2 * np.sum(captions.start >= length) > len(captions)
        start, end = captions.start, captions.end
        whole = len(start) and not (start % 1).any() and not (end % 1).any()
        if whole and np.median(end - start) >= (100 if likely else 1000):
            captions = Captions(start / 1000, end / 1000, [text.strip() for text in captions.text])
    return captions, skipped


def from_rows(where: str, read: Iterable[Row]) -> tuple[Captions, str]:
    """Captions of the rows that `vclip.data.transcripts` read, and what to say of those that were skipped."""
    found = [row for row in read if isinstance(row, str) or not _is_missing(row[2])]
    rows = [row if isinstance(row, str) else _checked(where, number, *row) for number, row in enumerate(found, 1)]
    skipped = [row for row in rows if isinstance(row, str)]
    if skipped and len(skipped) == len(rows):
        raise ValueError(f"{where}, {skipped[0]}")
    captions = _captions([row for row in rows if not isinstance(row, str)])
    return captions, f"{where}, {skipped[0]}; skipped {len(skipped)} of {len(rows)} captions" if skipped else ""


def _captions(rows: Sequence) -> Captions:
    start, end, text = zip(*rows, strict=True) if rows else ((), (), ())
    return Captions(np.array(start, dtype=np.float64), np.array(end, dtype=np.float64), list(text))


def _is_missing(text) -> bool:
    return text is None or text == "" or (isinstance(text, float) and math.isnan(text))


def _checked(where: str, number: int, start, end, text) -> tuple[float, float, str] | str:
    try:
        times = float(start), float(end)
    except OverflowError:
        times = math.nan, math.nan
    except (TypeError, ValueError):
        return f"row {number}: the times {short(start)} to {short(end)} are not numbers"
    if not isinstance(text, str):
        return f"row {number}: {short(text)} is not a text"
    if not 0 <= times[0] <= times[1] < math.inf:
        what = f"the times {short(start)} to {short(end)} are not seconds with 0 <= start <= end"
        raise ValueError(f"{where}, row {number}: {what}")
    return *times, text


def _read_cues(path: Path, text: str, video_id: str | None) -> list[Row]:
    lines, vtt = re.split(r"\r\n?|\n", text), text.startswith("WEBVTT")
    if path.suffix.lower() == ".vtt" and not vtt:
        raise ValueError(f"{path} is not a vtt file: its first line is {short(lines[0])}, not WEBVTT")
    cues: list[tuple[int, list[str]]] = []
    said: list[str] = []  # of the cue; before the first, and from a note to the next, of none
    for i, line in enumerate(lines):
        if _LIKE_TIMES.match(line):
            # the line before is the cue's number, or its name: what is spoken may go on after an empty line
            named = vtt and said[-1:] == lines[i - 1 : i] and not lines[i - 2].strip()
            if said and (named or (said[-1].isdecimal() and said[-1] in (lines[i - 1], vtt or str(len(cues) + 1)))):
                said.pop()
            cues.append((i, said := []))
        elif vtt and not lines[i - 1] and re.match(r"(NOTE|STYLE|REGION)\b", line):
            said = []
        elif line.strip():
            said.append(line)
    if text.strip() and not vtt and not cues:
        raise ValueError(f"{path} is not a srt file: it has no line of times")
    rows: list[Row] = []
    for i, said in cues:
        if times := _TIMES.match(lines[i]):
            rows.append((_seconds(*times.groups()[:4]), _seconds(*times.groups()[4:]), plain(" ".join(said))))
        else:
            rows.append(f"line {i + 1}: {short(lines[i].strip())} is not a pair of times")
    return rows


def _seconds(sign: str, hours: str | None, minutes: str, seconds: str) -> float:
    return float(f"{sign}1") * (float(hours or 0) * 3600 + int(minutes) * 60 + float(seconds.replace(",", ".")))


_READERS = {".vtt": _read_cues, ".srt": _read_cues, ".json": read_json}
_READERS |= {".csv": read_table, ".tsv": read_table, ".json3": read_json}
CAPTION_SUFFIXES: tuple[str, ...] = tuple(_READERS)


def deduplicate(
    captions: Captions, method: Literal["words", "reference"] = "words", coin: Callable[[], float] | None = None
) -> Captions:
    """Remove what rolling captions repeat of the captions before them, and blank captions, in new `Captions`.

    Args:
        method: with "words", in order of start, each caption loses the longest run of leading words with which the text
            so far ends, until there is none; one that becomes empty extends the one before it if they touch.
            "reference" is the released clean-up (MMPT dedupprocessor.py:119-207), which works on characters.
        coin: for "reference", `coin() > 0.5` keeps an overlap in the earlier caption; `random.random` by default.

    Example:
        >>> deduplicate(Captions([0, 2], [2, 4], ["peel the carrot", "the carrot and chop it"])).text
        ['peel the carrot', 'and chop it']
    """
    if method not in ("words", "reference"):
        raise ValueError(f"method must be 'words' or 'reference', got {method!r}")
    rows = [(float(s), float(e), t) for s, e, t in zip(captions.start, captions.end, captions.text, strict=True)]
    rows = [row for row in rows if row[2].strip()]
    return _captions(_plain_words(rows) if method == "words" else _released(rows, coin or random.random))


def _plain_words(rows: list[tuple[float, float, str]]) -> list[list]:
    out: list[list] = []
    spoken: list[str] = []
    for start, end, text in sorted(rows, key=lambda row: row[0]):
        words, end = text.split(), max(start, end)
        if words := words[_repeated(spoken, words) :]:
            out.append([start, end, " ".join(words)])
            spoken += words
        elif start <= out[-1][1] + 1:
            out[-1][1] = max(out[-1][1], end)
    return out


def _repeated(spoken: list[str], words: list[str]) -> int:
    """How many leading words go by taking away the longest run with which `spoken` ends, until there is none."""
    # Knuth, Morris and Pratt's table, from behind: of each word the longest run from it on with which `spoken` ends
    items, runs = [*reversed(spoken[-len(words) :]), None, *reversed(words)], [0]
    for item in items[1:]:
        n = runs[-1]
        while n and items[n] != item:
            n = runs[n - 1]
        runs.append(n + (items[n] == item))
    begin = 0
    while begin < len(words) and (run := runs[~begin]):
        begin += run
    return begin


def _released(rows: list[tuple[float, float, str]], coin: Callable[[], float]) -> list[list]:
    out: list[list] = []
    for start, end, text in rows:
        text = text.replace("\n", " ").strip()
        last = out[-1] if out else [start, end, ""]
        shared = next((k for k in range(1, min(len(text), len(last[2]) + 1)) if last[2].endswith(text[:k])), 0)
        if last[2].endswith(text):
            last[1] = max(last[1], end)
        elif out and text.startswith(last[2]):
            last[:] = [min(last[0], start), max(last[1], end), text]
        elif not shared:
            out.append([start, end, text])
        elif coin() > 0.5:
            last[1] = max(last[1], start)
            if rest := text[shared:].strip():
                out.append([last[1], max(end, last[1]), rest])
        else:
            if left := last[2][:-shared].strip():
                last[1:] = [min(last[1], start), left]
            else:
                out.pop()
            out.append([start, end, text])
    return out
