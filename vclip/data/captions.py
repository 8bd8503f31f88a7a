"""Timed captions: read from subtitle files, made plain, cut into tokens. Times are seconds from the video's start."""

import csv
import html
import io
import json
import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float64

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CAPTION_SUFFIXES: tuple[str, ...] = (".vtt", ".srt", ".json", ".csv")


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

    def past(self, seconds: float) -> int:
        """How many captions start when a video of that length has ended."""
        return int(np.sum(self.start >= seconds))

    def __repr__(self) -> str:
        span = f", {self.start.min():.1f}-{self.end.max():.1f} s" if len(self) else ""
        return f"Captions({len(self)} rows{span}, {self.overlapping} overlapping, {self.disordered} out of order)"


def read_captions(path: str | Path, video_id: str | None = None) -> Captions:
    """Read the captions of one video. Rows without a text are skipped; overlapping and disordered ones are kept.

    Args:
        path: a .vtt or .srt (tags are stripped), .json (the layout of HowTo100M's raw_caption.json) or .csv (columns
            start, end, text).
        video_id: which video, where a .json (by key) or .csv (by a column video_id) holds several.

    Raises:
        ValueError: names file and row (from 1) where times are not 0 <= start <= end, or the format or UTF-8 is broken.

    Example:
        >>> import vclip
        >>> read_captions(vclip.minihowto() / "videos" / "test0000.vtt").text[0]
        "today we're doing space lunch"
    """
    path = Path(path).expanduser()
    readers = dict(zip(CAPTION_SUFFIXES, (_read_cues, _read_cues, _read_json, _read_csv), strict=True))
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path}: unknown kind of caption file {path.suffix!r}; known are {', '.join(readers)}")
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        row = data.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {row}: byte {data[error.start]:#04x} is not UTF-8; convert the file") from None
    rows = readers[path.suffix.lower()](path, text, video_id)
    return _captions([_checked(path, number, *row) for number, row in enumerate(rows, 1) if not _is_missing(row[2])])


def _captions(rows: Sequence) -> Captions:
    start, end, text = zip(*rows, strict=True) if rows else ((), (), ())
    return Captions(np.array(start, dtype=np.float64), np.array(end, dtype=np.float64), list(text))


def _is_missing(text) -> bool:
    return text is None or text == "" or (isinstance(text, float) and math.isnan(text))


def _checked(path: Path, number: int, start, end, text) -> tuple[float, float, str]:
    try:
        times = float(start), float(end)
    except (TypeError, ValueError, OverflowError):
        times = math.nan, math.nan
    if not 0 <= times[0] <= times[1] < math.inf:
        raise ValueError(f"{path}, row {number}: the times {start!r} to {end!r} are not seconds with 0 <= start <= end")
    if not isinstance(text, str):
        raise ValueError(f"{path}, row {number}: {text!r} is not a text")
    return *times, text


_CLOCK = r"(?:(\d+):)?([0-5]?\d):([0-5]?\d[.,]\d+)"
_TIMES = re.compile(rf"\s*{_CLOCK}\s*-->\s*{_CLOCK}(?!\S)")
_TAG = re.compile(r"<(?:/?[A-Za-z][^<>]*|/|[\d:.]+)>|\{\\[^{}]*\}")


def _read_cues(path: Path, text: str, video_id: str | None) -> list[tuple]:
    lines, kind = re.split(r"\r\n?|\n", text), path.suffix.lower()[1:]
    if kind == "vtt" and not text.startswith("WEBVTT"):
        raise ValueError(f"{path} is not a vtt file: its first line is {lines[0]!r}, not WEBVTT")
    cues: list[tuple[float, float, list[str]]] = []
    spoken = None
    for number, line in enumerate(lines, 1):
        if "-->" in line:
            times = _TIMES.match(line)
            if times is None or spoken:
                what = "follows no empty line" if spoken else "is not a pair of times (negative, or mistyped?)"
                raise ValueError(f"{path}, line {number}: {line.strip()!r} {what}")
            spoken = []
            cues.append((_seconds(*times.groups()[:3]), _seconds(*times.groups()[3:]), spoken))
        elif not line or (kind == "srt" and not line.strip()):  # YouTube's .vtt have lines of one space in a cue
            spoken = None
        elif spoken is not None:
            spoken.append(line)
    if text.strip() and kind == "srt" and not cues:
        raise ValueError(f"{path} is not a srt file: it has no line of times")
    plain = (_TAG.sub("", " ".join(spoken)).replace("\\N", " ") for _, _, spoken in cues)
    return [(start, end, " ".join(html.unescape(t).split())) for (start, end, _), t in zip(cues, plain, strict=True)]


def _seconds(hours: str | None, minutes: str, seconds: str) -> float:
    return float(hours or 0) * 3600 + int(minutes) * 60 + float(seconds.replace(",", "."))


def _read_json(path: Path, text: str, video_id: str | None) -> list[tuple]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, or a number of more than 4300 digits
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected a dict of videos, or of start, end and text, not a {type(data).__name__}")
    columns = data if isinstance(data.get("start"), list) else data[_choose(path, list(data), video_id)]
    try:
        return list(zip(*(columns[name] for name in ("start", "end", "text")), strict=True))
    except (KeyError, TypeError, ValueError) as error:
        message = f"{path}: a video's captions are lists start, end, text of one length"
        raise ValueError(f"{message} ({type(error).__name__}: {error})") from None


def _read_csv(path: Path, text: str, video_id: str | None) -> list[tuple]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)  # else an open quote swallows the rest
    try:
        rows = list(reader)
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
    if not {"start", "end", "text"} <= set(reader.fieldnames or ()):
        raise ValueError(f"{path}: the first line must name the columns start,end,text; it is {reader.fieldnames}")
    if rows and "video_id" in rows[0]:
        chosen = _choose(path, list(dict.fromkeys(row["video_id"] for row in rows)), video_id)
        rows = [row for row in rows if row["video_id"] == chosen]
    for number, row in enumerate(rows, 1):
        if None in row or None in row.values():
            raise ValueError(f"{path}, row {number}: as many fields as the first line names are needed (quote commas)")
    return [(row["start"], row["end"], row["text"]) for row in rows]


def _choose(path: Path, videos: list[str], video_id: str | None) -> str:
    if video_id is None and len(videos) == 1:
        return videos[0]
    if video_id is None:
        raise ValueError(f"{path} holds {len(videos)} videos: say which by video_id=, for instance {videos[:3]}")
    if video_id not in videos:
        raise ValueError(f"{path} has no captions of video {video_id!r} (of {len(videos)} videos)")
    return video_id


def deduplicate(
    captions: Captions, method: Literal["words", "reference"] = "words", coin: Callable[[], float] | None = None
) -> Captions:
    """Remove what rolling captions repeat of the captions before them. Blank captions are skipped.

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
        while n := _overlap(spoken, words):
            words = words[n:]
        if words:
            out.append([start, end, " ".join(words)])
            spoken += words
        elif start <= out[-1][1] + 1:
            out[-1][1] = max(out[-1][1], end)
    return out


def _overlap(spoken: list[str], words: list[str]) -> int:
    """Length of the longest prefix of `words` that is a suffix of `spoken`."""
    for n in range(min(len(spoken), len(words)), 0, -1):
        if spoken[-n] == words[0] and spoken[-n:] == words[:n]:
            return n
    return 0


def _released(rows: list[tuple[float, float, str]], coin: Callable[[], float]) -> list[list]:
    out: list[list] = []
    for start, end, text in rows:
        text = text.replace("\n", " ").strip()
        last = out[-1] if out else [start, end, ""]
        shared = next((k for k in range(1, len(text)) if last[2].endswith(text[:k])), 0)
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


def tokenize(texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase") -> list[list[int]]:
    """Token ids of each text, cut to 96 characters, then 32 tokens, without special ones (how2processor.py:859-882)."""
    if not texts:
        return []
    ids = tokenizer([text[:96] for text in texts], add_special_tokens=False)["input_ids"]
    return [row[:32] for row in ids]
