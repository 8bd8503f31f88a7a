"""Captions in tables, JSON and videos as rows (start, end, text); a row that is none is a string that says so."""

import csv
import html
import io
import json
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.error import FFmpegError
from av.stream import Discard, Disposition
from av.subtitles.subtitle import AssSubtitle

from vclip.data.text import short
from vclip.data.video import open_video

CONTAINERS = (".mkv", ".webm", ".mp4", ".m4v", ".mov")  # videos that can hold a stream of text
SEGMENTS = ("segments", "transcription", "events")  # of Whisper and its kin, whisper.cpp, YouTube
_TAG = re.compile(r"<(?:/?[A-Za-z][^<>]*|/|[\d:.]+)>|\{\\[^{}]*\}|&#\d{9,};?")

Row = tuple[object, object, object] | str


class NoCaptions(ValueError):
    """A video file without a subtitle stream of text."""


def plain(text: str) -> str:
    """A text without tags of WebVTT, SubRip and ASS, and with single spaces."""
    return " ".join(html.unescape(re.sub(r"\\[Nh]", " ", _TAG.sub("", text))).replace("\u200b", "").split())


def read_json(path: Path, text: str, video_id: str | None) -> list[Row]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, or a number of more than 4300 digits
        raise ValueError(f"{path} is not JSON: {error}") from None
    videos = data if isinstance(data, dict) else {}
    lists = [data, *map(videos.get, SEGMENTS)]
    segments = next((items for items in lists if isinstance(items, list)), None)
    if segments is not None and (segments or videos):  # an empty list may be of anything
        return [_row(number, item) for number, item in enumerate(segments, 1)]
    if isinstance(videos.get("start"), list):
        columns = videos
    elif any(isinstance(video, dict) and "start" in video for video in videos.values()):
        columns = videos[choose(path, list(videos), video_id)]
    else:
        found = f"a dict with keys {short(list(videos))[1:-1]}" if videos else short(data)
        expected = "a dict of videos, each with lists start, end, text, or one with a list " + " or ".join(SEGMENTS)
        raise ValueError(f"{path}: found {found}; expected {expected}")
    return in_rows(str(path), columns)


def in_rows(where: str, columns: dict) -> list[Row]:
    try:
        return list(zip(*(columns[name] for name in ("start", "end", "text")), strict=True))
    except (KeyError, TypeError, ValueError) as error:
        message = f"{where}: a video's captions are lists start, end, text of one length"
        raise ValueError(f"{message} ({type(error).__name__}: {error})") from None


def _row(number: int, item) -> Row:
    try:
        if "tStartMs" in item:  # YouTube: some only place a window
            start, text = float(item["tStartMs"]) / 1000, "".join(part.get("utf8", "") for part in item.get("segs", ()))
            end = start + float(item.get("dDurationMs", 0)) / 1000
        elif "offsets" in item:
            start, end, text = item["offsets"]["from"] / 1000, item["offsets"]["to"] / 1000, item["text"]
        else:
            start, end, text = item["start"], item["end"], item["text"]
        return start, end, " ".join(text.replace("\u200b", "").split())
    except (AttributeError, KeyError, TypeError, ValueError):
        return f"row {number}: {short(item)} is not a caption with start, end and text"


def read_table(path: Path, text: str, video_id: str | None) -> list[Row]:
    # strict: else an open quote swallows the rest; Whisper's .tsv quotes nothing
    style: dict = {"delimiter": "\t", "quoting": csv.QUOTE_NONE} if path.suffix.lower() == ".tsv" else {"strict": True}
    reader, rows, broken = csv.reader(io.StringIO(text, newline=""), **style), [], []
    try:
        rows.extend(filter(None, reader))
    except csv.Error as error:
        broken.append(f"row {len(rows)} and what follows: {error} (is a quote left open?)")
    names, *rows = rows or [[]]
    place = {name: i for i, name in enumerate(names)}
    if not {"start", "end", "text"} <= place.keys():
        raise ValueError(f"{path}: the first line must name the columns start,end,text; it is {short(names)}")
    if rows and "video_id" in place:
        named = [next(iter(row[place["video_id"] :]), "") for row in rows]
        chosen = choose(path, list(dict.fromkeys(named)), video_id)
        rows = [row for row, video in zip(rows, named, strict=True) if video == chosen]
    bad = "as many fields as the first line names are needed (quote commas)"
    start, end, said = (place[name] for name in ("start", "end", "text"))
    whole = ((row[start], row[end], row[said]) if len(row) == len(names) else None for row in rows)
    return [row or f"row {i}: {bad}" for i, row in enumerate(whole, 1)] + broken


def choose(path: Path, videos: list[str], video_id: str | None) -> str:
    if video_id is None and len(videos) == 1:
        return videos[0]
    if video_id is None:
        raise ValueError(f"{path} holds {len(videos)} videos: say which by video_id=, for instance {short(videos[:3])}")
    if video_id not in videos:
        raise ValueError(f"{path} has no captions of video {short(video_id)} (of {len(videos)} videos)")
    return video_id


def read_stream(path: Path) -> Iterator[Row]:
    """Of a video's text streams the default one, else the first, from the container's start."""
    with open_video(path) as container:
        texts = [s for s in container.streams.subtitles if s.codec_context and s.codec_context.codec.text_sub]
        if not texts:
            raise NoCaptions(f"{path} holds no captions as text: put a caption file beside it")
        # a forced stream says only what is foreign in the film
        forced, default = Disposition.forced, Disposition.default
        stream = min(texts, key=lambda s: (bool(s.disposition & forced), not s.disposition & default))
        for other in set(container.streams) - {stream}:
            other.discard = Discard.all
        origin = Fraction(container.start_time or 0, av.time_base)
        try:
            for packet in container.demux(stream):
                if packet.pts is None or not packet.size:
                    continue
                start = packet.pts * packet.time_base - origin
                end = start + (packet.duration or 0) * packet.time_base
                events = [e.ass.decode("utf-8", "replace") for e in packet.decode() if isinstance(e, AssSubtitle)]
                # an ASS event is eight fields, then the text; \p1 begins a drawing
                said = " ".join(event.split(",", 8)[-1] for event in events if not re.search(r"\\p[1-9]", event))
                yield float(max(start, 0)), float(max(end, 0)), plain(said.replace("\\n", " "))
        except FFmpegError as error:
            yield f"the rest of its captions cannot be read ({error.strerror})"
