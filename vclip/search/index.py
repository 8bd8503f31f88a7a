"""Search videos by text, down to the second: T seconds of a video, N windows of all videos (32 s every 16 s).

Scores are plain dot products: z_v . z_t of a window (the paper's similarity, section 3.1), h_v . z_t of a second.
"""

import os
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from tqdm.auto import tqdm

from vclip.data.corpus import STORE, Corpus
from vclip.data.extraction import Report, encode, row_of
from vclip.data.feature_store import FeatureStore, writing
from vclip.data.layouts import H5
from vclip.data.text import printable
from vclip.data.video_files import Files, compare
from vclip.models.dual_encoder import DualEncoder
from vclip.models.windows import sliding_windows
from vclip.search import vectors


@dataclass(frozen=True)
class Hit:
    """A moment that a text found.

    Attributes:
        video: its id in the corpus; in an indexed folder its path there. `MomentIndex.file` opens it.
        start, end: seconds from the video's start; the end is at most the video's length.
        score: z_v . z_t of the window around it.
        rank: counts from 1.
        margin: the score minus the best of any other video (NaN if there is none).
        quantile: the fraction, 0 to 1, of 256 everyday sentences whose best score on this index is lower.
        query, text: what was asked, and what the captions say meanwhile.

    Example:
        >>> Hit("a.mp4", 2.0, 7.0, 31.5, 1, 4.2, 0.99, "peel the carrot", "now we peel").end
        7.0
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


class Change(NamedTuple):
    """A video that an update changed or could not read: `change` as in `video_files.compare`, the rest as `Row`."""

    video: str
    change: str
    seconds: int
    status: str
    error: str


class MomentIndex:
    """Videos that can be searched. Made by `MomentIndex.build`, opened again by `MomentIndex.open`.

    Attributes:
        corpus: their features and captions.
        folder: the folder of videos that `update` looks at; None for an index of a corpus.
        path: where the index is, for `open`.
        report: what the last update did, a `Change` for each video that is not as it was.

    Example:
        >>> import tempfile, vclip
        >>> clip = vclip.load(vclip.minihowto() / "checkpoint")
        >>> index = vclip.MomentIndex.build(clip, vclip.minihowto() / "val", tempfile.mkdtemp())
        >>> len(index.search("fry the cactus", k=3))
        3
    """

    corpus: Corpus
    _windows: vectors.Windows | None

    def __init__(self, clip: DualEncoder, path: Path, folder: Path | None = None):
        self.clip, self.path, self.folder, self.report = clip, path, folder, Report()
        self._vectors = vectors.index_folder(path, clip)

    @staticmethod
    def build(clip: DualEncoder, source, path=None) -> "MomentIndex":
        """Index a folder of videos, or a corpus of the features that `clip` takes.

        A folder's videos are encoded into a corpus, which can be trained on; what is there is brought up to date as by
        `update`, so a stopped build goes on. Linked folders are entered, hidden ones are not. A corpus is only read.

        Args:
            clip: as `vclip.load` gives it; several models can index one corpus.
            source: a folder of videos, a `Corpus`, or the folder of one, such as `extract` makes.
            path: where a folder's corpus (default: `.vclip` in it) or a corpus' window vectors go (default: beside its
                features). They lie in `index/` there.

        Raises:
            FileNotFoundError: if there is no video, or all that the index knows are gone.
            FileExistsError, RuntimeError: if `path` holds something else; while another process updates the index.
            ValueError: names the fields in which the features are not those that `clip` takes.
        """
        if not isinstance(source, Corpus) and not _is_corpus(folder := Path(source).expanduser()):
            if folder.is_file():
                raise NotADirectoryError(f"{folder} is one file: index its folder, or score it by clip.encode_video")
            clip.warn_out_of_domain(folder)
            index = MomentIndex(clip, folder / ".vclip" if path is None else Path(path).expanduser(), folder)
        else:
            corpus = source if isinstance(source, Corpus) else Corpus.open(source)
            if corpus.rate not in (None, 1):
                raise ValueError(f"{corpus} has a rate, which no index records: index what its export writes")
            place = corpus.path if corpus.path.is_dir() else corpus.path.with_name(f"{corpus.path.name}.index")
            index = MomentIndex(clip, place if path is None else Path(path).expanduser())
            index.corpus = corpus
        index.update()
        return index

    @staticmethod
    def open(path, clip: DualEncoder) -> "MomentIndex":
        """Open the index at `path`, as it is.

        Raises:
            FileNotFoundError, ValueError: if there is none by this model; if it is damaged or out of date (`build` it).
        """
        path = Path(path).expanduser()
        path = path / ".vclip" if (path / ".vclip").is_dir() else path
        index = MomentIndex(clip, path)
        corpus = Corpus.open(path) if _is_corpus(path) else vectors.corpus_of(index._vectors)
        clip.check(corpus)
        index._read(corpus)
        return index

    def update(self) -> Report:
        """Encode new and changed files, forget those that are gone, and embed what is new. Returns the new `report`.

        A file whose size and time are as they were is not read; else its hash tells whether it has changed. A file
        that cannot be encoded is tried again when it has changed. Raises as `build`.
        """
        if self.folder is not None:
            self.report = self._encode(self.folder)
        corpus = Corpus.open(self.path) if self.folder else Corpus.open(self.corpus.path, self.corpus.split)
        self.clip.check(corpus)
        vectors.update(self._vectors, corpus, self.clip)
        self._read(corpus)
        return self.report

    def search(self, text: str, k: int = 10, videos: str | Callable[[str], bool] | None = None) -> list[Hit]:
        """Find at most k moments, best first, none overlapping. A moment is the best run of seconds in a window.

        Args:
            videos: a video, a pattern ("cooking/*.mp4") or a function of the id: no other is searched, though all count
                in margin and quantile.

        Warns:
            if half of the text's tokens or more are unknown to the model, such as words of another language.

        Raises:
            ValueError: for a text without words, without a known one, or of which the model makes NaN, or k < 1.
        """
        if not text.strip() or k < 1:
            raise ValueError(f"search takes a text with words and k of at least 1, not {text!r} and {k}")
        hits: list[Hit] = []
        if self._windows is None:
            return hits
        text = printable(text)
        _check_words(text, self.clip.tokenizer)
        z_t = self.clip.encode_texts([text])[0]
        if not np.isfinite(z_t).all():
            raise ValueError(f"the model makes NaN or infinity of the text {text!r}: {vectors.WHY_NAN}")
        best, first, second = self._windows.best_two(z_t)
        ranked = self._windows.ranked(z_t, self._allowed(videos))
        for i, start, end, score in islice(self._windows.moments(self.clip, self.corpus, ranked, z_t), k):
            video = self.videos[i]
            duration = self._files[video].duration if video in self._files else None
            place = (float(start), min(float(end), duration or float(end)))
            margin = score - (second if i == best else first)
            quantile = float(np.mean(self._background < score))
            hits.append(Hit(video, *place, score, len(hits) + 1, margin, quantile, text, self._said(i, *place)))
        return hits

    def explain(self, hit: Hit) -> Curve:
        """Score every second of the hit's video; KeyError if the index no longer holds it."""
        z_t = self.clip.encode_texts([hit.query])[0]
        scores = self.clip.encode_seconds([self.corpus.features(self._position(hit.video))])[0] @ z_t
        return Curve(np.arange(len(scores)), scores)

    def file(self, video: str) -> Path:
        """Find a video's file; KeyError for an unknown video, FileNotFoundError if it is gone or not known."""
        self._position(video)
        if video not in self._files or not self._files[video].path:
            raise FileNotFoundError(f"{self.corpus.path} does not say where the file of {video!r} is")
        file = self._where(self._files[video])
        if not file.is_file():
            raise FileNotFoundError(f"{video!r} is no longer in {file.parent}: put it back, or call update()")
        return file

    @property
    def videos(self) -> list[str]:
        """The ids of all videos; in an indexed folder their paths."""
        return self.corpus.video_ids

    @property
    def seconds(self) -> list[int]:
        """How many seconds each video has, a begun one counted."""
        return self.corpus.seconds.tolist()

    def __len__(self) -> int:
        return len(self.corpus)

    def __repr__(self) -> str:
        windows = sum(len(sliding_windows(n, *self.clip.window)) for n in self.seconds)
        name = (self.folder or self.corpus.path).name
        return f"MomentIndex({name!r}: {len(self)} videos, {sum(self.seconds) / 3600:.1f} h, {windows} windows)"

    def _encode(self, folder: Path) -> Report:
        """Bring the corpus of a folder up to date."""
        files = Files(folder, self.path, stems=False)
        with writing(self.path, self.clip.spec or self.clip.encoder.spec) as store:
            if store.meta["folder"] is None and store.entries:
                raise FileExistsError(f"{self.path} is a corpus that extract made: index that, or pass another path")
            before = dict(store.entries)
            todo, changes = compare(store, files, list(files.videos), forget=True)
            if store.meta["folder"] != files.root:
                store.remember(folder=files.root)
            if todo:
                self.clip.encoder.spec.check(store.spec, "the model")
                encode(store, files, tqdm(todo, desc="index", unit="video"), self.clip.encoder)
            store.finish()
            entries = before | store.entries
            rows = [row_of(entries[video], changes) for video in sorted(changes)]
            return Report(Change(row.video, changes[row.video][0], *row[1:]) for row in rows)

    def _read(self, corpus: Corpus) -> None:
        """Load the windows of a corpus, and what its store says of its files."""
        self._windows, self._background = vectors.load(self._vectors, corpus, self.clip)
        self.corpus, self._files = corpus, {}
        if (corpus.path / STORE).is_file():
            with closing(FeatureStore(corpus.path)) as store:
                self._files, self._where, place = store.entries, store.file, store.meta["folder"]
            if place is not None and corpus.path == self.path:
                self.folder = Path(os.path.normpath(self.path / place))

    def _position(self, video: str) -> int:
        if video not in self.corpus:
            raise KeyError(f"{video!r} is not in the index (any more): search again")
        return self.corpus.index(video)

    def _allowed(self, videos: str | Callable[[str], bool] | None) -> Bool[np.ndarray, " N"] | None:
        if videos is None or self._windows is None:
            return None
        keep = videos if callable(videos) else lambda video: video == videos or fnmatchcase(video, videos)
        return np.array([bool(keep(video)) for video in self.videos], bool)[self._windows.video]

    def _said(self, i: int, start: float, end: float) -> str:
        """What the captions say meanwhile."""
        captions = self.corpus.captions(i)
        return " ".join(captions.text[j] for j in np.flatnonzero((captions.start < end) & (captions.end > start)))


def _check_words(text: str, tokenizer: Any) -> None:
    """Refuse a text of unknown tokens alone, and warn where they are half of it or more."""
    if getattr(tokenizer, "unk_token_id", None) is None:
        return
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    unknown = tokens.count(tokenizer.unk_token_id)
    if unknown == len(tokens):
        raise ValueError(f"the model knows no word of {text!r}: search in the language that it was trained on")
    if 2 * unknown >= len(tokens):
        warnings.warn(f"{unknown} of {len(tokens)} tokens of {text!r} are unknown to the model", stacklevel=3)


def _is_corpus(folder: Path) -> bool:
    return folder.suffix in H5 or any((folder / name).is_file() for name in ("corpus.json", STORE))
