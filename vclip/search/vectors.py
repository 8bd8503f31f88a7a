"""The window vectors z_v of a corpus by one model, kept beside its features; all of it can be made again.

An index is a folder named by the model. vectors-00000.safetensors is of N videos in features-00000, W windows each:
`z_v` (sum of W, D) float32, `starts` (N + 1,), `rows` (N,), where their features begin in that file, and `key`, its
SHA-256: what is added to a corpus comes in new files. Large indexes also have windows.faiss. index.json is written
last: where the corpus is, a hash of its videos, scores of everyday sentences.
"""

import hashlib
import json
import os
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import Float32
from safetensors.numpy import save_file
from tqdm.auto import tqdm

from vclip.data import storage
from vclip.data.corpus import Corpus
from vclip.models.dual_encoder import DualEncoder
from vclip.models.windows import sliding_windows
from vclip.neighbours import index_rows, nearest
from vclip.search.windows import Windows

INDEX, FAISS = "index.json", "windows.faiss"
# Up to here, 890 hours of video, the search is exact: at D = 768 in 0.6 GB of memory and 40 ms on one core.
EXACT_UP_TO = 200_000
# what everyday how-to sentences score on an index tells what a score there is worth
SENTENCES = (Path(__file__).parent / "static" / "sentences.txt").read_text(encoding="utf-8").splitlines()
WHY_NAN = "its weights are damaged, or its precision is too low"


def index_folder(path: Path, clip: DualEncoder) -> Path:
    """The folder in `path` of the index by one model."""
    return path / "index" / hashlib.sha256(json.dumps(clip.identity, sort_keys=True).encode()).hexdigest()[:16]


def update(folder: Path, corpus: Corpus, clip: DualEncoder) -> None:
    """Embed the videos of new features files; then, if videos came or went, index all windows again."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        # a finished index can be read where nothing may be written
        with FileLock(folder / "index.lock", timeout=0) if os.access(folder, os.W_OK) else nullcontext():
            for unfinished in folder.glob(".*.tmp"):  # a kill left it
                unfinished.unlink()
            _update(folder, corpus, clip)
    except Timeout:
        raise RuntimeError(f"{folder} is being updated by another process: run again when it has finished") from None


def _update(folder: Path, corpus: Corpus, clip: DualEncoder) -> None:
    import faiss

    wanted = set()
    for file, videos in tqdm(corpus.by_file().items(), desc="embed", unit="file", delay=5, leave=False):
        wanted.add(target := _vectors_of(folder, file))
        with file.open("rb") as opened:
            key = np.frombuffer(hashlib.file_digest(opened, "sha256").digest(), np.uint8)
        with suppress(ValueError, FileNotFoundError):  # none yet, or damaged
            held, rows = (storage.read_tensor(target, name) for name in ("key", "rows"))
            if np.array_equal(held, key) and np.isin(corpus.first_row[videos], rows).all():
                continue
        (folder / INDEX).unlink(missing_ok=True)  # a build that is stopped here goes on, and is not opened
        _embed(file, target, key, corpus, videos, clip)
    for file in folder.glob("vectors-*"):
        if file not in wanted:
            file.unlink()
    if (folder / INDEX).is_file() and _read_state(folder).get("videos") == _videos(corpus):
        return
    (folder / FAISS).unlink(missing_ok=True)
    background = []
    if len(corpus):
        blocks = _blocks(folder, corpus)
        index = index_rows(blocks, cells=sum(map(len, blocks)) > EXACT_UP_TO)
        background = sorted(nearest(index, clip.encode_texts(SENTENCES), 1)[0][:, 0].tolist())
        if hasattr(index, "nprobe"):
            storage.replace(folder / FAISS, lambda temporary: faiss.write_index(index, str(temporary)))
    inside = folder.resolve().is_relative_to(corpus.path.resolve())  # then both can be moved together
    place = os.path.relpath(corpus.path.resolve(), folder.resolve()) if inside else str(corpus.path.resolve())
    storage.write_json(folder / INDEX, {"corpus": place, "videos": _videos(corpus), "background": background})


def corpus_of(folder: Path) -> Corpus:
    """The corpus of an index. Raises FileNotFoundError if there is no finished index."""
    return Corpus.open(os.path.normpath(folder / _read_state(folder)["corpus"]))


def load(folder: Path, corpus: Corpus, clip: DualEncoder) -> tuple[Windows | None, Float32[np.ndarray, " S"]]:
    """All windows, None if there is no video, and the best score of each of S everyday sentences.

    Raises ValueError if files are damaged, or the corpus is not as it was.
    """
    import faiss

    state = _read_state(folder)
    if state.get("videos") != _videos(corpus):
        raise ValueError(f"{corpus.path} has changed since it was indexed: call MomentIndex.build again")
    background = np.array(state["background"], np.float32)
    if not len(corpus):
        return None, background
    try:
        if (folder / FAISS).is_file():
            index = faiss.read_index(str(folder / FAISS), faiss.IO_FLAG_MMAP)  # its vectors stay on disk
        else:
            index = index_rows(_blocks(folder, corpus))
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{folder} is damaged ({error}): delete it and call MomentIndex.build again") from None
    order = np.concatenate([*corpus.by_file().values()])
    return Windows(index, order, corpus.seconds, *clip.window), background


def _embed(file: Path, target: Path, key: np.ndarray, corpus: Corpus, videos: np.ndarray, clip: DualEncoder) -> None:
    """Write the z_v of all windows of the videos in one features `file`, whose hash is `key`, to `target`."""
    spans = [sliding_windows(n, *clip.window) for n in corpus.seconds[videos].tolist()]
    clips = [corpus.features(i)[slice(*span)] for i, some in zip(videos, spans, strict=True) for span in some]
    z_v = clip.encode_clips(clips).astype(np.float32)
    if not np.isfinite(z_v).all():
        raise ValueError(f"the model makes NaN or infinity of the features in {file}: {WHY_NAN}")
    starts = np.cumsum([0, *map(len, spans)], dtype=np.int64)
    tensors = {"key": key, "rows": corpus.first_row[videos], "starts": starts, "z_v": z_v}
    storage.replace(target, lambda temporary: save_file(tensors, temporary))


def _blocks(folder: Path, corpus: Corpus) -> list[Float32[np.ndarray, "W D"]]:
    """z_v of each video, mapped, in the order of the features files."""
    blocks = []
    for file, videos in corpus.by_file().items():
        rows, starts, z_v = (storage.read_tensor(_vectors_of(folder, file), n) for n in ("rows", "starts", "z_v"))
        of_row = dict(zip(rows.tolist(), np.split(z_v, starts[1:-1]), strict=True))
        blocks += [of_row[row] for row in corpus.first_row[videos].tolist()]
    return blocks


def _read_state(folder: Path) -> dict[str, Any]:
    if not (folder / INDEX).is_file():
        raise FileNotFoundError(f"{folder.parents[1]} holds no index by this model: make one with MomentIndex.build")
    try:
        return json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder} is damaged ({error}): delete it and call MomentIndex.build again") from None


def _vectors_of(folder: Path, features: Path) -> Path:
    return folder / f"vectors-{features.stem.removeprefix('features-')}.safetensors"


def _videos(corpus: Corpus) -> str:
    """A hash of the corpus' videos and where their features are."""
    found = hashlib.sha256("\0".join(corpus.video_ids).encode())
    for file, videos in corpus.by_file().items():
        found.update(file.name.encode() + videos.tobytes() + corpus.first_row[videos].tobytes())
    return found.hexdigest()
