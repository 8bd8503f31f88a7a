"""Text-to-video retrieval (sections 4 and 5.2, Tables 1 and 2): at which rank does a text find its own video?

N pairs of a text and a video, D hidden size; text i belongs to video i. DiDeMo's search for a moment inside
one video is in `moment_retrieval`; its functions are named here too.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32, Int, Real
from torch import Tensor
from tqdm.auto import tqdm

from vclip.data.corpus import Corpus
from vclip.datasets._records import Dataset
from vclip.models.dual_encoder import DualEncoder
from vclip.tasks.moment_retrieval import MOMENTS, MomentScore, moment_metrics, moment_scores, rank_moments
from vclip.tasks.report import Score, covered
from vclip.tasks.ties import as_array, distinct, once, products

__all__ = [
    "MOMENTS", "MomentScore", "Ranks", "RetrievalScore", "clip_features", "embed_pairs", "examine",
    "examine_paragraphs", "moment_metrics", "moment_scores", "paragraphs", "rank_moments", "ranks", "recall", "score",
    "text_to_video",
]  # fmt: skip

AT_ONCE = 2**25  # similarities held at a time, 128 MB

Ties = Literal["against", "reference"]


@dataclass(frozen=True, repr=False, kw_only=True)
class RetrievalScore(Score):
    """Fraction of texts whose video is among the first 1, 5, 10; median rank from 1; `chance`: random ranks."""

    r1: float
    r5: float
    r10: float
    median_rank: float
    chance: "RetrievalScore | None" = None


class Ranks(NamedTuple):
    """Where each text finds its video: `closer` videos score higher, `level` equally (its own included).

    `own`: similarity of the matching video; `top`: index of the best-scoring video (first on ties); `top_similarity`:
    its similarity.
    """

    closer: Int[np.ndarray, " N"]
    level: Int[np.ndarray, " N"]
    own: Real[np.ndarray, " N"]
    top: Int[np.ndarray, " N"]
    top_similarity: Real[np.ndarray, " N"]


def score(
    similarity: Real[np.ndarray, "texts videos"] | Real[Tensor, "texts videos"], ties: Ties = "against"
) -> RetrievalScore:
    """Recall and median rank of a similarity matrix whose pairs are on the diagonal.

    Args:
        similarity: larger is closer.
        ties: as in `recall`.

    Raises:
        ValueError: for a matrix that is not square, is empty or holds NaN.
    """
    n = len(similarity)
    if similarity.shape != (n, n) or n == 0:
        raise ValueError(f"similarity is {tuple(similarity.shape)}: row i and column i must be a pair")
    return recall(_ranks(lambda rows: similarity[rows], np.arange(n)), ties)


def ranks(
    z_t: Float[np.ndarray, "N D"] | Float[Tensor, "N D"], z_v: Float[np.ndarray, "N D"] | Float[Tensor, "N D"]
) -> Ranks:
    """The ranks of N texts among N videos by dot product, `AT_ONCE` similarities at a time.

    Videos with equal z_v are level: their products are computed once (`tasks.ties`).
    Raises ValueError if the two are not pairs, are empty or a similarity is NaN.
    """
    if z_t.shape != z_v.shape or not len(z_t):
        raise ValueError(f"z_t is {tuple(z_t.shape)} and z_v is {tuple(z_v.shape)}: row i of both must be a pair")
    z_t, z_v = as_array(z_t), as_array(z_v)
    first, column = distinct(z_v)
    columns = z_v[first].T
    return _ranks(lambda rows: z_t[rows] @ columns, column)


def recall(ranks: Ranks, ties: Ties = "against") -> RetrievalScore:
    """R@1, R@5, R@10 and median rank.

    Args:
        ranks: from `ranks`.
        ties: "against" ranks a video that scores as the true one does before it; "reference" counts a text once for
            every place that such a tie covers, as the released code does (MMPT metric.py:25-58).

    Raises:
        ValueError: for other `ties`.
    """
    if ties not in ("against", "reference"):
        raise ValueError(f"unknown ties {ties!r}: 'against' or 'reference'")
    n = len(ranks.closer)
    last = ranks.closer + ranks.level
    first = last if ties == "against" else ranks.closer + 1
    # how often each rank 0..n occurs: every text covers the ranks first..last
    counts = np.cumsum(np.bincount(first, minlength=n + 2) - np.bincount(last + 1, minlength=n + 2))
    below = np.cumsum(counts)
    total = int(below[-1])
    median = np.searchsorted(below, [(total - 1) // 2, total // 2], side="right").mean()
    r1, r5, r10 = (float(below[min(k, n)] / total) for k in (1, 5, 10))
    random = (min(k, n) / n for k in (1, 5, 10))
    chance = RetrievalScore(**dict(zip(("r1", "r5", "r10"), random, strict=True)), median_rank=(n + 1) / 2, n=n)
    return RetrievalScore(r1=r1, r5=r5, r10=r10, median_rank=float(median), n=n, chance=chance)


def _ranks(similarities: Callable[[slice], np.ndarray | Tensor], column: np.ndarray) -> Ranks:
    """Counts a block of rows at a time; `similarities(rows)` gives those of an N x M matrix, which need not exist.

    `column` (N,) is the one of each video; videos that are equal share one.
    """
    n = len(column)
    at_once = max(1, AT_ONCE // n)
    video, videos = np.unique(column, return_index=True, return_counts=True)[1:]
    starts = tqdm(range(0, n, at_once), desc="ranking", leave=False, delay=10)
    groups = (slice(start, start + at_once) for start in starts)
    blocks = [_count(similarities(rows), rows.start, column[rows], video, videos) for rows in groups]
    return Ranks(*(np.concatenate(values) for values in zip(*blocks, strict=True)))


def _count(
    rows: np.ndarray | Tensor, start: int, column: np.ndarray, video: np.ndarray, videos: np.ndarray
) -> tuple[np.ndarray, ...]:
    """The fields of `Ranks` for the rows of a similarity matrix from row `start` on.

    `column` is where the row's own video stands; of each column, `video` is the first of its `videos` videos.
    """
    rows = as_array(rows) if isinstance(rows, Tensor) else rows
    line = np.arange(len(rows))
    own, place = rows[line, column], rows.argmax(1)
    top, best = video[place], rows[line, place]
    if np.isnan(best).any():  # argmax stops at a NaN
        row = int(np.isnan(best).argmax())
        raise ValueError(f"similarity of text {start + row} and video {top[row]} is NaN")
    repeated = np.flatnonzero(videos > 1)

    def count(mask: np.ndarray) -> np.ndarray:
        return np.count_nonzero(mask, axis=1) + mask[:, repeated] @ (videos[repeated] - 1)

    return count(rows > own[:, None]), count(rows == own[:, None]), own, top, best


def clip_features(record: Any, corpus: Corpus) -> np.ndarray:
    """(T, F) of a record's clip: the seconds `start`:`end` of its video, all of it where the record names none.

    What the features do not reach is left out, so that T can be 0 (MMPT dsprocessor.py:266-336).
    """
    return corpus.features(corpus.index(record.video_id))[_seconds(record)]


def _seconds(record: Any) -> slice:
    start, end = getattr(record, "start", None), getattr(record, "end", None)
    return slice(int(start or 0), None if end is None else int(end))


def embed_pairs(
    clip: DualEncoder, records: Sequence, corpus: Corpus
) -> tuple[Float32[np.ndarray, "N D"], Float32[np.ndarray, "N D"], list[int]]:
    """z_t of each record's `sentence`, z_v of its clip (`clip_features`, the first max_video_tokens seconds of it).

    Also returns the positions in `records` of the N that could be embedded: those whose video the corpus has.
    A sentence or clip that returns is embedded once, so that its rows are equal.
    Raises ValueError if there is none, or the corpus was made by another encoder than the model's.
    """
    clip.check(corpus)
    found = covered(records, corpus)
    if not found:
        raise ValueError(f"{corpus} has none of the {len(records)} clips' videos: are these the right features?")
    sentences, sentence = once(records[i].sentence for i in found)
    spans = [(records[i].video_id, _seconds(records[i])) for i in found]
    distinct_spans, span = once((video_id, span.start, span.stop) for video_id, span in spans)
    z_v = clip.encode_clips([corpus.features(corpus.index(v))[start:stop] for v, start, stop in distinct_spans])
    return clip.encode_texts(sentences)[sentence], z_v[span], found


def text_to_video(clip: DualEncoder, clips: Sequence, corpus: Corpus) -> tuple[Float32[np.ndarray, "N N"], list[int]]:
    """Similarity of each clip's sentence (row) with every clip's video (column), dot products of z_t and z_v.

    `clips` are records with `video_id`, `sentence` and, where a clip is not its whole video, `start` and `end` (s).
    Returns and raises as `embed_pairs`.
    """
    z_t, z_v, found = embed_pairs(clip, clips, corpus)
    return products(z_t, z_v), found


def examine(
    clip: DualEncoder,
    dataset: Dataset,
    corpus: Corpus,
    *,
    ties: Ties = "against",
) -> dict[str, Any]:
    """Scores and examples for `vclip.evaluate`; records need a `sentence`.

    An example is the record with its `rank` (from 1, ties against), its `similarity` and, of the clip ranked first,
    `top_video_id`, `top_start` (where records have one) and `top_similarity`.
    """
    z_t, z_v, found = embed_pairs(clip, dataset, corpus)
    ranked = ranks(z_t, z_v)
    got = recall(ranked, ties)
    records = [dataset[i] for i in found]
    top = [records[i] for i in ranked.top]
    examples = pd.DataFrame([asdict(record) for record in records])
    examples["rank"] = ranked.closer + ranked.level
    examples["similarity"] = ranked.own
    examples["top_video_id"] = [record.video_id for record in top]
    if "start" in examples:
        examples["top_start"] = [record.start for record in top]
    examples["top_similarity"] = ranked.top_similarity
    return got.report() | {"unit": "texts", "examples": examples}


@dataclass(frozen=True)
class Paragraph:
    """The `descriptions` sentences about one video as one."""

    video_id: str
    sentence: str
    descriptions: int


def paragraphs(records: Sequence) -> list[Paragraph]:
    """One a video, in the order in which `records` (with `video_id` and `description`) first name the videos."""
    said = defaultdict(list)
    for record in records:
        said[record.video_id].append(record.description)
    return [Paragraph(video_id, " ".join(texts), len(texts)) for video_id, texts in said.items()]


def examine_paragraphs(
    clip: DualEncoder,
    dataset: Dataset,
    corpus: Corpus,
    *,
    ties: Ties = "against",
) -> dict[str, Any]:
    """Paragraph-to-video retrieval, what the paper says of DiDeMo (Table 2): as `examine`, a paragraph an example.

    All descriptions of a video, joined in the order of the file, are one text that seeks the whole video.

    The model's limits cut a paragraph to max_text_tokens tokens and a video to its first max_video_tokens seconds.
    """
    whole = Dataset(dataset.name, dataset.split, paragraphs(dataset))
    return examine(clip, whole, corpus, ties=ties) | {"unit": "paragraphs"}
