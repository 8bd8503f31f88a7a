"""Validation videos held out of a training split, so that no checkpoint need be chosen on test data."""

import copy
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import TypeVar

import numpy as np

from vclip.datasets import Dataset

D = TypeVar("D", bound=Dataset)


def hold_out(
    dataset: D, share: float, seed: int, traits: Callable[[object], tuple[Hashable, Iterable[Hashable]]]
) -> tuple[D, D]:
    """The records of the videos to train on and of those held out: `share` of the videos, drawn by `seed`.

    `traits(record)` is the stratum of a record (its task, say) and its labels. Strata are drawn from in proportion, and
    a video stays in training if without it a label would be left that no training video shows.
    All records of a video go the same way. Raises ValueError if no video can be held out.
    """
    strata: dict[str, Hashable] = {}
    labels: dict[str, set] = defaultdict(set)
    for record in dataset:
        stratum, shown = traits(record)
        strata.setdefault(record.video_id, stratum)
        labels[record.video_id].update(shown)
    trained = Counter(label for shown in labels.values() for label in shown)
    wanted, held = max(1, round(share * len(strata))), set()
    for video_id in _in_proportion(strata, np.random.default_rng(seed)):
        if len(held) < wanted and len(strata) > 1 and all(trained[label] > 1 for label in labels[video_id]):
            held.add(video_id)
            trained.subtract(labels[video_id])
    if not held:
        raise ValueError(
            f"of {dataset} no video can be held out, for each has a label that no other shows: give `validation`"
        )
    kept = [record for record in dataset if record.video_id not in held]
    others = [record for record in dataset if record.video_id in held]
    return subset(dataset, kept), subset(dataset, others, f"{dataset.split}, held out")


def subset(dataset: D, records: Sequence, split: str | None = None) -> D:
    """The same data set with these records only."""
    part = copy.copy(dataset)
    part.records, part.split, part.left_out = list(records), split or dataset.split, []
    return part


def _in_proportion(strata: dict[str, Hashable], rng: np.random.Generator) -> list[str]:
    """All videos in an order whose every beginning has of each stratum about the same share."""
    videos = list(strata)
    drawn = [videos[i] for i in rng.permutation(len(videos))]
    size, place = Counter(strata.values()), Counter()
    key = {}
    for video_id in drawn:
        stratum = strata[video_id]
        key[video_id] = (place[stratum] + 0.5) / size[stratum]
        place[stratum] += 1
    return sorted(drawn, key=key.__getitem__)
