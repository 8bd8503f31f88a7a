"""Search videos, down to the second: T seconds of a video, N windows of all videos (32 s every 16 s).

Scores are plain dot products: z_v . z_t of a window (the paper's similarity, section 3.1), h_v . z_t of a second.
"""

import hashlib
import json
import math
import os
import warnings
import weakref
from collections import namedtuple
from collections.abc import Callable
from contextlib import closing
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32

from vclip.data import storage
from vclip.data.corpus import STORE, Corpus
from vclip.data.extraction import Report, Row, encode, encode_picture, row_of
from vclip.data.feature_store import FeatureStore, writing
from vclip.data.layouts import H5
from vclip.data.text import printable, short
from vclip.data.video_files import VIDEO_SUFFIXES, Files, compare
from vclip.models.dual_encoder import DualEncoder
from vclip.search import playback, vectors
from vclip.search.hits import Hit, Hits

SHORTEST = 2  # seconds of a moment
REACH = 16  # seconds to either side that a moment around one second may take in
# a row for each video that an update changed or could not read; `change` is that of `video_files.compare`
Change = namedtuple("Change", ["video", "change", *Row._fields[1:]])
# h_v . z_t of each second of a video: `seconds` (T,), where each begins, and `scores` (T,)
Curve = namedtuple("Curve", ["seconds", "scores"])


class MomentIndex:
    """Videos that can be searched. Made by `MomentIndex.build`, opened again by `MomentIndex.open`.

    Attributes:
        corpus, videos: their features and captions; their ids, in indexed folders their paths.
        folders: those of videos, at which `update` looks; none for an index of a corpus.
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

    def __init__(self, clip: DualEncoder, path: Path, folders: list[Path]):
        self.clip, self.path, self.folders, self.report = clip, path, folders, Report()
        model = json.dumps(clip.identity, sort_keys=True).encode()
        self._vectors = path / "index" / hashlib.sha256(model).hexdigest()[:16]

    @staticmethod
    def build(clip: DualEncoder, source, path=None) -> "MomentIndex":
        """Index folders of videos, or a corpus of the features that `clip` takes.

        The videos are encoded into a corpus, which can be trained on; what is there is brought up to date as by
        `update`, so a stopped build goes on. Linked folders are entered, hidden ones are not. A corpus is only read.

        Args:
            clip: as `vclip.load` gives it; several models can index one corpus.
            source: a folder of videos or a list of several; a `Corpus`, or the folder of one, such as `extract` makes.
            path: where the corpus of the videos (default: `.vclip` in their one folder) or a corpus' window vectors go
                (default: beside its features). They lie in `index/` there.

        Raises:
            FileNotFoundError: if there is no video, or all that the index knows are gone.
            FileExistsError, RuntimeError: if `path` holds something else; while another process updates the index.
            ValueError: if a path is needed; names the fields in which the features are not those that `clip` takes.
        """
        folders = [] if isinstance(source, Corpus) else source if isinstance(source, list | tuple) else [source]
        folders = [Path(folder).expanduser() for folder in folders]
        kept = [name for name in ("corpus.json", STORE) for folder in folders if (folder / name).is_file()]
        if isinstance(source, Corpus) or (len(folders) == 1 and (kept or folders[0].suffix in H5)):
            corpus = source if isinstance(source, Corpus) else Corpus.open(folders[0])
            if corpus.rate not in (None, 1):
                raise ValueError(f"{corpus} is at another rate: call its export(folder) and index that folder")
            place = corpus.path if corpus.path.is_dir() else corpus.path.with_name(f"{corpus.path.name}.index")
            index = MomentIndex(clip, place if path is None else Path(path).expanduser(), [])
            index.corpus = corpus
        else:
            if not folders or (path is None and (len(folders) > 1 or folders[0].is_file())):
                raise ValueError("name a folder; a file or several folders need path='my_index', where the index goes")
            clip.warn_out_of_domain(folders[0])
            index = MomentIndex(clip, folders[0] / ".vclip" if path is None else Path(path).expanduser(), folders)
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
        index = MomentIndex(clip, path, [])
        corpus = Corpus.open(os.path.normpath(index._vectors / vectors.read_state(index._vectors)["corpus"]))
        clip.check(corpus)
        index._read(corpus)
        return index

    def update(self) -> Report:
        """Encode new and changed files, forget those that are gone, and embed what is new. Returns the new `report`.

        A file whose size and time are as they were is not read; else its hash tells whether it has changed. A file
        that cannot be encoded is tried again when it has changed. Raises as `build`.
        """
        if self.folders:
            self.report = self._encode()
        corpus = Corpus.open(self.path if self.folders else self.corpus.path)
        self.clip.check(corpus)
        vectors.update(self._vectors, corpus, self.clip)
        self._read(corpus)
        return self.report

    def search(self, text: Any, k: int = 10, videos: str | Callable[[str], bool] | None = None) -> Hits:
        """Find at most k moments, best first, none overlapping. A moment is the best run of seconds in a window.

        Args:
            text: a sentence (a str is never a file; a warning names what the model does not read of it); a
                picture: a Path, a PIL image or RGB (H, W, 3) uint8; a clip: the Path of a video or (path, start, end)
                in seconds; or a `Hit`, for other moments like it. Their query vector is the mean of h_v.
            videos: a video, a pattern ("cooking/*.mp4") or a function of the id; margin and zscore still count all.

        Raises:
            ValueError: for a text without words, without a known one, or of which the model makes NaN, or k < 1.
        """
        if (isinstance(text, str) and not text.strip()) or k < 1:
            raise ValueError(f"search takes a text with words and k of at least 1, not {short(text)} and {k}")
        query, hits, w = printable(text) if isinstance(text, str) else text, Hits(), self._windows
        hits.index = weakref.ref(self)
        if w is None:
            return hits
        z = self._vector(query)
        best, first, second = w.best_two(z)
        mean, level, spread = self._background
        own = [query] if isinstance(query, Hit) else []  # a hit is not its own answer
        for window, score in w.ranked(z, self._allowed(videos)):
            i = int(w.video[window])
            video, features = self.videos[i], self.corpus.features(i)
            start, end = moment(self.clip, features, int(w.start[window]), int(w.end[window]), z)
            if any(hit.video == video and start < hit.end and hit.start < end for hit in own + hits):
                continue
            duration = self._files[video].duration if video in self._files else None
            place = (float(start), min(float(end), duration or float(end)))
            margin = score - (second if i == best else first)
            zscore, captions = float((score - z @ mean / 2 - level) / spread), self.corpus.captions(i)
            meanwhile = np.flatnonzero((captions.start < place[1]) & (captions.end > place[0]))
            text = " ".join(captions.text[j] for j in meanwhile)
            said, both = math.nan, self._above_usual(w.vector(window), z)
            if text:
                (z_t,) = self.clip.encode_texts([text])
                said, both = float(z_t @ z), both + self._above_usual(z_t, z)
            hits.append(Hit(video, *place, score, len(hits) + 1, margin, zscore, query, text, said, both))
            if len(hits) == k:
                break
        return hits

    def explain(self, hit: Hit) -> Curve:
        """Score every second of the hit's video; KeyError if the index no longer holds it."""
        features = self.corpus.features(self._position(hit.video))
        scores = self.clip.encode_seconds([features])[0] @ self._vector(hit.query)
        return Curve(np.arange(len(scores)), scores)

    def cut(self, hit: Hit, path: str | Path) -> None:
        """Write a hit to `path`, a .webm file of at most 480 pixels a side; ValueError for another suffix."""
        if Path(path).suffix.lower() != ".webm":
            raise ValueError(f"{path}: a clip is a WebM file; give it the suffix .webm")
        content = playback.clip(self.file(hit.video), hit.start, hit.end)
        storage.replace(Path(path).expanduser(), lambda temporary: temporary.write_bytes(content))

    def file(self, video: str) -> Path:
        """Find a video's file; KeyError for an unknown video, FileNotFoundError if it is gone or not known."""
        self._position(video)
        if video not in self._files or not self._files[video].path:
            raise FileNotFoundError(f"{self.corpus.path} does not say where the file of {video!r} is")
        file = self._where(self._files[video])
        if not file.is_file():
            raise FileNotFoundError(f"{video!r} is no longer in {file.parent}: put it back, or call update()")
        return file

    def __len__(self) -> int:
        return len(self.corpus)

    def __repr__(self) -> str:
        names = ", ".join(place.name for place in self.folders or [self.corpus.path])
        return f"MomentIndex({names!r}: {len(self)} videos, {self.corpus.seconds.sum() / 3600:.1f} h)"

    def _encode(self) -> Report:
        """Bring the corpus of the folders up to date."""
        files = Files(self.folders, self.path, stems=False)
        places = [os.path.join(files.root, os.path.relpath(f.absolute(), files.folder)) for f in self.folders]
        with writing(self.path, self.clip.spec or self.clip.encoder.spec) as store:
            if store.meta["folder"] is None and store.entries:
                raise FileExistsError(f"{self.path} is a corpus that extract made: index that, or pass another path")
            before = dict(store.entries)
            todo, changes = compare(store, files, list(files.videos), forget=True)
            if store.meta["folder"] != places:
                store.remember(folder=places)
            if todo:
                self.clip.encoder.spec.check(store.spec, "the model")
                encode(store, files, todo, self.clip.encoder, "index", len(files.videos))
            store.finish()
            entries = before | store.entries
            return Report(Change(v, changes[v][0], *row_of(entries[v], changes)[1:]) for v in sorted(changes))

    def _read(self, corpus: Corpus) -> None:
        """Load the windows of a corpus, and what its store says of its files."""
        self._windows, self._background = vectors.load(self._vectors, corpus, self.clip)
        self.corpus, self.videos, self._files = corpus, corpus.video_ids, {}
        if (corpus.path / STORE).is_file():
            with closing(FeatureStore(corpus.path)) as store:
                self._files, self._where, places = store.entries, store.file, store.meta["folder"] or []
            if corpus.path == self.path:
                places = [places] if isinstance(places, str) else places  # an index of one folder, before several
                self.folders = [Path(os.path.normpath(self.path / place)) for place in places]

    def _position(self, video: str) -> int:
        if video not in self.corpus:
            raise KeyError(f"{video!r} is not in the index (any more): search again")
        return self.corpus.index(video)

    def _allowed(self, videos: str | Callable[[str], bool] | None) -> Bool[np.ndarray, " N"] | None:
        if videos is None or self._windows is None:
            return None
        keep = videos if callable(videos) else lambda video: video == videos or fnmatchcase(video, videos)
        return np.array([bool(keep(video)) for video in self.videos], bool)[self._windows.video]

    def _vector(self, query: Any) -> Float32[np.ndarray, " D"]:
        """z_t of a sentence, or the mean of h_v over the seconds of a picture or a clip."""
        if isinstance(query, str):
            _check_words(query, self.clip)
            h_v = self.clip.encode_texts([query])
        elif isinstance(query, tuple):
            h_v = self.clip.encode_video(*query)
        elif isinstance(query, Hit):
            features = self.corpus.features(self._position(query.video))
            (h_v,) = self.clip.encode_seconds([features[int(query.start) : math.ceil(query.end)]])
        elif isinstance(query, Path) and query.suffix.lower() in VIDEO_SUFFIXES:
            h_v = self.clip.encode_video(query)
        else:
            (h_v,) = self.clip.encode_seconds([encode_picture(query, self.clip.encoder)])
        if not np.isfinite(h_v).all():
            raise ValueError(f"the model makes NaN or infinity of the query {short(query)}: {vectors.WHY_NAN}")
        return h_v.mean(axis=0)

    _usual = cached_property(lambda self: self.clip.encode_texts(vectors.SENTENCES))  # (S, D)

    def _above_usual(self, z: Float32[np.ndarray, " D"], query: Float32[np.ndarray, " D"]) -> float:
        """z . query in standard deviations above the scores of the everyday sentences."""
        scores = self._usual @ z
        return float((z @ query - scores.mean()) / max(scores.std(), 1e-6))


def moment(clip: DualEncoder, features: np.ndarray, first: int, last: int, z_t: np.ndarray) -> tuple[int, int]:
    """Start and end of what stands out in the window from `first` to `last` of a video."""
    # its neighbours are embedded with it: then its seconds have the scores that `explain` shows
    reach = clip.window[1] if clip.longest_clip > 1 else REACH
    begin = max(0, first - reach)
    scores = clip.encode_seconds([features[begin : last + reach]])[0] @ z_t
    if clip.longest_clip == 1:  # a window is a second: the moment around it
        start, end = standing_out(scores, around=first - begin)
        return begin + start, begin + end
    start, end = standing_out(scores[first - begin : last - begin])
    return first + start, first + end


def standing_out(scores: Float[np.ndarray, " T"], around: int | None = None) -> tuple[int, int]:
    """Start and end of the run of seconds that stands out: the first with the largest sum of scores - mean - sd / 2.

    It has at least `SHORTEST` seconds (or all there are), and holds the second `around` if that is given. On
    MiniHowTo's val videos it was the best of ten label-free rules: mean IoU 0.72 with the 284 steps.
    """
    x = scores.astype(np.float64)
    total = np.concatenate([[0.0], np.cumsum(x - x.mean() - x.std() / 2)])
    sums = total[None, :] - total[:, None]
    length = np.arange(len(total))[None, :] - np.arange(len(total))[:, None]
    sums[length < min(SHORTEST, len(x))] = -np.inf
    if around is not None:
        sums[around + 1 :] = sums[:, : around + 1] = -np.inf
    start, end = np.unravel_index(np.argmax(sums), sums.shape)
    return int(start), int(end)


def _check_words(text: str, clip: Any) -> None:
    """Refuse a text of unknown tokens alone; warn of those of any other, and of an end that is cut off."""
    shorter = text.rsplit(maxsplit=1)[0]
    if 60 < len(shorter) < len(text) and np.allclose(*clip.encode_texts([text, shorter]), rtol=0, atol=1e-5):
        warnings.warn(f"the query is too long: the model does not read its end, '...{text[-20:]}'", stacklevel=4)
    if getattr(clip.tokenizer, "unk_token_id", None) is None:
        return
    tokens = clip.tokenizer(text, add_special_tokens=False)["input_ids"]
    unknown = tokens.count(clip.tokenizer.unk_token_id)
    if unknown == len(tokens):
        raise ValueError(f"the model knows no word of {text!r}: search in the language that it was trained on")
    if unknown:
        warnings.warn(f"{unknown} of {len(tokens)} tokens of {text!r} are unknown to the model", stacklevel=4)
