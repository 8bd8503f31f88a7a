"""The scrubber: a video, scores of its seconds, bands of labels and captions on one time axis, to drag along."""

import io
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import traitlets
from PIL import Image

from vclip import plots
from vclip.data.captions import Captions
from vclip.data.corpus import STORE, Corpus
from vclip.data.feature_store import FeatureStore
from vclip.data.video_files import find_videos
from vclip.search.browser import STATIC, Page
from vclip.search.hits import visible
from vclip.search.playback import pictures, whole_or_clip

SCRIPTS = ("page.js", "curve.js", "player.js", "scrubber.js")
MOST_PICTURES, SIDE = 60, 160  # of one video, and pixels: a JPEG of 200 kB


class Scrubber(Page):
    """A video's pictures, curves, bands and captions on one time axis: drag or click to go to a second.

    A stored notebook keeps the picture that `plots.timeline` draws of the same arguments.

    Args:
        seconds: length of the time axis.
        video: the video's file, which plays; None: `shown` are the pictures.
        shown: second -> RGB picture (H, W, 3) uint8, for a video whose file is not at hand.
        curves: name -> scores (T,) of its seconds.
        bands: name -> segments (text, start, end), in seconds; a text has the same colour in every band.
        captions: what is said.
        threshold: a line across the curves.
        start: second from which it plays at once; None: it waits for a click.

    Example:
        >>> import vclip
        >>> video = vclip.minihowto() / "videos" / "test0000.mp4"
        >>> Scrubber(62, video, curves={"fry": [0.5] * 62})
        Scrubber: 62 s; run this cell to see it
    """

    _esm = "\n".join((STATIC / name).read_text(encoding="utf-8") for name in SCRIPTS)
    _css = "\n".join((STATIC / name).read_text(encoding="utf-8") for name in ("browser.css", "scrubber.css"))
    content = traitlets.Dict().tag(sync=True)
    strip = traitlets.Bytes().tag(sync=True)

    def __init__(
        self,
        seconds: float,
        video: str | Path | None = None,
        shown: Mapping[float, np.ndarray] | None = None,
        curves: Mapping[str, Sequence[float] | np.ndarray] | None = None,
        bands: Mapping[str, Sequence[tuple[str, float, float]]] | None = None,
        captions: Captions | None = None,
        threshold: float | None = None,
        start: float | None = None,
    ):
        if video is not None and shown is None:
            times = np.linspace(0, seconds, min(MOST_PICTURES, max(1, int(seconds))), endpoint=False).tolist()
            shown = dict(zip(times, pictures(video, times, SIDE), strict=True))
        curves, bands, shown = curves or {}, bands or {}, dict(sorted((shown or {}).items())[:MOST_PICTURES])
        if not all(np.isfinite(np.asarray(scores, float)).all() for scores in curves.values()):
            raise ValueError("the scores of a curve must be finite: leave out or replace NaN and infinity")
        self.video = video if video is None else Path(video)
        self.figure = plots.timeline(seconds, shown, curves, bands, captions, threshold)
        strip, size = _side_by_side(list(shown.values()))
        said = captions or Captions(np.zeros(0), np.zeros(0), [])
        content = {
            "seconds": float(seconds),
            "video": None if self.video is None else visible(self.video.name),
            "start": None if start is None else float(start),
            "times": [float(time) for time in shown],
            "size": size,
            "threshold": None if threshold is None else float(threshold),
            "colours": plots.colours_of(curves, bands),
            "curves": [(name, np.asarray(scores, float).tolist()) for name, scores in curves.items()],
            "bands": [(name, [(text, float(a), float(b)) for text, a, b in spans]) for name, spans in bands.items()],
            "captions": list(zip(said.start.tolist(), said.end.tolist(), said.text, strict=True)),
        }
        super().__init__(content=content, strip=strip)
        self.on_msg(self._answer)

    @classmethod
    def of_corpus(cls, corpus: Corpus, video_id: str, videos: str | Path | None) -> "Scrubber":
        """What `Corpus.show` gives."""
        i = corpus.index(video_id)
        files = {} if videos is None else find_videos(videos)[0] | find_videos(videos, stems=False)[0]
        file = files.get(video_id := corpus.video_ids[i])
        if file is None and (corpus.path / STORE).is_file():
            with closing(FeatureStore(corpus.path)) as store:
                file = store.file(store.entries[video_id])
        return cls(int(corpus.seconds[i]), file if file and file.is_file() else None, captions=corpus.captions(i))

    def _done(self, action: str, **values) -> tuple[dict, list[bytes]]:
        return whole_or_clip(Path(self.video or ""), **values)

    def __repr__(self) -> str:
        return f"Scrubber: {self.content['seconds']:.0f} s; run this cell to see it"

    def _repr_mimebundle_(self, **options):
        """The widget, and the picture that a page without a kernel shows."""
        data, metadata = super()._repr_mimebundle_(**options) or ({}, {})
        file = io.BytesIO()
        self.figure.savefig(file, format="png", dpi=80)
        return data | {"text/plain": repr(self), "image/png": file.getvalue()}, metadata


def _side_by_side(shown: Sequence[np.ndarray]) -> tuple[bytes, tuple[int, int]]:
    """One JPEG of all pictures in a row, and the width and height of one."""
    if not shown:
        return b"", (0, 0)
    height, width = (max(1, round(side * min(1, SIDE / max(shown[0].shape)))) for side in shown[0].shape[:2])
    row = [np.asarray(Image.fromarray(picture).resize((width, height))) for picture in shown]
    file = io.BytesIO()
    Image.fromarray(np.concatenate(row, axis=1)).save(file, "jpeg", quality=75)
    return file.getvalue(), (width, height)
