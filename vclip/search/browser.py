"""The retrieval browser: a `MomentIndex` as a search page in JupyterLab and Voila.

Page and Python talk by widget messages, so it works behind any server and for videos anywhere on disk. Pictures and
clips are sent when they are shown; the notebook saves text alone: the query, the hits, and a list of them.
"""

import html
import math
from dataclasses import asdict
from itertools import count
from pathlib import Path

import anywidget
import pandas as pd
import traitlets
from IPython.display import display

from vclip.search.hits import Hit, visible
from vclip.search.index import MomentIndex
from vclip.search.playback import clip, thumbnail

STATIC = Path(__file__).parent / "static"
SCRIPTS = ("player.js", "curve.js", "browser.js")  # one ES module: the page cannot import from a kernel's disk
LONGEST = 60  # seconds of a clip: encoding takes about a tenth of that


class RetrievalBrowser(anywidget.AnyWidget):
    """A search page for an index: type a sentence, see the moments that match, play them.

    Put it on the last line of a notebook cell. A hit plays from its start to its end; below it is the score of every
    second, on which a click seeks. Arrow keys move between hits, Enter plays one. The hits on the page are `hits`, rows
    for a pandas frame.

    Args:
        k: the largest number of hits of a search.

    Example:
        >>> import shutil, tempfile, vclip
        >>> folder = tempfile.mkdtemp()
        >>> _ = shutil.copy(vclip.minihowto() / "videos" / "test0000.mp4", folder)
        >>> browser = RetrievalBrowser(vclip.load(vclip.minihowto() / "checkpoint").index(folder))
        >>> browser.search("stir the soup")[0].video
        'test0000.mp4'
    """

    _esm = "\n".join((STATIC / name).read_text(encoding="utf-8") for name in SCRIPTS)
    _css = (STATIC / "browser.css").read_text(encoding="utf-8")
    query = traitlets.Unicode().tag(sync=True)
    hits = traitlets.List().tag(sync=True)
    videos = traitlets.Int().tag(sync=True)

    def __init__(self, index: MomentIndex, k: int = 10):
        super().__init__(videos=len(index))
        self.index, self.k = index, k
        self._known: dict[int, Hit] = {}  # the page names a hit by its key and never sends a path
        self._keys, self._text_output = count(), None
        self.on_msg(self._answer)

    def search(self, text: str, files: str = "") -> list[Hit]:
        """Show on the page, and return, at most `k` hits, best first; ValueError as `MomentIndex.search`.

        Args:
            files: search only videos whose path contains this, in any case.
        """
        wanted = files.strip().casefold()
        found = self.index.search(text, self.k, videos=(lambda video: wanted in video.casefold()) if wanted else None)
        self._known = {next(self._keys): hit for hit in found}
        with self.hold_sync():
            self.query, self.hits, self.videos = text, self._rows(), len(self.index)
        if self._text_output is not None:
            self._text_output.update(self._as_text(), raw=True)
        return found

    def _answer(self, _widget, message: dict, _buffers) -> None:
        try:
            answer, buffers = self._done(message["action"], **message["values"])
            self.send({"id": message["id"], "answer": answer}, buffers)
        except Exception as error:  # shown in the page, where a traceback would be lost
            text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
            self.send({"id": message["id"], "error": text or type(error).__name__})

    def _done(self, action: str, key: int = -1, **values) -> tuple[dict, list[bytes]]:
        """What the page asked for: an answer, and files to go with it."""
        if action == "search":
            self.search(**values)
            return {}, []
        if key not in self._known:
            raise KeyError("this moment is from an earlier search: search again")
        hit = self._known[key]
        if action == "explain":
            return {"scores": self.index.explain(hit).scores.tolist()}, []
        file = self.index.file(hit.video)
        if action == "thumbnail":
            return {}, [thumbnail(file, (hit.start + hit.end) / 2)]
        return {}, [clip(file, values["start"], min(values["end"], values["start"] + LONGEST))]

    def _rows(self) -> list[dict]:
        """Hits as JSON, None for NaN, each with its `key` and the length of its video in `seconds`."""
        seconds = dict(zip(self.index.videos, self.index.corpus.seconds.tolist(), strict=True))
        rows = [asdict(hit) | {"key": key, "seconds": seconds[hit.video]} for key, hit in self._known.items()]
        return [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()} for row in rows]

    def __repr__(self) -> str:
        return f"RetrievalBrowser: {self.videos} videos; run this cell to search them"

    def _ipython_display_(self) -> None:
        data, metadata = self._repr_mimebundle_() or ({}, {})
        display(data, metadata=metadata, raw=True)
        self._text_output = display(self._as_text(), raw=True, display_id=True)

    def _as_text(self) -> dict:
        """The hits for those who open the saved notebook without a kernel."""
        if not self.query:
            return {"text/plain": "No search yet", "text/html": ""}
        title = visible(f'{len(self.hits)} moments for "{self.query}"')
        hits = [hit | {"video": visible(hit["video"])} for hit in self.hits]
        rows = pd.DataFrame(hits, columns=["rank", "video", "start", "end", "score"])
        text = f"{title}\n{rows.to_string(index=False, float_format='%.3f')}" if hits else title
        marked = f"<details><summary>As text: {html.escape(title)}</summary><pre>{html.escape(text)}</pre></details>"
        return {"text/plain": text, "text/html": marked}
