"""What a search found: moments, as a table in a notebook and as files for spreadsheets, players and video editors."""

import html
from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from IPython.display import Video

from vclip.data import storage
from vclip.search.playback import clip, thumbnail


@dataclass(frozen=True)
class Hit:
    """A moment that a query found.

    Attributes:
        video: its id in the corpus; in an indexed folder its path there. `MomentIndex.file` opens it.
        start, end: seconds from the video's start; the end is at most the video's length.
        score, rank: z_v . z_t of the window around it; ranks count from 1.
        margin: the score minus the best of any other video (NaN if there is none).
        zscore: score - m / 2, where m is the query's mean score over all windows, in standard deviations above what 256
            everyday sentences reach. About 0 or less: it is not there, or the model does not know the words.
        query, text: what was asked, and what the captions say meanwhile.
        said: z_t of `text` . z_t of the query; NaN where nothing is said.
        both: score and said, each in standard deviations above what the 256 sentences score there, added.
        tag: what the user of a `RetrievalBrowser` noted.

    Example:
        >>> Hit("a.mp4", 2.0, 7.0, 31.5, 1, 4.2, 2.9, "peel the carrot", "now we peel", 20.1, 3.3).end
        7.0
    """

    video: str
    start: float
    end: float
    score: float
    rank: int
    margin: float
    zscore: float
    query: Any = field(compare=False)  # arrays cannot be compared, nor NaN with itself
    text: str
    said: float = field(compare=False)
    both: float
    tag: str = field(default="", compare=False)

    def __str__(self) -> str:
        return visible(f"{self.video}, {self.start:g} to {self.end:g} s")


class Hits(list[Hit]):
    """Hits, best first: a list that a notebook shows as a table, with pictures while their index is there."""

    index: Any = staticmethod(lambda: None)  # a weak reference: hits keep no model in memory

    def __getstate__(self) -> None:
        """A copy and a pickled file know no index."""

    def to_frame(self) -> pd.DataFrame:
        """A row for each hit, a column for each attribute, the query as text; control characters as `\\x1b`."""
        rows = [{k: visible(v) if isinstance(v, str) else v for k, v in vars(hit).items()} for hit in self]
        return pd.DataFrame(rows, columns=[*Hit.__dataclass_fields__]).astype({"query": str})

    def __str__(self) -> str:
        return self.to_frame()[["rank", "video", "start", "end", "score"]].to_string(index=False, float_format="%.2f")

    def play(self, i: int = 0) -> Video:
        """A player of hit `i`, kept in the notebook; ValueError for a copy, or if the index is gone."""
        if (index := self.index()) is None:
            raise ValueError("these hits know no index: keep it in a variable, and play what its search returned")
        content = clip(index.file(self[i].video), self[i].start, self[i].end)
        return Video(data=content, embed=True, mimetype="video/webm")

    def save(self, path: str | Path, fps: float = 25) -> None:
        """Write a .csv, in which an apostrophe precedes a text that a spreadsheet would compute; an .srt, a cue a hit;
        or an .edl (CMX 3600) of the hits one after the other, with `fps` frames a second."""
        path, at = Path(path).expanduser(), 0
        text = f"TITLE: {visible(path.stem)}\nFCM: NON-DROP FRAME\n" if path.suffix == ".edl" else ""
        if path.suffix == ".csv":
            text = self.to_frame().replace(r"^(?=[=+@-])", "'", regex=True).to_csv(index=False)
        elif path.suffix == ".srt":
            for n, hit in enumerate(sorted(self, key=lambda hit: (hit.video, hit.start)), 1):
                start, end = (_clock(round(time * 1000), 1000, ",03d") for time in (hit.start, hit.end))
                text += f"{n}\n{start} --> {end}\n{visible(hit.video).replace('-->', '->')} ({hit.score:.3f})\n\n"
        elif path.suffix == ".edl":
            for n, hit in enumerate(self, 1):
                first = round(hit.start * fps)
                length = max(1, round(hit.end * fps) - first)
                times = [_clock(frame, round(fps), ":02d") for frame in (first, first + length, at, at + length)]
                text += f"{n:03d}  AX       V     C        {' '.join(times)}\n* FROM CLIP NAME: {visible(hit.video)}\n"
                at += length
        else:
            raise ValueError(f"{path}: hits are saved as .csv, .srt or .edl; give it one of these suffixes")
        storage.replace(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))

    def _repr_html_(self) -> str:
        rows = self.to_frame()[:10].drop(columns=["query", "said", "both"])
        rows = rows.map(lambda value: html.escape(value) if isinstance(value, str) else value)
        rows.insert(0, "", [self._picture(hit) for hit in self[: len(rows)]])
        with pd.option_context("display.max_colwidth", None):  # pandas would cut pictures
            return rows.to_html(index=False, escape=False, float_format="%.3f")

    def _picture(self, hit: Hit) -> str:
        with suppress(AttributeError, KeyError, OSError, ValueError):  # no index, or no file that can be read
            picture = thumbnail(self.index().file(hit.video), (hit.start + hit.end) / 2, side=128)
            return f'<img src="data:image/jpeg;base64,{b64encode(picture).decode()}" alt="">'
        return ""


def _clock(count: int, per_second: int, form: str) -> str:
    """hh:mm:ss and the rest of `count`, in a form such as ",03d"."""
    seconds, rest = divmod(count, per_second)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{form[0]}{rest:{form[1:]}}"


def visible(text: str) -> str:
    """Control characters as `\\x1b`: a terminal would obey them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
