"""MiniHowTo's world: which video of which split shows which steps, all drawn from one seed.

A video is a scene (topic, style, presenter) and a list of timed steps; everything else (pictures, narration) follows
from its `Plan`. `plan_video` is general: any list of (action, thing) pairs and any gaps make a plan.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from vocabulary import ACTIONS, PRESENTERS, THINGS, TOPICS

SEED = 2021
STYLES = {"train": "noto", "val": "noto", "test": "noto", "unseen": "fluent-emoji-flat"}
SIZES = {"train": 600, "val": 64, "test": 120, "unseen": 120}
THINGS_PER_TOPIC = 6
HELD_OUT = 50  # action-thing pairs that occur in no training or validation video
Pair = tuple[str, str]


@dataclass(frozen=True)
class Step:
    """`action` is done to `thing` from second `start` to second `end` (whole seconds, end exclusive)."""

    start: int
    end: int
    action: str
    thing: str


@dataclass(frozen=True)
class Plan:
    """A video before it is drawn; `seconds` long, `seed` drives every choice of the drawing."""

    video_id: str
    split: str
    style: str
    topic: str
    presenter: str
    seconds: int
    seed: int
    steps: tuple[Step, ...]


def topic_things() -> dict[str, tuple[str, ...]]:
    """Six things a topic, each thing in six topics: six random permutations of the things dealt to the topics."""
    rng = np.random.default_rng([SEED, 1])
    dealt: dict[str, list[str]] = {topic: [] for topic in TOPICS}
    things, topics = list(THINGS), list(TOPICS)
    while len(dealt[topics[0]]) < THINGS_PER_TOPIC:
        order = [things[i] for i in rng.permutation(len(things))]
        if all(thing not in dealt[topic] for thing, topic in zip(order, topics, strict=True)):
            for thing, topic in zip(order, topics, strict=True):
                dealt[topic].append(thing)
    return {topic: tuple(things) for topic, things in dealt.items()}


def held_out_pairs() -> set[Pair]:
    """Pairs seen only in test and unseen: at most two a thing, about four an action."""
    rng = np.random.default_rng([SEED, 2])
    things = list(THINGS) + list(rng.choice(list(THINGS), HELD_OUT - len(THINGS), replace=False))
    actions = [list(ACTIONS)[i % len(ACTIONS)] for i in range(HELD_OUT)]
    while True:
        pairs = {(actions[j], thing) for j, thing in zip(rng.permutation(HELD_OUT), things, strict=True)}
        if len(pairs) == HELD_OUT:
            return pairs


def plan_video(
    rng: np.random.Generator, video_id: str, split: str, style: str, topic: str, pairs: Sequence[Pair],
    step_seconds: tuple[int, int] = (6, 10), gap_seconds: tuple[int, int] = (2, 6), length: tuple[int, int] = (40, 65),
) -> Plan:  # fmt: skip
    """Lay steps and gaps end to end, whole seconds drawn uniformly from the (low, high) ranges, both included.

    Drawn again until the video's length falls within `length`.
    """
    while True:
        lasts = rng.integers(step_seconds[0], step_seconds[1] + 1, len(pairs))
        gaps = rng.integers(gap_seconds[0], gap_seconds[1] + 1, len(pairs) + 1)
        seconds = int(lasts.sum() + gaps.sum())
        if length[0] <= seconds <= length[1]:
            break
    starts = np.cumsum(gaps[:-1]) + np.cumsum(lasts) - lasts
    steps = tuple(Step(int(s), int(s + n), *pair) for s, n, pair in zip(starts, lasts, pairs, strict=True))
    presenter = PRESENTERS[rng.integers(len(PRESENTERS))]
    return Plan(video_id, split, style, topic, presenter, seconds, int(rng.integers(2**31)), steps)


def plans(split: str) -> list[Plan]:
    """All videos of a split, the same at every call. Topics take turns in shuffled rounds."""
    number, style = SIZES[split], STYLES[split]
    rng = np.random.default_rng([SEED, 3, list(SIZES).index(split)])
    rounds = [rng.permutation(list(TOPICS)) for _ in range(-(-number // len(TOPICS)))]
    topics = [str(t) for t in np.concatenate(rounds)[:number]]
    pairs = _random_pairs(topics, rng) if split in ("train", "val") else _unique_pairs(topics, rng)
    return [
        plan_video(rng, f"{split}{i:04d}", split, style, topic, chosen)
        for i, (topic, chosen) in enumerate(zip(topics, pairs, strict=True))
    ]


def _random_pairs(topics: list[str], rng: np.random.Generator) -> list[list[Pair]]:
    """Four or five things of the topic a video, each with any action that the held-out pairs leave."""
    owned, held = topic_things(), held_out_pairs()
    allowed = {thing: [a for a in ACTIONS if (a, thing) not in held] for thing in THINGS}
    videos = []
    for topic in topics:
        things = rng.permutation(list(owned[topic]))[: rng.integers(4, 6)]
        videos.append([(allowed[thing][rng.integers(len(allowed[thing]))], str(thing)) for thing in things])
    return videos


def _unique_pairs(topics: list[str], rng: np.random.Generator) -> list[list[Pair]]:
    """Four steps a video, no pair twice in the whole set: each video takes the things with most actions left."""
    owned = topic_things()
    left: dict[str, list[str]] = {thing: [str(a) for a in rng.permutation(list(ACTIONS))] for thing in THINGS}
    supply = defaultdict(int)  # how many videos may still use a thing: rare ones go first
    for topic in topics:
        for thing in owned[topic]:
            supply[thing] += 1
    videos = []
    for topic in topics:
        need = {thing: len(left[thing]) / max(supply[thing], 1) + 1e-3 * rng.random() for thing in owned[topic]}
        chosen: list[Pair] = []
        for thing in sorted(need, key=need.__getitem__, reverse=True):
            fresh = [a for a in left[thing] if a not in [c[0] for c in chosen]]
            if fresh and len(chosen) < 4:
                left[thing].remove(fresh[0])
                chosen.append((fresh[0], thing))
            supply[thing] -= 1
        videos.append([chosen[i] for i in rng.permutation(len(chosen))])
    return videos
