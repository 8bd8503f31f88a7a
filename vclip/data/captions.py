"""Timed captions: read from subtitle files, made plain, cut into tokens.

Times are seconds from the start of the video; n is the number of captions.
"""

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
import webvtt
from jaxtyping import Float64
from webvtt.errors import MalformedCaptionError, MalformedFileError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


CAPTION_SUFFIXES: tuple[str, ...] = (".vtt", ".srt", ".json", ".csv")


@dataclass(frozen=True, eq=False, repr=False)
class Captions:
    """Timed captions of one video, in the order of their file.

    They may overlap, be out of order and end before they start (the released clean-up makes such ones).

    Args:
        start, end: seconds from the start of the video, shape (n,).
        text: n strings; a missing text (None, NaN) becomes the empty string.

    Raises:
        ValueError: for columns of unequal length, or times that are not finite.
        TypeError: for a text that is not a string.

    Example:
        >>> Captions([0.0, 1.5], [2.0, 4.0], ["peel the", "the carrot"])
        Captions(2 rows, 0.0-4.0 s, 1 overlapping, 0 out of order)
    """

    start: Float64[np.ndarray, " n"]
    end: Float64[np.ndarray, " n"]
    text: list[str]

    def __post_init__(self):
        try:
            start, end = np.asarray(self.start, dtype=np.float64), np.asarray(self.end, dtype=np.float64)
        except OverflowError as error:
            raise ValueError(f"a caption's time is beyond every float ({error}): times are seconds") from None
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
    """Read the captions of one video.

    Tags are stripped from .vtt and .srt and entities unescaped; the text of .json and .csv stays as it is. Rows
    without a text are skipped. Overlapping and disordered captions are accepted and counted.

    Args:
        path: a .vtt, .srt, .json (the layout of HowTo100M's raw_caption.json) or .csv (columns start, end, text).
        video_id: which video, where a .json (by key) or .csv (by a column video_id) holds several.

    Returns:
        The captions; none for a file that its format allows to be empty.

    Raises:
        ValueError: names file and row (from 1) for a caption that ends before it starts, times that are negative or no
            numbers, bytes that are not UTF-8, text that does not follow the format, or a missing or unknown id.

    Example:
        >>> import vclip
        >>> read_captions(vclip.minihowto() / "videos" / "test0000.vtt").text[0]
        "today we're doing space lunch"
    """
    path = Path(path)
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
    kept = [_checked(path, number, row) for number, row in enumerate(rows, 1) if not _is_missing(row[2])]
    start, end, texts = zip(*kept, strict=True) if kept else ((), (), ())
    return Captions(np.array(start, dtype=np.float64), np.array(end, dtype=np.float64), list(texts))


def _is_missing(text) -> bool:
    return text is None or (isinstance(text, float) and math.isnan(text))


def _is_time(value) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer beyond every float
        return False


def _checked(path: Path, number: int, row: tuple) -> tuple[float, float, str]:
    start, end, text = row
    if not (_is_time(start) and _is_time(end)):
        raise ValueError(f"{path}, row {number}: times {start!r} to {end!r} are not numbers of seconds")
    if start < 0:
        raise ValueError(f"{path}, row {number}: starts at {start} s, before the video")
    if end < start:
        raise ValueError(f"{path}, row {number}: ends at {end} s, before it starts at {start} s")
    if not isinstance(text, str):
        raise ValueError(f"{path}, row {number}: {text!r} is not a text")
    return row


_TIME = r"(?:\d+:)?[0-5]?\d:[0-5]?\d"
_TIMES = {
    "vtt": re.compile(rf"\s*{_TIME}\.\d+\s*-->\s*{_TIME}\.\d"),
    "srt": re.compile(rf"\s*{_TIME}[,.]\d+\s*-->\s*{_TIME}[,.]\d"),
}
_TAG = re.compile(r"<(?:/?[A-Za-z][^<>]*|/|[\d:.]+)>")


def _read_cues(path: Path, text: str, video_id: str | None) -> list[tuple]:
    kind, lines = path.suffix.lower()[1:], re.split(r"\r\n?|\n", text)
    if kind == "srt" and not text.strip():
        return []
    times = [(number, line) for number, line in enumerate(lines, 1) if "-->" in line]
    # webvtt-py passes over cues that it cannot read; a caption must not vanish in silence
    for number, line in times:
        if not _TIMES[kind].match(line):
            raise ValueError(f"{path}, line {number}: {line.strip()!r} is not a pair of times (negative, or mistyped?)")
    try:
        cues = webvtt.WebVTT.from_buffer(io.StringIO(text), format=kind).captions
    except (MalformedFileError, MalformedCaptionError) as error:
        raise ValueError(f"{path} is not a {kind} file: {error}") from None
    if kind == "srt":  # here a cue without text is left out on purpose
        times = [(number, line) for number, line in times if number < len(lines) and lines[number].strip()]
    if len(cues) < len(times):
        raise ValueError(f"{path}: {len(times)} cues, of which only {len(cues)} can be read; check their form")
    plain = (" ".join(html.unescape(_TAG.sub("", cue.raw_text)).split()) for cue in cues)
    return [(_seconds(cue.start), _seconds(cue.end), t) for cue, t in zip(cues, plain, strict=True)]


def _seconds(timestamp: str) -> float:
    hours, minutes, seconds = timestamp.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)


def _read_json(path: Path, text: str, video_id: str | None) -> list[tuple]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, or a number of more than 4300 digits
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise ValueError(f"{path}: expected a dict of videos, or of start, end and text, not a {type(data).__name__}")
    columns = data
    if not all(isinstance(data.get(name), list) for name in ("start", "end", "text")):
        columns = data[_choose(path, list(data), video_id)]
    try:
        start, end, texts = (columns[name] for name in ("start", "end", "text"))
        return list(zip(start, end, texts, strict=True))
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
    return [(_number(row["start"]), _number(row["end"]), row["text"] or None) for row in rows]


def _number(field: str | None):
    """The number that a csv field holds, else the field itself, for the error message."""
    try:
        return float(field or "")
    except ValueError:
        return field


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
        captions: captions of one video.
        method: "words" is deterministic. In order of start, each caption loses the longest run of leading words with
            which the text so far ends, until there is none. A caption of which nothing is left prolongs the one
            before it, if they meet. Starts come out ascending; a second pass changes nothing.
            "reference" is the released clean-up (MMPT dedupprocessor.py:119-207), which works on characters.
        coin: for "reference", `coin() > 0.5` keeps an overlap in the earlier caption; `random.random` by default.

    Raises:
        ValueError: for another method.

    Example:
        >>> deduplicate(Captions([0, 2], [2, 4], ["peel the carrot", "the carrot and chop it"])).text
        ['peel the carrot', 'and chop it']
    """
    if method not in ("words", "reference"):
        raise ValueError(f"method must be 'words' or 'reference', got {method!r}")
    rows = [(float(s), float(e), t) for s, e, t in zip(captions.start, captions.end, captions.text, strict=True)]
    rows = [row for row in rows if row[2].strip()]
    out = _plain_words(rows) if method == "words" else _released(rows, coin or random.random)
    start, end, text = zip(*out, strict=True) if out else ((), (), ())
    return Captions(np.array(start, dtype=np.float64), np.array(end, dtype=np.float64), list(text))


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


def tokenize(
    texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase", max_characters: int = 96, max_tokens: int = 32
) -> list[list[int]]:
    """Ids of each text's tokens, without special ones, cut as in the released pre-tokenization: first to 96
    characters, then to 32 tokens (MMPT how2processor.py:859-882)."""
    if not texts:
        return []
    cut = [text[:max_characters] for text in texts]
    ids = tokenizer(cut, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False)
    return [row[:max_tokens] for row in ids["input_ids"]]
