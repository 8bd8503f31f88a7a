"""Search a folder of videos by text, down to the second.

T seconds of a video, N windows of all videos (32 s every 16 s). Scores are plain dot products: a window's is z_v . z_t
(the paper's similarity, section 3.2), a second's h_v . z_t.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from vclip.moments.background import SENTENCES
from vclip.moments.files import captions_during, inside, is_there, place_of
from vclip.moments.model import (
    embed_each_second,
    embed_sentences,
    embed_windows,
    fingerprint,
    made_by,
    named_encoder,
    sizes,
)
from vclip.moments.store import Entry, Store
from vclip.moments.update import UpdateReport, update
from vclip.moments.windows import Windows, build, read, standing_out, write
from vclip.names import printable
from vclip.neighbours import nearest

AT_ONCE = 8  # windows looked into together


@dataclass(frozen=True)
class Hit:
    """A moment that a text found.

    `video` is the path in the index's folder (printable: use `MomentIndex.file` to open it), `start` and `end` are
    seconds from its start, at most its length, `score` is z_v . z_t of the window around it, `rank` counts from 1.
    `margin` is the score less the best of any other video (NaN if there is none), `percentile` the share of 256
    everyday sentences whose best score on this index is lower, 0 to 1. `query` is what was asked, `text` what the
    captions say meanwhile.
    """

    video: str
    start: float
    end: float
    score: float
    rank: int
    margin: float
    percentile: float
    query: str
    text: str


class Curve(NamedTuple):
    """h_v . z_t of each second of a video: `seconds` (T,), where each begins, and `scores` (T,)."""

    seconds: Int[np.ndarray, " T"]
    scores: Float[np.ndarray, " T"]


class MomentIndex:
    """A folder of videos that can be searched. Made by `MomentIndex.build`, opened again by `MomentIndex.open`.

    `videos` are the paths in `folder`, `seconds` how many each has, a begun one counted, `report` what the
    last update did.
    """

    def __init__(self, store: Store, model, processor, folder: Path, encoder=None):
        self.model, self.processor, self.folder, self.path = model, processor, folder, store.path
        self.report = UpdateReport()
        self._store, self._encoder, self._fingerprint = store, encoder, fingerprint(model)
        self._read()

    @staticmethod
    def build(model, processor, folder, encoder=None, path=None) -> "MomentIndex":
        """Index every video of `folder` in `path`, `.vclip` in the folder unless given.

        `encoder` None is the one that `model.config.feature_spec` names. What `path` holds already is brought up to
        date, so a build that was stopped goes on and an index that lost files is mended. A file that cannot be read
        costs a row of `.report`. Linked folders are entered, hidden files and folders are not.
        Raises FileNotFoundError if there is no folder, FileExistsError if `path` holds something else,
        PermissionError if nothing can be written there, and ValueError that names the fields if model, encoder or
        folder are not those of the index.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is no folder of videos")
        path = Path(path) if path is not None else folder / ".vclip"
        identity = made_by(model, processor, encoder)
        store = Store.prepare(path, identity | {"folder": place_of(folder, path)})
        index = MomentIndex(store, model, processor, folder, encoder)
        index._update(identity)
        return index

    @staticmethod
    def open(path, model, processor, encoder=None) -> "MomentIndex":
        """The index at `path`, as it is. Raises FileNotFoundError if there is none, ValueError as `build` does."""
        store = Store(path)
        store.check(made_by(model, processor, encoder))
        folder = Path(os.path.normpath(store.path / store.made_by["folder"]))
        index = MomentIndex(store, model, processor, folder, encoder)
        with suppress(OSError, ValueError):  # what is lost or damaged can be mended: the first search says so
            index._load()
        return index

    def update(self) -> UpdateReport:
        """Encode new and changed files, forget those that are gone; a row for each, see `vclip.moments.update.Change`.

        What the index lost is made again: a FAISS file from the vectors, features and vectors from the videos.
        Raises FileNotFoundError if the folder is gone, RuntimeError if the index is being updated elsewhere,
        PermissionError if it cannot be written, and ValueError if the model, its weights in memory, or the encoder
        are no longer those that made the index.
        """
        return self._update(made_by(self.model, self.processor, self._encoder))

    def search(
        self, text: str, k: int = 10, videos: str | Callable[[str], bool] | None = None, captions: bool = True
    ) -> list[Hit]:
        """At most k moments, best first, no two of which overlap; a window gives its run that stands out.

        `videos` is a pattern ("cooking/*.mp4") or a function of the path: no other is searched, though all count in
        margin and percentile. A video that is gone is left out and one that has changed is kept, with a warning.
        Without `captions` no caption file is read, and no hit has a text.
        Raises ValueError for a text without words, k < 1, weights that have changed since they made the index, a text
        of which the model makes NaN, or a damaged file of the index, FileNotFoundError if a file of the index is gone.
        """
        if not text.strip() or k < 1:
            raise ValueError(f"search takes a text with words and k of at least 1, not {text!r} and {k}")
        hits: list[Hit] = []
        if not len(self):
            return hits
        text = printable(text)
        z_t = self._z_t(text)
        best, *scores = self._load().best_two(z_t)
        there: dict[int, bool] = {}
        for video, start, end, score in self._moments(z_t, self._allowed(videos)):
            entry = self._store.entries[video]
            if video not in there:
                there[video] = is_there(self.folder, entry.path, (entry.size, entry.mtime))
            if there[video]:
                margin = score - scores[video == best]
                percentile = float(np.mean(self._background < score))
                place = (float(start), min(float(end), entry.duration or float(end)))
                said = captions_during(inside(self.folder, entry.path), *place) if captions else ""
                place = (printable(entry.path), *place, score)
                hits.append(Hit(*place, len(hits) + 1, margin, percentile, text, said))
            if len(hits) == k:
                break
        return hits

    def explain(self, hit: Hit) -> Curve:
        """The scores of all seconds of the hit's video. Raises KeyError if the index no longer holds the video."""
        z_t = self._z_t(hit.query)
        scores = embed_each_second(self.model, [self._store.features(self._entry(hit.video))])[0] @ z_t
        return Curve(np.arange(len(scores)), scores)

    def file(self, video: str) -> Path:
        """The file of a video. Raises KeyError if it is not in the index, ValueError if it leads out of the folder,
        FileNotFoundError if it is gone since."""
        file = inside(self.folder, self._entry(video).path)
        if not file.is_file():
            raise FileNotFoundError(f"{video!r} is no longer in {self.folder}: call update()")
        return file

    @property
    def videos(self) -> list[str]:
        return [printable(entry.path) for entry in self._store.entries]

    @property
    def seconds(self) -> list[int]:
        return [entry.seconds for entry in self._store.entries]

    def __len__(self) -> int:
        return len(self._store.entries)

    def __repr__(self) -> str:
        hours = sum(self.seconds) / 3600
        windows = sum(entry.windows for entry in self._store.entries)
        return f"MomentIndex({self.folder.name!r}: {len(self)} videos, {hours:.1f} h, {windows} windows)"

    def _update(self, identity: dict) -> UpdateReport:
        with self._store.lock():
            self._store.read()
            self._read()
            self._store.check(identity)
            self._fingerprint = fingerprint(self.model)
            entries, self.report = update(
                self._store, self.folder, self._the_encoder, lambda videos: embed_windows(self.model, videos)
            )
            if entries != self._store.entries or "background" not in self._store.state or self._is_damaged():
                self._publish(self._store.pack(entries))
        return self.report

    def _publish(self, entries: list[Entry]) -> None:
        state: dict = {"faiss": None, "background": {"sentences": SENTENCES, "scores": []}}
        index = None
        if entries:
            index = build([self._store.z_v(entry) for entry in entries])
            z_t = embed_sentences(self.model, self.processor, SENTENCES)
            state["background"]["scores"] = sorted(nearest(index, z_t, 1)[0][:, 0].tolist())
            if hasattr(index, "nprobe"):
                state["faiss"] = self._store.faiss_name()
                state["faiss_bytes"] = write(index, self.path / state["faiss"])
                index = read(self.path / state["faiss"], state["faiss_bytes"])
        self._store.publish(entries, **state)
        self._read(index)

    def _read(self, index=None) -> None:
        """Take over what the store says; `index` is FAISS's, if it is at hand."""
        self._of = {printable(entry.path): i for i, entry in enumerate(self._store.entries)}
        self._background = np.array(self._store.state.get("background", {}).get("scores", []))
        self._windows = None if index is None else self._windows_of(index)

    def _load(self) -> Windows:
        """The windows of all videos; FAISS's index is read or made when it is first wanted."""
        if self._windows is None:
            state, index = self._store.state, None
            if state.get("faiss"):
                index = read(self.path / Path(state["faiss"]).name, state.get("faiss_bytes", 0))
            elif self._store.entries:
                index = build([self._store.z_v(entry) for entry in self._store.entries])
            self._windows = self._windows_of(index)
        return self._windows

    def _windows_of(self, index) -> Windows:
        seconds, windows = (np.array([e[i] for e in self._store.entries], np.int64) for i in (4, 5))
        return Windows(index, seconds, windows, *sizes(self.model))

    def _is_damaged(self) -> bool:
        try:
            self._load()
        except (OSError, ValueError):
            return True
        return False

    def _the_encoder(self):
        if self._encoder is None:
            self._encoder = named_encoder(self.model)
        return self._encoder

    def _entry(self, video: str) -> Entry:
        if video not in self._of:
            raise KeyError(f"{video!r} is not in the index (any more): search again")
        return self._store.entries[self._of[video]]

    def _allowed(self, videos: str | Callable[[str], bool] | None) -> Bool[np.ndarray, " N"] | None:
        if videos is None:
            return None
        keep = videos if callable(videos) else lambda video: fnmatchcase(video, videos)
        return np.array([bool(keep(video)) for video in self.videos], bool)[self._load().video]

    def _moments(
        self, z_t: Float32[np.ndarray, " D"], allowed: Bool[np.ndarray, " N"] | None
    ) -> Iterator[tuple[int, int, int, float]]:
        """Video, start, end and score of each window's run, best first; one that overlaps a better one is left out."""
        taken: dict[int, list[tuple[int, int]]] = {}
        windows = self._load()
        ranked = windows.ranked(z_t, allowed)
        while group := list(islice(ranked, AT_ONCE)):
            runs = self._runs(z_t, [window for window, _ in group])
            for (window, score), (start, end) in zip(group, runs, strict=True):
                video = int(windows.video[window])
                others = taken.setdefault(video, [])
                if all(end <= a or b <= start for a, b in others):
                    others.append((start, end))
                    yield video, start, end, score

    def _runs(self, z_t: Float32[np.ndarray, " D"], windows: list[int]) -> list[tuple[int, int]]:
        """Start and end, in seconds of the video, of the run that stands out in each window.

        Its neighbours are embedded with a window: then its seconds have the scores that `explain` shows.
        """
        at, step = self._load(), sizes(self.model)[1]
        first = [max(0, int(at.start[w]) - step) for w in windows]
        clips = [
            self._store.features(self._store.entries[at.video[w]])[f : at.end[w] + step]
            for w, f in zip(windows, first, strict=True)
        ]
        runs = []
        for w, f, h_v in zip(windows, first, embed_each_second(self.model, clips), strict=True):
            start, end = standing_out(h_v[at.start[w] - f : at.end[w] - f] @ z_t)
            runs.append((int(at.start[w]) + start, int(at.start[w]) + end))
        return runs

    def _z_t(self, text: str) -> Float32[np.ndarray, " D"]:
        if fingerprint(self.model) != self._fingerprint:
            raise ValueError(
                "the model's weights have changed since they made the index: load them again, or build another index "
                "under another path"
            )
        return embed_sentences(self.model, self.processor, [text])[0]
