"""The retrieval browser: a `MomentIndex` as a search page in JupyterLab and Voila.

The page asks and Python answers, by widget messages, so it works behind any server and for videos anywhere on disk.
Pictures and short pieces of video travel as binary messages when they are shown; none becomes widget state, so none is
saved in the notebook. What is saved is text: the query, the hits, and a list of them for readers without a kernel.
Python answers in turn, so the page asks for what plays a moment first and for its scores after that.
"""

import csv
import html
import io
import math
import re
import unicodedata
import warnings
from collections.abc import Callable
from dataclasses import asdict
from fnmatch import fnmatch
from itertools import count
from pathlib import Path

import anywidget
import traitlets
from IPython.display import display

from vclip.data.storage import replace
from vclip.search.index import Hit, MomentIndex
from vclip.search.playback import piece, thumbnail

STATIC = Path(__file__).parent / "static"
SCRIPTS = ("player.js", "curve.js", "browser.js")  # one ES module: the page cannot import from a kernel's disk
PIECE_SECONDS = 4  # as in player.js
CONTROL = {"Cc", "Cs", "Zl", "Zp"}  # Unicode's categories and, below, its bidirectional classes
DIRECTION = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
COLUMNS = ("rank", "video", "start", "end", "score", "margin", "percentile", "query", "text")


class RetrievalBrowser(anywidget.AnyWidget):
    """Type a sentence, see the moments that match, play them: `RetrievalBrowser(index)` as the last line of a cell.

    `k` is how many moments a search returns at most. A hit plays from its start to its end; under it lies the score of
    every second, on which a click seeks, and the best moments of other videos. Arrow keys move between hits, Enter
    plays. "Save as CSV" downloads the hits to where the page is looked at. What fails, a video that is gone for
    instance, is said in the page. `search` and `save` do from Python what the page does.
    """

    _esm = "\n".join((STATIC / name).read_text(encoding="utf-8") for name in SCRIPTS)
    _css = (STATIC / "browser.css").read_text(encoding="utf-8")
    query = traitlets.Unicode().tag(sync=True)
    hits = traitlets.List().tag(sync=True)
    videos = traitlets.Int().tag(sync=True)

    def __init__(self, index: MomentIndex, k: int = 10):
        super().__init__(videos=len(index))
        self.index, self.k = index, k
        # hits and how long their videos last (s); the page names them by a key: no path comes from it
        self._known: dict[int, tuple[Hit, int]] = {}
        self._keys, self._text_output = count(), None
        self.on_msg(self._answer)

    def search(self, text: str, files: str = "", least: float = 0.0) -> list[Hit]:
        """At most k hits, best first, shown on the page too.

        `files` is part of the path of the videos to search, in any case, or a pattern such as "cooking/*.mp4"; `least`
        the smallest percentile, 0 to 1, that a hit may have. Raises what `MomentIndex.search` raises.
        """
        found = self.index.search(text, self.k, videos=_named(files) if files.strip() else None)
        found = [hit for hit in found if not hit.percentile < least]
        self._known.clear()
        with self.hold_sync():
            self.query, self.hits, self.videos = text, self._rows(found), len(self.index)
        if self._text_output is not None:
            self._text_output.update(self._as_text(), raw=True)
        return found

    def save(self, path: str | Path | None = None) -> Path:
        """Write the hits shown as CSV, whole or not at all, and return the file's absolute path.

        By default `hits-<query>.csv` in the working folder. UTF-8 with the mark that spreadsheets ask for, a row a hit
        with the columns COLUMNS: times in seconds, the fields of `Hit`; every cell quoted, empty where undefined. What
        a spreadsheet would take for a formula, at the front of a text or after a semicolon, tab or new line in it,
        gets an apostrophe in front. Raises OSError.
        """
        target = Path(path) if path is not None else Path(self._file_name())
        data = self._csv()
        replace(target, lambda temporary: temporary.write_bytes(data))
        return target.resolve()

    def _file_name(self) -> str:
        words = "-".join(re.findall(r"\w+", self.query.lower()))[:40]
        return f"hits-{words or 'none'}.csv"

    def _csv(self) -> bytes:
        text = io.StringIO(newline="")
        rows = [[_cell(hit.get(name)) for name in COLUMNS] for hit in self.hits]
        csv.writer(text, quoting=csv.QUOTE_ALL).writerows([COLUMNS, *rows])
        return text.getvalue().encode("utf-8-sig", "backslashreplace")

    def _answer(self, _widget, message: dict, _buffers) -> None:
        actions: dict[str, Callable] = {
            "search": self._on_search,
            "explain": self._on_explain,
            "confusions": self._on_confusions,
            "thumbnail": self._on_thumbnail,
            "piece": self._on_piece,
            "csv": self._on_csv,
        }
        try:
            answer, buffers = actions[message["action"]](**message["values"])
            self.send({"id": message["id"], "answer": answer}, buffers)
        except Exception as error:  # shown in the page: a widget's traceback would be lost in a log
            text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
            self.send({"id": message["id"], "error": text or type(error).__name__})

    def _on_search(self, text: str, files: str, least: float):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.search(text, files, least)
        return {"notes": [str(warning.message) for warning in caught if warning.category is UserWarning]}, None

    def _on_explain(self, key: int):
        return {"scores": [float(score) for score in self.index.explain(self._moment(key)[0]).scores]}, None

    def _on_confusions(self, key: int):
        hit, _ = self._moment(key)
        best = self.index.search(hit.query, 3, videos=lambda video: video != hit.video, captions=False)
        return {"rows": self._rows(best)}, None

    def _on_thumbnail(self, key: int):
        hit, _ = self._moment(key)
        return {}, [thumbnail(self.index.file(hit.video), (hit.start + hit.end) / 2)]

    def _on_piece(self, key: int, n: int):
        (hit, seconds), start = self._moment(key), PIECE_SECONDS * int(n)
        data, kind = piece(self.index.file(hit.video), start, min(start + PIECE_SECONDS, seconds))
        return {"type": kind}, [data]

    def _on_csv(self):
        return {"name": self._file_name()}, [self._csv()]

    def _moment(self, key: int) -> tuple[Hit, int]:
        if key not in self._known:
            raise KeyError("this moment is of an earlier search: search again")
        return self._known[key]

    def _rows(self, found: list[Hit]) -> list[dict]:
        """Hits as JSON holds them, without NaN, each with its `key` and how many `seconds` its video lasts."""
        seconds, rows = dict(zip(self.index.videos, self.index.seconds, strict=True)), []
        for hit in found:
            key = next(self._keys)
            self._known[key] = hit, seconds[hit.video]
            row = {name: None if isinstance(v, float) and math.isnan(v) else v for name, v in asdict(hit).items()}
            rows.append(row | {"key": key, "seconds": seconds[hit.video]})
        return rows

    def __repr__(self) -> str:
        return f"RetrievalBrowser: {self.videos} videos; run this cell to search them"

    def _ipython_display_(self) -> None:
        data, metadata = self._repr_mimebundle_() or ({}, {})
        display(data, metadata=metadata, raw=True)
        self._text_output = display(self._as_text(), raw=True, display_id=True)

    def _as_text(self) -> dict:
        """The hits for those who open the saved notebook without a kernel."""
        title = _escaped(f'{len(self.hits)} moments for "{self.query}"') if self.query else "No search yet"
        lines = []
        for hit in self.hits:
            times = f"{_clock(hit['start'])}-{_clock(hit['end'])}"
            lines.append(f"{hit['rank']:>2}  {_escaped(hit['video'])}  {times}  score {hit['score']:.3f}")
        items = f"<pre>{html.escape(chr(10).join(lines))}</pre>"
        marked = f"<details><summary>As text: {html.escape(title)}</summary>{items}</details>" if self.query else ""
        return {"text/plain": "\n".join([title, *lines]), "text/html": marked}


def _named(files: str) -> Callable[[str], bool]:
    wanted = files.strip().casefold()  # brackets are common in names, so what looks like a pattern may be a part
    return lambda video: wanted in video.casefold() or fnmatch(video.casefold(), wanted)


def _cell(value):
    """Text that Excel and its kin would compute is kept text (OWASP, CSV injection); numbers stay numbers.

    Where semicolons or tabs separate, the quotes around a cell do not hold: a cell may begin after each in the text.
    """
    if not isinstance(value, str):
        return value
    kept = "".join(f"'{part}" if _is_formula(part) else part for part in re.split(r"(?<=[;\t\r\n])", value))
    return f"'{kept}" if kept.startswith(("\t", "\r", "\n")) else kept


def _is_formula(text: str) -> bool:
    """Spreadsheets may pass over whitespace, control and format characters before the sign, and over quotes that close
    at once, and take its full-width form for it."""
    first = next((c for c in text if unicodedata.category(c)[0] not in "CZ" and c != '"'), "")
    return unicodedata.normalize("NFKC", first).startswith(("=", "+", "-", "@"))


def _escaped(text: str) -> str:
    """Control characters, line breaks and changes of direction as `\\x1b`: a terminal would obey them."""
    return "".join(
        c.encode("unicode_escape").decode("ascii")
        if unicodedata.category(c) in CONTROL or unicodedata.bidirectional(c) in DIRECTION
        else c
        for c in text
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
