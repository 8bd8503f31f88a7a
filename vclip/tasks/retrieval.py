"""Text-to-video retrieval, and DiDeMo's search for the moment inside one video.

N pairs of a text and a video, T seconds of one video, D hidden size. A moment (first, last) is a run of five-second
blocks of a 30 s video, counted from 0, both ends included.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Real
from torch import Tensor

from vclip.corpus import Corpus
from vclip.embedding import embed_texts, embed_videos
from vclip.model import VideoCLIPModel
from vclip.processing import VideoCLIPProcessor

BLOCK_SECONDS = 5
MOMENTS = [(i, i) for i in range(6)] + [(i, j) for i in range(6) for j in range(i + 1, 6)]
Moment = Sequence[int]


@dataclass(frozen=True, repr=False)
class RetrievalScore:
    """Share of texts whose video is among the first 1, 5, 10, and its median rank from 1; `chance`: random ranks."""

    r1: float
    r5: float
    r10: float
    median_rank: float
    n: int
    chance: "RetrievalScore | None" = None

    def __repr__(self) -> str:
        return _beside_chance(self)


@dataclass(frozen=True, repr=False)
class MomentScore:
    """DiDeMo's rank@1, rank@5 and mean IoU; `chance`: what random orders of the same moments score on average."""

    rank1: float
    rank5: float
    miou: float
    n: int
    chance: "MomentScore | None" = None

    def __repr__(self) -> str:
        return _beside_chance(self)


def score(
    similarity: Real[np.ndarray, "texts videos"] | Real[Tensor, "texts videos"],
    ties: Literal["against", "reference"] = "against",
) -> RetrievalScore:
    """Recall and median rank of a similarity matrix whose pairs are on the diagonal, larger is closer.

    Ties "against" ranks a video that scores as the true one does before it. "reference" counts as the released code
    does (MMPT metric.py:25-58): a text is counted once for every place that such a tie covers.
    Raises ValueError for a matrix that is not square, is empty or holds NaN.
    """
    if ties not in ("against", "reference"):
        raise ValueError(f"unknown ties {ties!r}: 'against' or 'reference'")
    n = len(similarity)
    if similarity.shape != (n, n) or n == 0:
        raise ValueError(f"similarity is {tuple(similarity.shape)}: row i and column i must be a pair")
    ranks = []
    rows_at_once = max(1, 2**22 // n)
    for first in range(0, n, rows_at_once):
        rows = similarity[first : first + rows_at_once]
        rows = rows.detach().cpu().double().numpy() if isinstance(rows, Tensor) else rows
        if np.isnan(rows).any():
            row, column = np.argwhere(np.isnan(rows))[0] + (first, 0)
            raise ValueError(f"similarity of text {row} and video {column} is NaN")
        own = rows[np.arange(len(rows)), first + np.arange(len(rows))][:, None]
        closer, tied = (rows > own).sum(1), (rows == own).sum(1)
        if ties == "against":
            ranks.append(closer + tied)
        else:
            place_in_tie = np.arange(tied.sum()) - np.repeat(np.cumsum(tied) - tied, tied)
            ranks.append(np.repeat(closer, tied) + place_in_tie + 1)
    rank = np.concatenate(ranks)
    recall = [float(np.mean(rank <= k)) for k in (1, 5, 10)]
    chance = RetrievalScore(*(min(k, n) / n for k in (1, 5, 10)), median_rank=(n + 1) / 2, n=n)
    return RetrievalScore(*recall, median_rank=float(np.median(rank)), n=n, chance=chance)


def text_to_video(
    model: VideoCLIPModel, processor: VideoCLIPProcessor, clips: Sequence, corpus: Corpus
) -> tuple[Float32[np.ndarray, "N N"], list[int]]:
    """Similarity of each clip's sentence (row) with every clip's video (column), dot products of z_t and z_v.

    `clips` are records with `video_id`, `start`, `end` (s) and `sentence`, as `datasets.youcook2` reads them; a clip
    is the seconds start:end of its video's features, cut to the model's limit (MMPT dsprocessor.py:31-63). Also
    returns the positions in `clips` of the N that could be embedded: those whose video the corpus has.
    Raises ValueError if there is none, or the corpus was made by another encoder than the model's.
    """
    corpus.check(model.config)
    found = [i for i, clip in enumerate(clips) if clip.video_id in corpus]
    if not found:
        raise ValueError(f"{corpus} has none of the {len(clips)} clips' videos: are these the right features?")
    rows = [corpus.features(corpus.index(clips[i].video_id))[int(clips[i].start) : int(clips[i].end)] for i in found]
    return embed_texts(model, processor, [clips[i].sentence for i in found]) @ embed_videos(model, rows).T, found


def moment_scores(
    h_v: Float[Tensor, "T D"],
    z_t: Float[Tensor, " D"],
    padding: Literal["valid", "reference"] = "valid",
    seconds: int | None = None,
) -> Float[Tensor, " 21"]:
    """Score of every moment of `MOMENTS`: the mean of its seconds' states, dot the text (MMPT predictor.py:514-595).

    `seconds` (default T) is how many rows of a padded `h_v` belong to the video; a moment that starts behind them
    scores -inf. Of a moment that the video's end cuts, "valid" averages the seconds there are; "reference" averages
    the padded rows too, as the released code does, and needs them: a padded call's `h_v`.
    """
    if padding not in ("valid", "reference"):
        raise ValueError(f"unknown padding {padding!r}: 'valid' or 'reference'")
    seconds = len(h_v) if seconds is None else seconds
    if not 0 <= seconds <= len(h_v):
        raise ValueError(f"{seconds} seconds are valid, but h_v has {len(h_v)} rows")
    logits = (h_v if padding == "reference" else h_v[:seconds]) @ z_t
    scores = logits.new_full((len(MOMENTS),), -torch.inf)
    for i, (first, last) in enumerate(MOMENTS):
        if BLOCK_SECONDS * first < seconds:
            scores[i] = logits[BLOCK_SECONDS * first : BLOCK_SECONDS * (last + 1)].mean()
    return scores


def rank_moments(scores: Float[Tensor, " 21"]) -> list[tuple[int, int]]:
    """The moments best first, in the order of `MOMENTS` where they tie, without those that score -inf."""
    order = torch.argsort(scores, descending=True, stable=True).tolist()
    return [MOMENTS[i] for i in order if scores[i] > -torch.inf]


def moment_metrics(ranked: Sequence[Sequence[Moment]], times: Sequence[Sequence[Moment]]) -> MomentScore:
    """DiDeMo's metrics over N descriptions (MMPT metric.py:74-142).

    `ranked[i]` are the moments of a video best first, `times[i]` what each annotator chose. IoU is the mean of the
    best moment's three largest with the annotations; a description is a hit at k if the mean of the annotations' three
    smallest ranks is at most k (annotations that are not in the list are left out; none in it is a miss).
    Raises ValueError for lists of different length or none, and for a description without annotation.
    """
    if len(ranked) != len(times) or not ranked:
        raise ValueError(f"{len(ranked)} ranked lists for {len(times)} descriptions")
    if empty := [i for i, annotations in enumerate(times) if not len(annotations)]:
        raise ValueError(f"description {empty[0]} has no annotation")
    got, floor = np.zeros((len(ranked), 3)), np.zeros((len(ranked), 3))
    for i, (candidates, annotations) in enumerate(zip(ranked, times, strict=True)):
        found = [[tuple(m) for m in candidates].index(tuple(t)) + 1 for t in annotations if _listed(t, candidates)]
        mean_rank = np.mean(sorted(found)[:3]) if found else np.inf
        ious = [np.mean(sorted(_iou(m, t) for t in annotations)[-3:]) for m in candidates]
        counts = tuple(sorted(found.count(rank) for rank in set(found)))
        got[i] = mean_rank <= 1, mean_rank <= 5, ious[0] if ious else 0
        floor[i] = (
            _random_hit(counts, len(ious), 1),
            _random_hit(counts, len(ious), 5),
            np.mean(ious) if ious else 0,
        )
    return MomentScore(*got.mean(0).tolist(), n=len(ranked), chance=MomentScore(*floor.mean(0).tolist(), n=len(ranked)))


def _listed(moment: Moment, candidates: Sequence[Moment]) -> bool:
    return any(tuple(moment) == tuple(candidate) for candidate in candidates)


def _iou(a: Moment, b: Moment) -> float:
    """Intersection over union in blocks; the union of moments that do not meet includes the gap, as in the original."""
    return max(0, min(a[1], b[1]) + 1 - max(a[0], b[0])) / (max(a[1], b[1]) + 1 - min(a[0], b[0]))


@cache
def _random_hit(counts: tuple[int, ...], moments: int, k: int) -> float:
    """Probability that the mean of the three smallest ranks is at most k when `moments` are put in random order.

    `counts`: how many annotators chose each of the listed annotations. Walks down the ranks; nothing is sampled.
    """
    wanted = min(3, sum(counts))
    if not wanted:
        return 0.0

    @cache
    def hit(rank: int, unseen: tuple[int, ...], missing: int, budget: int) -> float:
        if missing == 0:
            return 1.0
        if rank * missing > budget:
            return 0.0
        left = moments - rank + 1
        chance = 0.0
        if left > len(unseen):
            chance = (left - len(unseen)) / left * hit(rank + 1, unseen, missing, budget)
        for i, count in enumerate(unseen):
            taken = min(count, missing)
            chance += hit(rank + 1, unseen[:i] + unseen[i + 1 :], missing - taken, budget - rank * taken) / left
        return chance

    return hit(1, counts, wanted, k * wanted)


def _beside_chance(score: RetrievalScore | MomentScore) -> str:
    shown = []
    for name, value in asdict(score).items():
        if name not in ("n", "chance"):
            floor = f" (chance {getattr(score.chance, name):.4g})" if score.chance else ""
            shown.append(f"{name} {value:.4g}{floor}")
    return f"{type(score).__name__}({', '.join(shown)}, n {score.n})"
