"""The windows of a corpus: their vectors z_v by one model, kept beside its features, and which are best for a text.

An index is a folder named by the model. vectors-00000.safetensors is of N videos in features-00000, W windows each:
`z_v` (sum of W, D) float32, `starts` (N + 1,), `rows` (N,), where their features begin in that file, and `key`, its
SHA-256: what is added to a corpus comes in new files. Large indexes also have windows.faiss. index.json is written
last: where the corpus is, a hash of its videos, the windows' mean, what everyday sentences score.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int
from safetensors.numpy import save_file
from tqdm.auto import tqdm

from vclip.data import storage
from vclip.data.corpus import Corpus
from vclip.models.dual_encoder import DualEncoder
from vclip.models.windows import sliding_windows
from vclip.neighbours import index_rows, nearest

INDEX, FAISS = "index.json", "windows.faiss"
# Up to here, 890 hours of VideoCLIP's windows or 55 of seconds, the search is exact: 0.6 GB and 40 ms at D = 768.
EXACT_UP_TO = 200_000
SENTENCES = (Path(__file__).parent / "static" / "sentences.txt").read_text(encoding="utf-8").splitlines()
SHORTEST = 2  # seconds of a moment
REACH = 16  # seconds to either side that a moment around one second may take in
WHY_NAN = "its weights are damaged, or its precision is too low"


class Windows:
    """N windows: `video` (N,) is the position of each one's video in the corpus, `start` and `end` (N,) its seconds.

    `index` is a FAISS index of their vectors, video after video in the given `order`.
    """

    def __init__(self, index: Any, order: Int[np.ndarray, " V"], seconds: Int[np.ndarray, " V"], size: int, step: int):
        self.index = index
        windows = np.array([len(sliding_windows(n, size, step)) for n in seconds[order].tolist()])
        self.video = np.repeat(order, windows)
        first = np.repeat(np.cumsum(windows) - windows, windows)
        self.start = (np.arange(len(self.video)) - first) * step
        self.end = np.minimum(self.start + size, seconds[self.video])

    def ranked(
        self, z_t: Float32[np.ndarray, " D"], allowed: Bool[np.ndarray, " N"] | None = None
    ) -> Iterator[tuple[int, float]]:
        """Windows and their scores, best first; FAISS is asked for more as they are taken."""
        total, n, seen = len(self.video) if allowed is None else int(allowed.sum()), 0, set()
        while n < total:
            n = min(max(64, 4 * n), total)
            scores, found = nearest(self.index, z_t[None], n, allowed)
            for window, score in zip(found[0].tolist(), scores[0].tolist(), strict=True):
                if window >= 0 and window not in seen:
                    seen.add(window)
                    yield window, score

    def best_two(self, z_t: Float32[np.ndarray, " D"]) -> tuple[int, float, float]:
        """The best window's video and score, and the best score of any other video (NaN if there is none)."""
        ranked = self.ranked(z_t)
        window, score = next(ranked)
        video = self.video[window]
        return int(video), score, next((s for w, s in ranked if self.video[w] != video), float("nan"))


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


def standing_out(
    scores: Float[np.ndarray, " T"], shortest: int = SHORTEST, around: int | None = None
) -> tuple[int, int]:
    """Start and end of the run of seconds that stands out: the first with the largest sum of scores - mean - sd / 2.

    It has at least `shortest` seconds (or all there are), and holds the second `around` if that is given. On
    MiniHowTo's val videos it was the best of ten label-free rules: mean IoU 0.72 with the 284 steps.
    """
    x = scores.astype(np.float64)
    total = np.concatenate([[0.0], np.cumsum(x - x.mean() - x.std() / 2)])
    sums = total[None, :] - total[:, None]
    length = np.arange(len(total))[None, :] - np.arange(len(total))[:, None]
    sums[length < min(shortest, len(x))] = -np.inf
    if around is not None:
        sums[around + 1 :] = sums[:, : around + 1] = -np.inf
    start, end = np.unravel_index(np.argmax(sums), sums.shape)
    return int(start), int(end)


def update(folder: Path, corpus: Corpus, clip: DualEncoder) -> None:
    """Embed the videos of new features files; then, if videos came or went, index all windows again."""
    folder.mkdir(parents=True, exist_ok=True)
    # a finished index can be read where nothing may be written
    with storage.locked(folder, "index.lock") if os.access(folder, os.W_OK) else nullcontext():
        _update(folder, corpus, clip)


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
    for file in (*folder.glob("vectors-*"), *folder.glob(".*.tmp")):  # a kill leaves the second
        if file not in wanted:
            file.unlink()
    if (folder / INDEX).is_file() and read_state(folder).get("videos") == _videos(corpus):
        return
    (folder / FAISS).unlink(missing_ok=True)
    background, blocks = None, _blocks(folder, corpus)
    if blocks:
        index = index_rows(blocks, cells=sum(map(len, blocks)) > EXACT_UP_TO)
        mean = sum((block.sum(axis=0) for block in blocks), np.zeros(clip.dim)) / sum(map(len, blocks))
        best = nearest(index, usual := clip.encode_texts(SENTENCES), 1)[0][:, 0] - usual @ mean / 2
        background = mean.tolist(), float(best.mean()), max(float(best.std()), 1e-6)
        if hasattr(index, "nprobe"):
            storage.replace(folder / FAISS, lambda temporary: faiss.write_index(index, str(temporary)))
    inside = folder.resolve().is_relative_to(corpus.path.resolve())  # then both can be moved together
    place = os.path.relpath(corpus.path.resolve(), folder.resolve()) if inside else str(corpus.path.resolve())
    storage.write_json(folder / INDEX, {"corpus": place, "videos": _videos(corpus), "background": background})


def load(folder: Path, corpus: Corpus, clip: DualEncoder) -> tuple[Windows | None, Any]:
    """All windows, None if there is no video; and for z-scores their mean z_v (D,), then mean and sd of the sentences.

    Raises ValueError if files are damaged, or the corpus is not as it was.
    """
    import faiss

    state = read_state(folder)
    if state.get("videos") != _videos(corpus):
        raise ValueError(f"{corpus.path} has changed since it was indexed: call MomentIndex.build again")
    if not len(corpus):
        return None, None
    try:
        if (folder / FAISS).is_file():
            index: Any = faiss.read_index(str(folder / FAISS), faiss.IO_FLAG_MMAP)  # its vectors stay on disk
            index.make_direct_map()  # finds them by window
        else:
            index = index_rows(_blocks(folder, corpus))
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(f"{folder} is damaged ({error}): delete it and call MomentIndex.build again") from None
    order, (mean, *usual) = np.concatenate([*corpus.by_file().values()]), state["background"]
    return Windows(index, order, corpus.seconds, *clip.window), (np.array(mean, np.float32), *usual)


def _embed(file: Path, target: Path, key: np.ndarray, corpus: Corpus, videos: np.ndarray, clip: DualEncoder) -> None:
    """Write the z_v of all windows of the videos in one features `file`, whose hash is `key`, to `target`."""
    spans = [sliding_windows(n, *clip.window) for n in corpus.seconds[videos].tolist()]
    features = [corpus.features(i) for i in videos]  # once each: of another tool they are copies
    clips = [rows[slice(*span)] for rows, some in zip(features, spans, strict=True) for span in some]
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


def read_state(folder: Path) -> dict[str, Any]:
    """The content of index.json. Raises FileNotFoundError if there is no finished index."""
    if not (folder / INDEX).is_file():
        raise FileNotFoundError(f"{folder.parents[1]} holds no index by this model: make one with MomentIndex.build")
    try:
        return json.loads((folder / INDEX).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{folder} is damaged ({error}): delete it and call MomentIndex.build again") from None


def _vectors_of(folder: Path, features: Path) -> Path:
    own = features.suffix == ".safetensors"
    return folder / f"vectors-{features.stem.removeprefix('features-') if own else features.name}.safetensors"


def _videos(corpus: Corpus) -> str:
    """A hash of the corpus' videos, where their features are and what index.json says of them."""
    found = hashlib.sha256("\0".join(["zscore", *corpus.video_ids]).encode())
    for file, videos in corpus.by_file().items():
        places = (videos, corpus.first_row[videos], corpus.seconds[videos])
        found.update(file.name.encode() + b"".join(rows.tobytes() for rows in places))
    return found.hexdigest()
