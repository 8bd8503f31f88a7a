"""Text-to-video retrieval (sections 4 and 5.2, Tables 1 and 2): N texts, M videos, D hidden size."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Float32, Int, Real

from vclip.data.corpus import Corpus
from vclip.datasets._records import Dataset
from vclip.datasets.msrvtt import Clip
from vclip.models.dual_encoder import DualEncoder
from vclip.tasks.moment_retrieval import MOMENTS, moment_metrics, moment_scores, rank_moments  # noqa: F401
from vclip.tasks.report import Score, covered
from vclip.tasks.ties import Array, as_array, once, products

AT_ONCE = 2**25  # similarities held at a time, 128 MB

Ties = Literal["against", "reference"]


@dataclass(frozen=True, repr=False, kw_only=True)
class RetrievalScore(Score):
    """Fraction of texts whose video is among the first 1, 5, 10; median rank from 1; `chance`: random ranks."""

    r1: float
    r5: float
    r10: float
    median_rank: float


def score(similarity: Real[Array, "texts videos"], ties: Ties = "against") -> RetrievalScore:
    """R@1, R@5, R@10 and median rank of `n` texts by a similarity matrix, beside chance.

    Args:
        similarity: row i and column i are a pair; larger is closer. NaN is a ValueError.
        ties: "against" ranks a video that scores as the true one does before it; "reference" counts a text once for
            every place that such a tie covers, as the released code does (MMPT metric.py:25-58).

    Example:
        >>> score(np.array([[0.9, 0.1], [0.8, 0.7]]))
        RetrievalScore(r1 0.5 (chance 0.5), r5 1 (chance 1), r10 1 (chance 1), median_rank 1.5 (chance 1.5), n 2)
    """
    similarity, n = as_array(similarity), len(similarity)
    if not n or similarity.shape != (n, n):
        raise ValueError(f"similarity is {similarity.shape}: row i and column i must be a pair")
    return _score(_rank(similarity, np.arange(n)), n, ties)


def rank_texts(
    z_t: Float[np.ndarray, "N D"], z_v: Float[np.ndarray, "M D"], own: Int[np.ndarray, " N"]
) -> pd.DataFrame:
    """Rank N texts among M videos by dot product, `AT_ONCE` similarities at a time; text i seeks video `own[i]`."""
    which: Any = np.array(once((row + 0).tobytes() for row in z_v)[1])  # -0 is 0; np.unique copies all rows, twice
    _, first = np.unique(which, return_index=True)
    distinct, which = (z_v, slice(None)) if len(first) == len(z_v) else (z_v[first], which)  # see `ties.products`
    step = max(1, AT_ONCE // len(z_v))
    blocks = range(0, len(z_t), step)
    return pd.concat([_rank((z_t[i : i + step] @ distinct.T)[:, which], own[i : i + step]) for i in blocks])


def _rank(similarity: np.ndarray, own: np.ndarray) -> pd.DataFrame:
    """A row a text: how many videos score higher than its own and equally (its own included), and the best one."""
    if np.isnan(similarity).any():
        text, video = np.argwhere(np.isnan(similarity))[0]
        raise ValueError(f"similarity of text {text} and video {video} is NaN")
    rows, top = np.arange(len(own)), similarity.argmax(axis=1)
    mine = similarity[rows, own, None]
    closer, level = (np.count_nonzero(found, axis=1) for found in (similarity > mine, similarity == mine))
    columns = {"closer": closer, "level": level, "similarity": mine[:, 0], "top": top}
    return pd.DataFrame(columns | {"top_similarity": similarity[rows, top]})


def _score(ranks: pd.DataFrame, n_videos: int, ties: Ties) -> RetrievalScore:
    if ties not in ("against", "reference"):
        raise ValueError(f"unknown ties {ties!r}: 'against' or 'reference'")
    found = (ranks["closer"] + ranks["level"]).to_numpy()
    if ties == "reference":
        places = zip(ranks["closer"], ranks["level"], strict=True)
        found = np.concatenate([closer + 1 + np.arange(level) for closer, level in places])
    r1, r5, r10 = (min(k, n_videos) / n_videos for k in (1, 5, 10))
    chance = RetrievalScore(r1=r1, r5=r5, r10=r10, median_rank=(n_videos + 1) / 2, n=len(ranks))
    r1, r5, r10 = (float(np.mean(found <= k)) for k in (1, 5, 10))
    return RetrievalScore(r1=r1, r5=r5, r10=r10, median_rank=float(np.median(found)), n=len(ranks), chance=chance)


def clip_features(record: Any, corpus: Corpus) -> np.ndarray:
    """(T, F) of a record's `start`:`end`, or of all, as far as features reach: T can be 0 (dsprocessor.py:266-336)."""
    video_id, start, end = span(record)
    return corpus.features(corpus.index(video_id))[start:end]


def span(record: Any) -> tuple[str, int, int | None]:
    """A record's video and whole seconds `start`:`end`, all of them if it names none."""
    start, end = getattr(record, "start", None), getattr(record, "end", None)
    return record.video_id, int(start or 0), None if end is None else int(end)


def embed_pairs(
    clip: DualEncoder, records: Sequence, corpus: Corpus
) -> tuple[Float32[np.ndarray, "N D"], Float32[np.ndarray, "M D"], Int[np.ndarray, " N"], list[int]]:
    """z_t of the N records that have features, z_v of M distinct clips, each text's clip, and the records' places."""
    clip.check(corpus)
    found = covered(records, corpus)
    if not found:
        raise ValueError(f"{corpus} has none of the {len(records)} clips' videos: are these the right features?")
    sentences, sentence = once(records[i].sentence for i in found)
    spans, own = once(span(records[i]) for i in found)
    z_v = clip.encode_clips([corpus.features(corpus.index(video))[start:end] for video, start, end in spans])
    return clip.encode_texts(sentences)[sentence], z_v, np.array(own), found


def text_to_video(clip: DualEncoder, clips: Sequence, corpus: Corpus) -> tuple[Float32[np.ndarray, "N N"], list[int]]:
    """Similarity of each record's `sentence` (row) with every record's clip (column), and which could be embedded."""
    z_t, z_v, own, found = embed_pairs(clip, clips, corpus)
    return products(z_t, z_v)[:, own], found


def examine(clip: DualEncoder, dataset: Dataset, corpus: Corpus, *, ties: Ties = "against") -> dict[str, Any]:
    """Scores and examples for `vclip.evaluate`; records need a `sentence`.

    A clip with several sentences counts once among the candidates. An example is the record with its `rank` (from 1,
    ties against), its `similarity`, and the clip ranked first (`top_...`).
    """
    z_t, z_v, own, found = embed_pairs(clip, dataset, corpus)
    ranks = rank_texts(z_t, z_v, own)
    records = [dataset[i] for i in found]
    first = np.unique(own, return_index=True)[1]  # a record of each clip
    top = [records[i] for i in first[ranks["top"]]]
    examples = pd.DataFrame([asdict(record) for record in records])
    examples["rank"] = (ranks["closer"] + ranks["level"]).to_numpy()
    examples["similarity"] = ranks["similarity"].to_numpy()
    examples["top_video_id"] = [record.video_id for record in top]
    if "start" in examples:
        examples["top_start"] = [record.start for record in top]
    examples["top_similarity"] = ranks["top_similarity"].to_numpy()
    return _score(ranks, len(z_v), ties).report() | {"unit": "texts", "examples": examples}


def paragraphs(records: Sequence) -> list[Clip]:
    """All descriptions of a video as one sentence, in the order in which `records` first name the videos."""
    said = defaultdict(list)
    for record in records:
        said[record.video_id].append(record.description)
    return [Clip(video_id, " ".join(texts)) for video_id, texts in said.items()]


def examine_paragraphs(
    clip: DualEncoder, dataset: Dataset, corpus: Corpus, *, ties: Ties = "against"
) -> dict[str, Any]:
    """Paragraph-to-video retrieval, what the paper says of DiDeMo (Table 2): as `examine`, a paragraph an example."""
    whole = Dataset(dataset.name, dataset.split, paragraphs(dataset))
    return examine(clip, whole, corpus, ties=ties) | {"unit": "paragraphs"}
