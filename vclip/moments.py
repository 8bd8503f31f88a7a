"""Search a folder of videos by text, down to the second.

T seconds of a video, W windows of it (32 s every 16 s), N windows of all videos, D hidden size. Scores are plain dot
products: a window's is z_v . z_t (the paper's, section 3.2), a second's h_v . z_t.
"""

import fnmatch
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from vclip import moment_windows
from vclip.background import SENTENCES
from vclip.captions import deduplicate, read_captions
from vclip.corpus import FeatureSpec, vocabulary_hash
from vclip.embedding import embed_texts, embed_videos
from vclip.extraction import find_captions
from vclip.moment_store import Entry, Store
from vclip.moment_update import UpdateReport, shown, update
from vclip.projection import weights_hash
from vclip.tasks.windows import SIZE, STEP, embed_seconds, sliding_windows

SHORTEST = 2  # seconds of a moment


@dataclass(frozen=True)
class Hit:
    """A moment that a text found.

    `video` is the path in the index's folder (printable: use `MomentIndex.file` to open it), `start` and `end` are
    seconds from its start, `score` is z_v . z_t of the window around it, `rank` counts from 1. `margin` is the score
    less the best of any other video (NaN if there is none), `percentile` the share of 256 everyday sentences whose
    best score on this index is lower, 0 to 1. `query` is what was asked, `text` what the captions say meanwhile.
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

    `videos` are the paths in the folder, `seconds` their lengths, `report` what the last update did.
    """

    def __init__(self, store: Store, model, processor, folder: Path, encoder=None):
        self.model, self.processor, self.folder, self.path = model, processor, folder, store.path
        self._store, self._encoder = store, encoder
        self.report = UpdateReport()
        self._read()

    @staticmethod
    def build(model, processor, folder, encoder=None, path=None) -> "MomentIndex":
        """Index every video of `folder` in `path` (`.vclip` in the folder unless given).

        `encoder` None is the one that `model.config.feature_spec` names. What `path` holds already is brought up to
        date, so a build that was stopped goes on. A file that cannot be read costs a row of `.report`.
        Raises FileNotFoundError if there is no folder, FileExistsError if `path` holds something else, and ValueError
        that names the fields if model, encoder or folder are not those of the index.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is no folder of videos")
        path = Path(path) if path is not None else folder / ".vclip"
        made_by = _made_by(model, processor, encoder) | {"folder": _place(folder, path)}
        index = MomentIndex(Store.prepare(path, made_by), model, processor, folder, encoder)
        index.update()
        return index

    @staticmethod
    def open(path, model, processor, encoder=None) -> "MomentIndex":
        """The index at `path`, as it is. Raises FileNotFoundError if there is none, ValueError as `build` does."""
        store = Store(path)
        store.check(_made_by(model, processor, encoder))
        return MomentIndex(store, model, processor, store.path / store.made_by["folder"], encoder)

    def update(self) -> UpdateReport:
        """Encode new and changed files, forget those that are gone; one row for each.

        Raises FileNotFoundError if the folder is gone, RuntimeError if another process updates the index.
        """
        with self._store.lock():
            self._store.read()
            entries, self.report = update(self._store, self.folder, self._the_encoder, self._embed)
            if entries != self._store.entries or "background" not in self._store.state:
                self._publish(self._store.pack(entries))
        self._read()
        return self.report

    def search(self, text: str, k: int = 10, videos: str | Callable[[str], bool] | None = None) -> list[Hit]:
        """At most k moments, best first, no two of which overlap.

        `videos` is a pattern ("cooking/*.mp4") or a function of the path; others are not searched, but they count in
        margin and percentile. A video that is gone is left out, with a warning; so is one that has changed not.
        Raises ValueError for a text without words or k < 1.
        """
        if not text.strip() or k < 1:
            raise ValueError(f"search takes a text and k of at least 1, not {text!r} and {k}")
        z_t = embed_texts(self.model, self.processor, [text])
        hits: list[Hit] = []
        for entry, start, end, score in self._moments(z_t, self._allowed(videos)):
            if self._is_gone(entry):
                continue
            margin = score - self._best_outside(z_t, entry)
            percentile = float(np.mean(self._background < score))
            said = self._said(entry, start, end)
            place = (shown(entry.path), float(start), float(end))
            hits.append(Hit(*place, score, len(hits) + 1, margin, percentile, text, said))
            if len(hits) == k:
                break
        return hits

    def explain(self, hit: Hit) -> Curve:
        """The scores of all seconds of the hit's video. Raises KeyError if the index no longer holds the video."""
        z_t = embed_texts(self.model, self.processor, [hit.query])[0]
        scores = self._states([self._store.features(self._entry(hit.video))])[0] @ z_t
        return Curve(np.arange(len(scores)), scores)

    @property
    def videos(self) -> list[str]:
        return [shown(entry.path) for entry in self._store.entries]

    @property
    def seconds(self) -> list[int]:
        return [entry.seconds for entry in self._store.entries]

    def __len__(self) -> int:
        return len(self._store.entries)

    def __repr__(self) -> str:
        hours = sum(self.seconds) / 3600
        return f"MomentIndex({self.folder.name!r}: {len(self)} videos, {hours:.1f} h, {len(self._owner)} windows)"

    def file(self, video: str) -> Path:
        """The file of a video. Raises KeyError if it is not in the index, FileNotFoundError if it is gone since."""
        path = Path(os.path.abspath(self.folder / self._entry(video).path))
        if not path.is_relative_to(os.path.abspath(self.folder)):
            raise KeyError(f"{video!r} leads out of {self.folder}: this index was tampered with")
        if not path.is_file():
            raise FileNotFoundError(f"{video!r} is no longer in {self.folder}: call update()")
        return path

    def _publish(self, entries: list[Entry]) -> None:
        blocks = [self._store.z_v(entry) for entry in entries]
        state: dict = {"faiss": None, "background": {"sentences": SENTENCES, "scores": []}}
        if blocks:
            index = moment_windows.build(blocks)
            z_t = embed_texts(self.model, self.processor, SENTENCES)
            state["background"]["scores"] = sorted(moment_windows.nearest(index, z_t, 1)[0][:, 0].tolist())
            if hasattr(index, "nprobe"):
                state["faiss"] = f"windows-{max(entry.shard for entry in entries):05d}.faiss"
                moment_windows.write(index, self.path / state["faiss"])
        self._store.publish(entries, **state)

    def _read(self) -> None:
        entries, state = self._store.entries, self._store.state
        spans = [sliding_windows(entry.seconds, *self._sizes) for entry in entries]
        self._of = {shown(entry.path): i for i, entry in enumerate(entries)}
        self._owner = np.repeat(np.arange(len(entries)), [len(s) for s in spans])
        self._span = np.array([span for s in spans for span in s], np.int64).reshape(-1, 2)
        self._background = np.array(state.get("background", {}).get("scores", []))
        self._faiss = None
        if entries and state.get("faiss"):
            self._faiss = moment_windows.read(self.path / Path(state["faiss"]).name)
        elif entries:
            self._faiss = moment_windows.build([self._store.z_v(entry) for entry in entries])

    @property
    def _sizes(self) -> tuple[int, int]:
        size = min(SIZE, self.model.config.max_video_tokens)
        return size, max(1, min(STEP, size // 2))

    def _the_encoder(self):
        if self._encoder is None:
            self._encoder = _named_encoder(self.model)
        return self._encoder

    def _embed(self, features: np.ndarray) -> np.ndarray:
        return embed_videos(
            self.model, [features[slice(*span)] for span in sliding_windows(len(features), *self._sizes)]
        )

    def _states(self, clips: list[np.ndarray]) -> list[np.ndarray]:
        return embed_seconds(self.model, [clip.astype(np.float32) for clip in clips], *self._sizes)

    def _entry(self, video: str) -> Entry:
        if video not in self._of:
            raise KeyError(f"{video!r} is not in the index (any more): search again")
        return self._store.entries[self._of[video]]

    def _allowed(self, videos: str | Callable[[str], bool] | None) -> Bool[np.ndarray, " N"] | None:
        if videos is None:
            return None
        keep = videos if callable(videos) else lambda video: fnmatch.fnmatchcase(video, videos)
        return np.array([bool(keep(video)) for video in self.videos], bool)[self._owner]

    def _moments(self, z_t: np.ndarray, allowed: np.ndarray | None) -> Iterator[tuple[Entry, int, int, float]]:
        """Entry, start, end and score: the run that stands out in each window, best window first, none overlapping."""
        total, done, n = len(self._owner) if allowed is None else int(allowed.sum()), 0, 64
        taken: dict[int, list[tuple[int, int]]] = {}
        while done < total:
            scores, found = moment_windows.nearest(self._faiss, z_t, min(n, total), allowed)
            windows, scores = found[0][found[0] >= 0][done:], scores[0][done:]
            for first in range(0, len(windows), 8):
                group = windows[first : first + 8]
                for w, (start, end), score in zip(group, self._runs(z_t[0], group), scores[first:], strict=False):
                    runs = taken.setdefault(int(self._owner[w]), [])
                    if all(end <= a or b <= start for a, b in runs):
                        runs.append((start, end))
                        yield self._store.entries[self._owner[w]], start, end, float(score)
            done, n = min(n, total), 4 * n

    def _runs(self, z_t: np.ndarray, windows: np.ndarray) -> list[tuple[int, int]]:
        """Start and end, in seconds of the video, of the run that stands out in each window.

        The windows beside one are read too: then its seconds have the states that `explain` shows.
        """
        step = self._sizes[1]
        clips, before = [], []
        for w in windows:
            start, end = self._span[w]
            before.append(min(step, start))
            clips.append(self._store.features(self._store.entries[self._owner[w]])[start - before[-1] : end + step])
        runs = []
        for w, states, skip in zip(windows, self._states(clips), before, strict=True):
            start, end = self._span[w]
            first, last = standing_out(states[skip : skip + end - start] @ z_t)
            runs.append((int(start + first), int(start + last)))
        return runs

    def _best_outside(self, z_t: np.ndarray, entry: Entry) -> float:
        own, n = self._of[shown(entry.path)], 64
        while True:
            scores, found = moment_windows.nearest(self._faiss, z_t, min(n, len(self._owner)))
            others = (found[0] >= 0) & (self._owner[found[0]] != own)
            if others.any():
                return float(scores[0][np.argmax(others)])
            if n >= len(self._owner):
                return float("nan")
            n *= 4

    def _is_gone(self, entry: Entry) -> bool:
        try:
            found = os.stat(self.folder / entry.path)
        except OSError:
            warnings.warn(f"{shown(entry.path)!r} is gone, its moments are left out: call update()", stacklevel=3)
            return True
        if (found.st_size, found.st_mtime_ns) != (entry.size, entry.mtime):
            warnings.warn(f"{shown(entry.path)!r} has changed since it was indexed: call update()", stacklevel=3)
        return False

    def _said(self, entry: Entry, start: int, end: int) -> str:
        """The captions beside the video that overlap start:end; none if they cannot be read."""
        try:
            file = find_captions(self.folder / entry.path)
            captions = deduplicate(read_captions(file)) if file is not None else None
        except (OSError, ValueError):
            return ""
        if captions is None:
            return ""
        during = (captions.start < end) & (captions.end > start)
        return " ".join(captions.text[i] for i in np.flatnonzero(during))


def standing_out(scores: Float[np.ndarray, " T"], shortest: int = SHORTEST) -> tuple[int, int]:
    """Start and end of the run of seconds that stands out: the largest sum of what exceeds the middle between the
    lowest and the highest score, of at least `shortest` seconds (or all there are). Of equals the first."""
    excess = scores.astype(np.float64) - (float(scores.min()) + float(scores.max())) / 2
    total = np.concatenate([[0.0], np.cumsum(excess)])
    sums = total[None, :] - total[:, None]
    length = np.arange(len(total))[None, :] - np.arange(len(total))[:, None]
    sums[length < min(shortest, len(scores))] = -np.inf
    start, end = np.unravel_index(np.argmax(sums), sums.shape)
    return int(start), int(end)


def _named_encoder(model):
    from vclip.encoders import from_spec

    spec = model.config.feature_spec
    if spec is None:
        raise ValueError("the model's config names no feature_spec: give the encoder that its features were made with")
    # a projection's matrix lies in the checkpoint's folder or beside it
    checkpoint = Path(model.name_or_path)
    beside = (folder for folder in (checkpoint, checkpoint.parent) if (folder / "projection.safetensors").is_file())
    return from_spec(spec, next(beside, checkpoint))


def _made_by(model, processor, encoder) -> dict:
    """What an index depends on, by name. Raises ValueError if encoder and model do not fit."""
    config = model.config
    expected = config.feature_spec
    if encoder is None and expected is None:
        raise ValueError("the model's config names no feature_spec: give the encoder that its features were made with")
    if isinstance(expected, dict):
        expected = FeatureSpec.read(expected, "the model")
    if encoder is not None and expected is not None:
        encoder.spec.check(expected, "the model")
    spec = encoder.spec if encoder is not None else expected
    if spec.dim != config.video_feature_dim:
        raise ValueError(f"the encoder makes features of dim {spec.dim}, the model takes {config.video_feature_dim}")
    names = ("pooling", "max_video_tokens", "max_text_tokens")
    return asdict(spec) | {
        "model weights": weights_hash(model.state_dict()),
        "vocabulary": vocabulary_hash(processor.tokenizer),
        **{f"model {name}": getattr(config, name) for name in names},
    }


def _place(folder: Path, path: Path) -> str:
    """Where the videos are, seen from the index: relative if it lies inside, so that both can be moved."""
    folder, path = folder.resolve(), path.resolve()
    return os.path.relpath(folder, path) if path.is_relative_to(folder) else str(folder)
