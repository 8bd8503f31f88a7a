"""The retrieval browser: a `MomentIndex` as a search page in JupyterLab and Voila, by widget messages alone."""

import html
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from IPython.display import HTML, display

from vclip.models.windows import count_windows
from vclip.search.hits import Hits, visible
from vclip.search.index import MomentIndex
from vclip.search.playback import thumbnail, whole_or_clip

STATIC = Path(__file__).parent / "static"
# one ES module: the page cannot import from a kernel's disk
SCRIPTS = ("page.js", "player.js", "curve.js", "browser.js")


class Page(anywidget.AnyWidget):
    """A widget whose page asks; what it is answered, a dict for JSON and files, `_done(action, **values)` gives."""

    _done: Callable[..., tuple[dict, list[bytes]]]

    def _answer(self, _widget, message: dict, _buffers) -> None:
        try:
            (answer, buffers), notes = _noted(lambda: self._done(message["action"], **message["values"]))
            self.send({"id": message["id"], "answer": answer | {"notes": notes}}, buffers)
        except Exception as error:  # shown in the page, where a traceback would be lost
            text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
            self.send({"id": message["id"], "error": text or type(error).__name__})


class RetrievalBrowser(Page):
    """A search page for an index: type a sentence, see the moments that match, play them.

    Put it on the last line of a notebook cell. `found` are the hits on the page, `hits` the same as rows for a pandas
    frame, and `tagged` those of all searches that were given a tag there.

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
    searched = traitlets.Dict().tag(sync=True)

    def __init__(self, index: MomentIndex, k: int = 10):
        super().__init__(searched={"videos": len(index)})
        self.index, self.k = index, k
        self.found, self.tagged, self._text_output = Hits(), Hits(), None
        self._first = 0  # the page names a hit by a number, and never sends a path
        self.on_msg(self._answer)

    def search(self, text: Any, files: str = "") -> Hits:
        """Show on the page, and return, at most `k` hits in videos whose path contains `files` in any case; what `text`
        can be, and ValueError, as `MomentIndex.search`."""
        wanted = files.strip().casefold()
        allowed = (lambda video: wanted in video.casefold()) if wanted else None
        found, notes = _noted(lambda: self.index.search(text, self.k, videos=allowed))
        for note in notes:
            warnings.warn(note, stacklevel=2)
        self._first, self.found = self._first + len(self.found), found
        lengths = dict(zip(self.index.videos, self.index.corpus.seconds.tolist(), strict=True))
        within = [seconds for video, seconds in lengths.items() if wanted in video.casefold()]
        windows = int(count_windows(np.array(within, int), *self.index.clip.window).sum())
        about = {"videos": len(within), "seconds": sum(within), "windows": windows, "notes": notes}
        about |= {"liked": not isinstance(text, str)}
        with self.hold_sync():
            self.query = visible(str(text))
            self.hits = found.to_frame().replace({float("nan"): None}).to_dict("records")
            self.searched = about | {"first": self._first, "lengths": [lengths[hit.video] for hit in found]}
        if self._text_output is not None:
            self._text_output.update(self._as_text())
        return found

    def _done(self, action: str, key: int = -1, text: str = "", **values) -> tuple[dict, list[bytes]]:
        if action == "search":
            self.search(text, **values)
            return {}, []
        place = key - self._first
        if not 0 <= place < len(self.found):
            raise KeyError("this moment is from an earlier search: search again")
        hit = self.found[place]
        if action == "like":
            self.search(hit, **values)
        elif action == "explain":
            return {"scores": self.index.explain(replace(hit, query=text or hit.query)).scores.tolist()}, []
        elif action == "tag":
            self.found[place] = tagged = replace(hit, tag=text)
            self.tagged[:] = [other for other in self.tagged if other is not hit] + ([tagged] if text else [])
            self.hits = [*self.hits[:place], self.hits[place] | {"tag": text}, *self.hits[place + 1 :]]
        elif action == "thumbnail":
            return {}, [thumbnail(self.index.file(hit.video), values["time"])]
        else:
            return whole_or_clip(self.index.file(hit.video), **values)
        return {}, []

    def __repr__(self) -> str:
        return f"RetrievalBrowser: {len(self.index)} videos; run this cell to search them"

    def _ipython_display_(self) -> None:
        data, metadata = self._repr_mimebundle_() or ({}, {})
        display(data, metadata=metadata, raw=True)
        self._text_output = display(self._as_text(), display_id=True)

    def _as_text(self) -> HTML:
        """The hits for those who open the saved notebook without a kernel."""
        title = html.escape(f'{len(self.found)} moments for "{self.query}"')
        table = Hits(self.found)._repr_html_()  # without pictures
        return HTML(f'<details class="vclip-as-text"><summary>As text: {title}</summary>{table}</details>')


def _noted(work: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What `work` returns, and what it warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        return work(), [str(warning.message) for warning in caught if warning.category is UserWarning]
