"""Features and captions of many videos on disk, memory-mapped. A corpus is a folder::

    corpus.json                 FeatureSpec, split, licence
    videos.parquet              video_id, seconds, shard, row, media (the file's path in its folder, if known)
    captions.parquet            video_id, start, end, text; once tokenized input_ids too, and the tokenizer's name
    features-00000.safetensors  `features` (sum of T, F) float16 and `starts` (videos + 1,) int64

and `store.sqlite` (`vclip.data.feature_store`) if it was made from video files: what became of each.
N videos, M captions of all videos, T seconds of one video, F feature size.
"""

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from tqdm.auto import tqdm

from vclip.data import layouts, storage
from vclip.data.captions import Captions
from vclip.data.spec import FeatureSpec, vocabulary_hash
from vclip.data.text import refuse_unknown

# opening a file is slow: HowTo100M's 6,500 shards stay open, and two corpora fit Linux's vm.max_map_count (65,530)
FILES_OPEN = 30_000
ROWS_AT_ONCE = 2**14  # captions; their tokens, as the tokenizer gives them, take 70 MB
STORE = "store.sqlite"


class Video(NamedTuple):
    """A video of a corpus: `features` (T, F) float16, one a second."""

    video_id: str
    features: np.ndarray
    captions: Captions


class Corpus:
    """N videos: features a second and timed captions. Made by `Corpus.create`, read by `Corpus.open`.

    It has `video_ids`, `spec`, `split`, `licence`, `rate`, `media` (paths of the videos' files, or None) and arrays:
    `seconds` (N,) int64; `caption_offsets` (N + 1,) int64: video i owns captions offsets[i]:offsets[i + 1];
    `caption_start`, `caption_end` (M,) float64, seconds; `caption_text`, M strings as an Arrow array, read when used.
    `corpus["id"]` is a `Video`, and iteration gives all of them, as `create` takes them.

    Example:
        >>> import vclip
        >>> corpus = vclip.Corpus.open(vclip.minihowto() / "val")
        >>> corpus.features(0).shape, corpus.captions(0).text[0]
        ((62, 128), "today we're doing pirate dish")
    """

    def __init__(self, path, meta: dict, videos: pa.Table, captions: Any, blocks: Any, rate: float | None = None):
        """`captions`: a table that `storage` opens. `blocks`: each shard's file (rows, F), that `layouts` reads."""
        self.path, self.rate = Path(path), rate
        self.spec, self.split, self.licence = (meta.get(name) for name in ("spec", "split", "licence"))
        self.video_ids: list[str] = videos["video_id"].to_pylist()
        self.media: list[str | None] = videos["media"].to_pylist()
        self.seconds = videos["seconds"].to_numpy()
        self._shard, self.first_row = videos["shard"].to_numpy(), videos["row"].to_numpy()
        self._blocks: Any = blocks
        self._read: Callable[[Any], np.ndarray] = lru_cache(FILES_OPEN)(layouts.read_rows)
        self._checked = np.zeros(len(videos), dtype=bool)  # whose features were, when they were first read
        self._index = {video_id: i for i, video_id in enumerate(self.video_ids)}
        if twice := [video_id for i, video_id in enumerate(self.video_ids) if self._index[video_id] != i]:
            raise ValueError(f"{path}: video id {twice[0]!r} occurs twice: ids must be unique")
        self._set_captions(captions, meta.get("tokenizer"))
        if rate is not None and not rate > 0:
            raise ValueError(f"rate is the number of features a second, above 0, not {rate}")
        if rate not in (None, 1):  # arrays of one feature a second, one a video, in place of the files
            self._blocks = [layouts.one_a_second(self.features(i), rate) for i in range(len(self))]
            self._read = np.asarray
            self._shard, self.first_row = np.arange(len(self)), np.zeros(len(self), np.int64)
            self.seconds = np.array([len(block) for block in self._blocks], np.int64)

    @staticmethod
    def create(
        path,
        spec: FeatureSpec,
        videos: Iterable[tuple[str, np.ndarray, Captions | None]],
        split: str | None = None,
        licence: str | None = None,
    ) -> "Corpus":
        """Write a corpus into the new folder `path`, all or nothing, and open it.

        Args:
            videos: (video_id, features (T, F), captions or None), each read when it is its turn.
            split, licence: of the videos, such as "train" and "CC0".

        Raises:
            FileExistsError: if `path` holds something.
            ValueError: names the id, if it is not new, or its features are not finite (T > 0, spec.dim) of float16.

        Example:
            >>> import tempfile
            >>> spec = FeatureSpec("mine", "0" * 16, 1, 8, "centre", "none", "mean", None, 4)
            >>> said = Captions([0], [2], ["stir the soup"])
            >>> Corpus.create(tempfile.mkdtemp(), spec, [("a", np.ones((3, 4)), said)]).features(0).shape
            (3, 4)
        """
        rows: list[tuple] = []
        with storage.new_folder(path) as making:
            meta = {"spec": asdict(spec), "split": split, "licence": licence, "tokenizer": None}
            said = storage.write_shards(making, videos, spec.dim, rows)
            some = iter(lambda: list(islice(said, storage.VIDEOS_AT_ONCE)), [])
            storage.write_tables(making, rows, map(storage.captions_table, some), meta)
        return Corpus.open(path)

    @staticmethod
    def open(path, *, rate: float | None = None) -> "Corpus":
        """Open a corpus, or features of another tool. Corpora and `<id>.npy` are mapped, not copied.

        Args:
            path: a corpus; a folder of `<id>.npy`, .npz, .pt or .pth with an array (T, F) each, or of one .h5 file with
                a dataset (T, F) a video. A video's captions are the file of its id beside it.
            rate: features a second, if not 1. They are made one a second in memory: the mean of those that begin in it,
                at a rate below 1 the one valid at its middle. `export` writes these.

        Raises:
            ValueError: names the file that is damaged, or does not hold one array of floats.
            ImportError: for an .h5 file without h5py.
        """
        path = Path(path).expanduser()
        if not (path / "corpus.json").is_file():
            if (path / STORE).is_file():
                raise FileNotFoundError(f"{path} is not finished: call extract or MomentIndex.build again to go on")
            return Corpus(path, {}, *layouts.read(path), rate)
        with storage.reading(file := path / "corpus.json"):
            meta = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(meta, dict) or not isinstance(meta.get("tokenizer"), dict | None):
                raise ValueError("expected an object with spec, split and licence")
        meta["spec"] = FeatureSpec.read(meta.get("spec"), file)
        videos, files = storage.read_videos(path, meta["spec"].dim)
        return Corpus(path, meta, videos, path / "captions.parquet", files, rate)

    def __len__(self) -> int:
        return len(self.video_ids)

    def __getitem__(self, video_id: str) -> Video:
        i = self.index(video_id)
        return Video(self.video_ids[i], self.features(i), self.captions(i))

    def __iter__(self) -> Iterator[Video]:
        return map(self.__getitem__, self.video_ids)

    def __contains__(self, video_id: str) -> bool:
        return self._find(video_id) is not None

    def __repr__(self) -> str:
        hours = self.seconds.sum() / 3600
        return f"Corpus({self.path.name!r}: {len(self)} videos, {hours:.1f} h, {len(self.caption_start)} captions)"

    def index(self, video_id: str) -> int:
        """The place of a video, named with or without a video suffix: DiDeMo's ids are file names, extract's stems."""
        if (found := self._find(video_id)) is None:
            raise KeyError(video_id)
        return found

    def _find(self, video_id: str) -> int | None:
        if video_id in self._index:
            return self._index[video_id]
        from vclip.data.video_files import VIDEO_SUFFIXES  # which imports this module

        suffixes = ("", ".", ".3g2", *VIDEO_SUFFIXES)  # of Flickr's names, DiDeMo's ids, some end in a dot
        stem, dot, suffix = video_id.rpartition(".")
        stem = stem if dot + suffix.lower() in suffixes else video_id
        found = [self._index[stem + suffix] for suffix in suffixes if stem + suffix in self._index]
        return found[0] if len(found) == 1 else None

    def features(self, i: int) -> np.ndarray:
        """(T, F) float16, a view of the mapped file (a copy where another tool stored float32)."""
        i = range(len(self))[i]  # as in a list, from its end too
        self._check_new(np.array([i]))
        return self._rows(i).astype(np.float16, copy=False)

    def show(self, video_id: str, videos: str | Path | None = None) -> Any:
        """A `Scrubber` of a video and its captions, of these alone if its file is neither in the folder `videos` nor
        where `extract` or `MomentIndex.build` read it; KeyError for an unknown video."""
        import vclip

        return vclip.Scrubber.of_corpus(self, video_id, videos)

    @property
    def dim(self) -> int:
        return self.spec.dim if self.spec is not None else self._block(0).shape[1]

    def captions(self, i: int) -> Captions:
        i = range(len(self))[i]
        first, last = self.caption_offsets[i], self.caption_offsets[i + 1]
        text = self.caption_text[first:last].to_pylist()
        return Captions(self.caption_start[first:last], self.caption_end[first:last], text)

    @cached_property
    def caption_text(self) -> pa.ChunkedArray:
        with storage.reading(self._table):
            texts = self._captions.read(["text"])["text"].cast(pa.string())
            if texts.validate(full=True) or len(texts) != len(self.caption_start):  # `validate` raises, or returns None
                raise ValueError("texts are missing")
            return texts

    def gather_features(
        self, videos: np.ndarray, starts: np.ndarray, ends: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Seconds `starts`:`ends` of B clips laid end to end: rows (sum of lengths, F) float16 and lengths (B,)."""
        self._check_new(videos)
        first, last = self.first_row[videos] + starts, self.first_row[videos] + ends
        shards = self._shard[videos].tolist()
        blocks = {shard: self._block(shard) for shard in set(shards)}
        for video in np.unique(videos):  # the disk is asked for all clips at once
            own = videos == video
            storage.read_ahead(blocks[self._shard[video]][first[own].min() : last[own].max()])
        clips = [blocks[s][begin:end] for s, begin, end in zip(shards, first.tolist(), last.tolist(), strict=True)]
        clips.append(np.empty((0, self.dim), np.float16))
        return np.concatenate(clips, dtype=np.float16, casting="same_kind"), ends - starts

    def export(self, folder, kind: Literal["npy", "h5"] = "npy") -> Path:
        """Write the features, float32, into the new `folder` for other tools, all or nothing; captions are left out.

        Args:
            kind: `<id>.npy`, or one features.h5 with a dataset a video. "_" stands for what no file name may hold.

        Raises:
            FileExistsError, ValueError: if `folder` holds something; if two ids make one name.

        Example:
            >>> import tempfile, vclip
            >>> folder = vclip.Corpus.open(vclip.minihowto() / "val").export(tempfile.mkdtemp())
            >>> len(list(folder.glob("*.npy")))
            64
        """
        refuse_unknown([kind], ("npy", "h5"), "kind of features")
        names = [re.sub(r'^\.|[\x00-\x1f\x7f/\\:*?"<>|]', "_", video_id) for video_id in self.video_ids]
        if len(set(names)) < len(names):
            raise ValueError(f"{self.path}: two ids differ only in characters that no file name may hold: rename one")
        rows = ((name, self.features(i).astype(np.float32)) for i, name in enumerate(names))
        with storage.new_folder(folder) as making:
            if kind == "h5":
                with layouts.open_h5(making / "features.h5", "w") as file:
                    file.update(rows)
            for name, features in rows:
                np.save(making / f"{name}.npy", features)
        return Path(folder).expanduser()

    @property
    def token_offsets(self) -> np.ndarray:
        """(M + 1,) int64: the tokens of caption j are token_ids[offsets[j]:offsets[j + 1]]."""
        return self._token_table()[0]

    @property
    def token_ids(self) -> np.ndarray:
        """(tokens of all captions,) int32, without special tokens."""
        return self._token_table()[1]

    def tokenize(self, tokenizer) -> "Corpus":
        """Add each caption's tokens to the table on disk: of 96 characters, 32 tokens (how2processor.py:859-882).

        Where the folder cannot be written, or is another tool's, only this object has them.
        """
        named = {"name": Path(tokenizer.name_or_path).name, "vocabulary": vocabulary_hash(tokenizer)}
        if (self.tokenizer or {}).get("vocabulary") == named["vocabulary"]:
            return self

        def tokenized() -> Iterator[pa.Table]:
            for rows in tqdm(self._columns(storage.CAPTIONS), desc="tokenize", total=total, delay=10, leave=False):
                texts = [text[:96] for text in rows["text"].fill_null("").to_pylist()]
                ids = [row[:32] for row in tokenizer(texts, add_special_tokens=False)["input_ids"]]
                yield pa.Table.from_batches([rows]).append_column(storage.TOKENS, pa.array(ids, storage.TOKENS.type))

        own = (self.path / "corpus.json").is_file()
        ours = own and os.access(self.path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
        total = -(-len(self.caption_start) // ROWS_AT_ONCE)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as elsewhere:
            file = (self.path if ours else Path(elsewhere)) / "captions.parquet"
            schema = storage.CAPTIONS.append(storage.TOKENS).with_metadata({"tokenizer": json.dumps(named)})
            storage.write_table(file, schema, tokenized())
            self._captions, self._tokens, self.tokenizer = storage.open_table(file), None, named
        return self

    def check(self, config) -> None:
        """Refuse a model whose config names another FeatureSpec (ValueError naming the field); None accepts any."""
        expected = getattr(config, "feature_spec", None)
        if expected is not None and self.spec is not None:
            expected = FeatureSpec.read(expected, "the model") if isinstance(expected, dict) else expected
            self.spec.check(expected, "the model")

    def by_file(self) -> dict[Path, np.ndarray]:
        """The videos of each features file, in the order of its rows."""
        order = np.lexsort((self.first_row, self._shard))
        shards, first = np.unique(self._shard[order], return_index=True)
        return {self._blocks[s]: videos for s, videos in zip(shards, np.split(order, first[1:]), strict=False)}

    def _set_captions(self, file: Any, tokenizer: dict | None) -> None:
        """Captions in the order of the videos, as all that writes them does."""
        self._table = file if isinstance(file, Path) else self.path
        with storage.reading(self._table):
            # stays open: if another table takes its name, texts are still those of these times
            self._captions = storage.open_table(file)
            schema = self._captions.schema_arrow
            named = (schema.metadata or {}).get(b"tokenizer", json.dumps(tokenizer))
            self.tokenizer = json.loads(named) if storage.TOKENS.name in schema.names else None
            names, start, end = self._captions.read(["video_id", "start", "end"]).select(["video_id", "start", "end"])
            ids: Any = names.cast(pa.dictionary(pa.int32(), pa.string())).combine_chunks()
            owner = np.array([self._index.get(name, -1) for name in ids.dictionary.to_pylist()], np.int32)[ids.indices]
            if names.null_count or (owner[:1] < 0).any() or (owner[1:] < owner[:-1]).any():
                raise ValueError("captions are not in the order of the videos")
            self.caption_offsets = np.searchsorted(owner, np.arange(len(self) + 1)).astype(np.int64)
            self.caption_start, self.caption_end = (x.cast(pa.float64()).to_numpy() for x in (start, end))
            if len(bad := np.flatnonzero(~np.isfinite(self.caption_start + self.caption_end))):
                raise ValueError(f"the times of row {bad[0]} are not finite")
        self._tokens: tuple[np.ndarray, np.ndarray] | None = None

    def _columns(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """These columns of the captions, some rows at a time."""
        with storage.reading(self._table):
            for rows in self._captions.iter_batches(ROWS_AT_ONCE, columns=schema.names):
                yield rows.select(schema.names).cast(schema)

    def _token_table(self) -> tuple[np.ndarray, np.ndarray]:
        if self._tokens is None:
            if storage.TOKENS.name not in self._captions.schema_arrow.names:
                raise ValueError(f"{self.path} has no tokens yet: call corpus.tokenize(tokenizer) once")
            lengths, ids = [np.zeros(1, np.int64)], bytearray()  # which grows without a copy
            for (rows,) in self._columns(pa.schema([storage.TOKENS])):
                lengths.append(rows.value_lengths().fill_null(-1).to_numpy())
                ids += rows.flatten().fill_null(-1).to_numpy().data
            offsets, ids = np.cumsum(np.concatenate(lengths)), np.frombuffer(ids, np.int32)
            if not storage.divides(offsets, len(ids)) or ids.min(initial=0) < 0:
                raise ValueError(f"{self._table}: a caption lacks its tokens: copy the table again")
            self._tokens = offsets, ids
        return self._tokens

    def _block(self, shard: int) -> np.ndarray:
        return self._read(self._blocks[shard])

    def _rows(self, i: int) -> np.ndarray:
        return self._block(self._shard[i])[self.first_row[i] : self.first_row[i] + self.seconds[i]]

    def _check_new(self, videos: np.ndarray) -> None:
        for i in np.unique(videos[~self._checked[videos]]):
            with storage.reading(self._blocks[self._shard[i]]):
                storage.check_features(self.video_ids[i], self._rows(i), self.dim)
            self._checked[i] = True
