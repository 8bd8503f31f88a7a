"""Search a folder of videos by text, down to the second.

T seconds of a video, N windows of all videos (32 s every 16 s). Scores are plain dot products: a window's is z_v . z_t
(the paper's similarity, section 3.2), a second's h_v . z_t.
"""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from vclip.data.text import printable
from vclip.neighbours import nearest
from vclip.search.background import SENTENCES
from vclip.search.folder import captions_during, inside, place_of, refuse_missing, state_of, warn_of
from vclip.search.identity import embed_sentences, embed_windows, fingerprint, made_by, named_encoder, sizes
from vclip.search.state import Entry
from vclip.search.store import Store
from vclip.search.update import UpdateReport, update
from vclip.search.windows import Windows, build, moments, read, seconds_of, write


@dataclass(frozen=True)
class Hit:
    """A moment that a text found.

    `video` is the path in the index's folder (printable: use `MomentIndex.file` to open it), `start` and `end` are
    seconds from its start, at most its length, `score` is z_v . z_t of the window around it, `rank` counts from 1.
    `margin` is the score less the best of any other video (NaN if there is none), `quantile` the fraction of 256
    everyday sentences whose best score on this index is lower, 0 to 1. `query` is what was asked, `text` what the
    captions say meanwhile.
    """

    video: str
    start: float
    end: float
    score: float
    rank: int
    margin: float
    quantile: float
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
        date, as `update` does, so a build that was stopped goes on, an index that lost files is mended, and one whose
        folder has moved follows it. A file that cannot be read costs a row of `.report`. Linked folders are entered,
        hidden files and folders are not.
        Raises FileNotFoundError if there is no folder or it holds none of the index's videos, FileExistsError if `path`
        holds something else, PermissionError if nothing can be written there, and ValueError that names the fields if
        model or encoder are not those of the index.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is no folder of videos")
        path = Path(path) if path is not None else folder / ".vclip"
        identity = made_by(model, processor, encoder)
        store = Store.prepare(path, identity, place_of(folder, path))
        index = MomentIndex(store, model, processor, folder, encoder)
        index._update(identity)
        return index

    @staticmethod
    def open(path, model, processor, encoder=None) -> "MomentIndex":
        """The index at `path`, as it is. Raises FileNotFoundError if there is none, ValueError as `build` does."""
        store = Store(path)
        store.check(made_by(model, processor, encoder))
        folder = Path(os.path.normpath(store.path / store.state.folder))
        index = MomentIndex(store, model, processor, folder, encoder)
        with suppress(OSError, ValueError):  # what is lost or damaged can be mended: the first search says so
            index._load()
        return index

    def update(self) -> UpdateReport:
        """Encode new and changed files, forget those that are gone; a row for each, see `vclip.search.update.Change`.

        A video or a file of the index whose size and time are as they were is not read; else its hash tells whether it
        has changed. What the index has lost or finds changed is made again: a FAISS file from the vectors, features and
        vectors from the videos. Of a video that is there but cannot be read the index keeps what it has; one that
        cannot be encoded is tried again when it has changed.
        Raises FileNotFoundError if the folder or every video of the index is gone, RuntimeError if the index is being
        updated elsewhere, PermissionError if it cannot be written, and ValueError if the model, its weights in memory,
        or the encoder are no longer those that made the index.
        """
        return self._update(made_by(self.model, self.processor, self._encoder))

    def search(
        self, text: str, k: int = 10, videos: str | Callable[[str], bool] | None = None, captions: bool = True
    ) -> list[Hit]:
        """At most k moments, best first, no two of which overlap; a window gives its run that stands out.

        `videos` is a pattern ("cooking/*.mp4") or a function of the path: no other is searched, though all count in
        margin and quantile. A video that is gone is left out and one that has changed is kept, with a warning.
        Without `captions` no caption file is read, and no hit has a text.
        Raises ValueError for a text without words, k < 1, weights that have changed since they made the index, a text
        or a video of which the model makes NaN, or a damaged file of the index, FileNotFoundError if the folder or a
        file of the index is gone.
        """
        if not text.strip() or k < 1:
            raise ValueError(f"search takes a text with words and k of at least 1, not {text!r} and {k}")
        hits: list[Hit] = []
        if not len(self):
            return hits
        refuse_missing(self.folder)
        text = printable(text)
        z_t = self._z_t(text)
        windows, states = self._load(), {}
        best, *scores = windows.best_two(z_t)
        ranked = windows.ranked(z_t, self._allowed(videos))
        there = ((w, score) for w, score in ranked if self._is_there(int(windows.video[w]), states))
        for video, start, end, score in islice(moments(self.model, self._store, windows, there, z_t), k):
            entry = self._store.entries[video]
            margin = score - scores[video == best]
            quantile = float(np.mean(self._background < score))
            place = (float(start), min(float(end), entry.duration or float(end)))
            said = captions_during(inside(self.folder, entry.path), *place) if captions else ""
            hits.append(Hit(printable(entry.path), *place, score, len(hits) + 1, margin, quantile, text, said))
        of = {self._store.entries[video].path: what for video, what in sorted(states.items())}
        found = {hit.video for hit in hits}
        warn_of([path for path in of if of[path] == "gone"], "gone since the last update, so left out")
        warn_of([p for p in of if of[p] == "changed" and printable(p) in found], "changed since the last update")
        return hits

    def explain(self, hit: Hit) -> Curve:
        """The scores of all seconds of the hit's video. Raises KeyError if the index no longer holds the video, and
        ValueError as `search` does."""
        entry, z_t = self._entry(hit.video), self._z_t(hit.query)
        scores = seconds_of(self.model, [entry], [self._store.features(entry)])[0] @ z_t
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
            entries, failed, self.report = update(
                self._store, self.folder, self._the_encoder, lambda videos: embed_windows(self.model, videos)
            )
            rows, before = ([(e.shard, e.row) for e in some] for some in (entries, self._store.entries))
            if rows != before or self._is_damaged():
                self._publish(self._store.pack(entries), failed)
                return self.report
            state = self._store.state
            self._store.publish(
                place_of(self.folder, self.path), entries, failed, faiss=state.faiss, background=state.background
            )
            self._read(self._load().index)
        return self.report

    def _publish(self, entries: list[Entry], failed: Sequence[Entry] = ()) -> None:
        background, faiss, index = {"sentences": SENTENCES, "scores": []}, None, None
        if entries:
            index = build([self._store.z_v(entry) for entry in entries])
            z_t = embed_sentences(self.model, self.processor, SENTENCES)
            background["scores"] = sorted(nearest(index, z_t, 1)[0][:, 0].tolist())
            if hasattr(index, "nprobe"):
                file = self.path / self._store.faiss_name()
                write(index, file)
                faiss, index = file.name, read(file, self._store.sign(file).size)
        self._store.publish(place_of(self.folder, self.path), entries, failed, faiss, background)
        self._read(index)

    def _read(self, index=None) -> None:
        """Take over what the store says; `index` is FAISS's, if it is at hand."""
        self._of = {printable(entry.path): i for i, entry in enumerate(self._store.entries)}
        self._background = np.array((self._store.state.background or {}).get("scores", []))
        self._windows = None if index is None else self._windows_of(index)

    def _load(self) -> Windows:
        """The windows of all videos; FAISS's index is read or made when it is first wanted."""
        if self._windows is None:
            state, index = self._store.state, None
            if state.faiss:
                index = read(self.path / Path(state.faiss).name, state.files[state.faiss].size)
            elif self._store.entries:
                index = build([self._store.z_v(entry) for entry in self._store.entries])
            self._windows = self._windows_of(index)
        return self._windows

    def _windows_of(self, index) -> Windows:
        seconds, windows = (np.array([e[i] for e in self._store.entries], np.int64) for i in (4, 5))
        return Windows(index, seconds, windows, *sizes(self.model))

    def _is_damaged(self) -> bool:
        """Whether what is made of the vectors is damaged, or has never been made."""
        state = self._store.state
        if state.background is None or (state.faiss and not self._store.is_whole(state.faiss)):
            return True
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

    def _is_there(self, video: int, states: dict[int, str]) -> bool:
        """`states` takes what became of each video that is asked for."""
        if video not in states:
            entry = self._store.entries[video]
            states[video] = state_of(self.folder, entry.path, (entry.size, entry.mtime))
        return states[video] != "gone"

    def _z_t(self, text: str) -> Float32[np.ndarray, " D"]:
        if fingerprint(self.model) != self._fingerprint:
            raise ValueError(
                "the model's weights have changed since they made the index: load them again, or build another index "
                "under another path"
            )
        return embed_sentences(self.model, self.processor, [text])[0]
