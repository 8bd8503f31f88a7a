"""The window vectors z_v of a corpus by one model, kept beside its features; all of it can be made again.

An index is a folder::

    index.json                  the model's identity, the corpus, content of the files, scores of everyday sentences
    vectors-00000.safetensors   of the videos in features-00000: `first_row` (N,) there, `starts` (N + 1,), `z_v`
                                (sum of W, D) float32, and `keys` (N, 32), the SHA-256 of each video's features
    windows.faiss               the FAISS index, of large indexes only

Shapes: N videos of one file, T seconds and W windows of a video, F feature size, D hidden size.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32
from safetensors.numpy import save_file
from tqdm.auto import tqdm

from vclip.data import storage
from vclip.data.corpus import Corpus
from vclip.data.feature_store import Content, content_of, still
from vclip.models.dual_encoder import DualEncoder
from vclip.models.windows import sliding_windows
from vclip.neighbours import nearest
from vclip.search import windows
from vclip.search.background import SENTENCES

INDEX, FAISS = "index.json", "windows.faiss"
REMEDY = "call update(), which makes it again"


def index_folder(corpus: Corpus, identity: dict) -> Path:
    """Where the index of a corpus by one model lies, unless it was put elsewhere."""
    return corpus.path / "index" / hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def read_index(path: Path) -> dict[str, Any]:
    """Read index.json.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged, or of an older vclip.
    """
    try:
        state = json.loads((path / INDEX).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} holds no index: make one with MomentIndex.build") from None
    except ValueError as error:
        raise ValueError(f"{path / INDEX} is damaged ({error}): delete {path} and build again") from None
    if not isinstance(state, dict) or "identity" not in state:
        raise ValueError(f"{path} was made by an older vclip: delete it and build again")
    return state


class Vectors:
    """The index of `corpus` in the folder `path`, made if need be; `background` are the scores of 256 sentences.

    Raises ValueError that names the fields if another model made it, FileExistsError if `path` holds something else.
    """

    def __init__(self, path: Path, corpus: Corpus, identity: dict):
        self.path, self.corpus = path, corpus
        if (path / INDEX).is_file():
            self._state = read_index(path)
        elif path.is_dir() and any(path.iterdir()):
            raise FileExistsError(f"{path} holds something else: choose another folder for the index")
        else:
            inside = path.resolve().is_relative_to(corpus.path.resolve())
            place = os.path.relpath(corpus.path.resolve(), path.resolve()) if inside else str(corpus.path.resolve())
            empty = {"files": {}, "faiss": None, "background": [], "order": ""}
            self._state = {"identity": identity, "corpus": place} | empty
        made = self._state["identity"]
        if differ := [name for name in {*made, *identity} if made.get(name) != identity.get(name)]:
            pairs = "; ".join(f"{name}: {made.get(name)!r} against {identity.get(name)!r}" for name in sorted(differ))
            raise ValueError(f"{path} was made by another model ({pairs}): build one by this model in another folder")

    @property
    def background(self) -> Float32[np.ndarray, " 256"]:
        return np.array(self._state["background"], np.float32)

    def update(self, clip: DualEncoder) -> Any:
        """Embed what is new or damaged, and what of it the features have not changed is kept. Returns FAISS's index."""
        self.path.mkdir(parents=True, exist_ok=True)
        storage.write_json(self.path / INDEX, self._state)  # so that a build that is stopped here knows its folder
        by_file, known = self.corpus.by_file(), None
        for file, videos in tqdm(by_file.items(), desc="embed", unit="file", delay=5, leave=False):
            if not self._is_whole(file):
                known = self._known() if known is None else known
                self._embed(clip, file, videos, known)
        names = {_name(file) for file in by_file}
        for old in (file for file in self.path.glob("vectors-*") if file.name not in names):
            old.unlink()
        self._state["files"] = {name: found for name, found in self._state["files"].items() if name in names}
        try:
            index = self.load()
        except (ValueError, OSError):
            index = windows.build(self.blocks()) if by_file else None
            self._state |= {"faiss": None, "background": [], "order": self._order()}
            if index is not None:
                scores = nearest(index, encode_texts(clip, SENTENCES), 1)[0][:, 0]
                self._state["background"] = sorted(scores.tolist())
            if hasattr(index, "nprobe"):
                windows.write(index, self.path / FAISS)
                self._state["faiss"] = content_of(self.path / FAISS)
        storage.write_json(self.path / INDEX, self._state)
        return index

    def load(self) -> Any:
        """FAISS's index of all windows, in the order of the corpus' videos; None of no videos.

        Raises ValueError if files are damaged, or the corpus has changed since the last update.
        """
        if self._state["order"] != self._order():
            raise ValueError(f"{self.corpus.path} has changed since {self.path} was made: call update()")
        if not self._state["faiss"]:
            return windows.build(self.blocks()) if len(self.corpus) else None
        file = self.path / FAISS
        if not _unchanged(file, self._state["faiss"]):
            raise ValueError(f"{file} is damaged or missing: {REMEDY}")
        return windows.read(file)

    def blocks(self) -> list[Float32[np.ndarray, "W D"]]:
        """z_v of each video. Raises ValueError that names a damaged file."""
        blocks: list[Any] = [None] * len(self.corpus)
        for file, videos in self.corpus.by_file().items():
            if not self._is_whole(file):
                raise ValueError(f"{self.path / _name(file)} is damaged or missing: {REMEDY}")
            first_row, starts, z_v = (self._tensor(file, name) for name in ("first_row", "starts", "z_v"))
            if not np.isfinite(z_v).all():
                raise ValueError(f"{self.path / _name(file)} is damaged: delete it and {REMEDY}")
            for i, row in zip(videos, np.searchsorted(first_row, self.corpus.first_row[videos]), strict=True):
                blocks[i] = z_v[starts[row] : starts[row + 1]]
        return blocks

    def _embed(self, clip: DualEncoder, file: Path, videos: np.ndarray, known: dict[bytes, np.ndarray]) -> None:
        """Write the vectors of the videos in a features file; those whose features are `known` are copied."""
        features = [self.corpus.features(i) for i in videos]
        keys = [hashlib.sha256(rows.tobytes()).digest() for rows in features]
        new = [at for at, key in enumerate(keys) if key not in known]
        spans = [sliding_windows(len(features[at]), *clip.window) for at in new]
        clips = [features[at][slice(*span)] for at, some in zip(new, spans, strict=True) for span in some]
        made = np.split(clip.encode_clips(clips), np.cumsum([len(some) for some in spans])[:-1]) if new else []
        z_v = {keys[at]: rows for at, rows in zip(new, made, strict=True)}
        for at in new:
            if not np.isfinite(z_v[keys[at]]).all():
                raise ValueError(
                    f"the model makes NaN or infinity of {self.corpus.video_ids[videos[at]]!r}: its weights are "
                    "damaged, or its precision is too low"
                )
        rows = [z_v[key] if key in z_v else known[key] for key in keys]
        tensors: dict = {
            "first_row": self.corpus.first_row[videos].astype(np.int64),
            "starts": np.cumsum([0, *map(len, rows)], dtype=np.int64),
            "z_v": np.concatenate(rows).astype(np.float32),
            "keys": np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 32),
        }
        target = self.path / _name(file)
        storage.replace(target, lambda temporary: save_file(tensors, temporary))
        self._state["files"][target.name] = [content_of(file), content_of(target)]
        self._state["order"] = ""  # what was made of the vectors before is made again
        storage.write_json(self.path / INDEX, self._state)

    def _known(self) -> dict[bytes, np.ndarray]:
        """z_v of every video in whole files, by the hash of its features."""
        found = {}
        for name, (_, content) in self._state["files"].items():
            if _unchanged(self.path / name, content):
                keys, starts, z_v = (storage.read_tensor(self.path / name, n) for n in ("keys", "starts", "z_v"))
                found |= {k.tobytes(): z_v[a:b] for k, a, b in zip(keys, starts, starts[1:], strict=False)}
        return found

    def _is_whole(self, file: Path) -> bool:
        """Whether a features file is the one that was embedded, and its vectors are as they were written."""
        pair = self._state["files"].get(_name(file))
        return pair is not None and _unchanged(file, pair[0]) and _unchanged(self.path / _name(file), pair[1])

    def _tensor(self, file: Path, name: str) -> np.ndarray:
        return storage.read_tensor(self.path / _name(file), name)

    def _order(self) -> str:
        """A hash of the corpus' videos and where their features are."""
        order = hashlib.sha256("\0".join(self.corpus.video_ids).encode())
        for file, videos in self.corpus.by_file().items():
            order.update(file.name.encode() + videos.tobytes() + self.corpus.first_row[videos].tobytes())
        return order.hexdigest()


def encode_texts(clip: DualEncoder, texts: Sequence[str]) -> Float32[np.ndarray, "n D"]:
    """z_t of texts. Raises ValueError that names the text of which the model makes NaN or infinity."""
    z_t = clip.encode_texts(list(texts))
    if len(bad := np.flatnonzero(~np.isfinite(z_t).all(1))):
        why = "its weights are damaged, or its precision is too low"
        raise ValueError(f"the model makes NaN or infinity of the text {texts[bad[0]]!r}: {why}")
    return z_t


def _name(features: Path) -> str:
    return f"vectors-{features.stem.removeprefix('features-')}.safetensors"


def _unchanged(file: Path, before: Sequence) -> bool:
    try:
        return still(file, Content(*before)) is not None
    except OSError:
        return False
