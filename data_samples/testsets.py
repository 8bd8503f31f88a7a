"""Videos of the further test sets, shaped as MSR-VTT, DiDeMo, COIN and CrossTask are, each in both styles.

The world is that of `world.py`; here is only which video shows which steps when. `formats.py` writes the files.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from itertools import cycle, islice
from typing import NamedTuple

import numpy as np
from vocabulary import ACTIONS, PRESENTERS, THINGS, TOPICS
from world import SEED, Pair, Plan, Step, plan_video, topic_things

DATASETS = ("msrvtt", "didemo", "coin", "crosstask")
STYLES = {"test": "noto", "unseen": "fluent-emoji-flat"}
BLOCK = 5  # seconds of one of a DiDeMo video's six blocks
OUT_OF_ORDER = 0.15  # fraction of COIN's and CrossTask's videos in which two neighbouring steps are swapped
SHOWN_AGAIN = 0.1  # fraction of CrossTask's videos whose last step is one shown before
SHARED_TEXTS = 2  # texts of COIN's that are steps of two tasks: 46 texts for 48 ids, as 749 for 778 in the real one
COIN_TESTING, COIN_TRAINING, COIN_THREE = 64, 32, 1 / 3  # videos, videos, fraction of them with three steps, not four
COIN_GAPS = {3: (7, 11), 4: (6, 11)}  # seconds, by number of steps: some 60 % of the time is Outside
CROSSTASK_SECONDS = (62, 70)  # with the two lines below about two thirds of the time show no step, as in the real one
CROSSTASK_STEP_SECONDS = (4, 5)
CROSSTASK_STEPS = {4: 0.3, 5: 0.4, 6: 0.3}  # how often a video has so many: 70 % of a task's steps, as in the real one
CROSSTASK_EACH = {"test": 16, "unseen": 12}  # videos a task
CROSSTASK_VALIDATION = 4  # of them, in the training style, listed in videos_val.csv


class Task(NamedTuple):
    """A topic's steps in their order, with one fixed text each."""

    topic: str
    pairs: tuple[Pair, ...]
    texts: tuple[str, ...]


def plans(dataset: str, style: str) -> list[Plan]:
    """All videos of a set, the same at every call. A plan's `split` is its part of the data set."""
    rng = np.random.default_rng([SEED, 4, DATASETS.index(dataset), list(STYLES).index(style)])
    return list({"msrvtt": _msrvtt, "didemo": _didemo, "coin": _coin, "crosstask": _crosstask}[dataset](rng, style))


def _msrvtt(rng: np.random.Generator, style: str) -> Iterable[Plan]:
    topics = _turns(list(TOPICS), 200, rng)
    first = {"test": 7010, "unseen": 8010}[style]
    for i, (topic, pairs) in enumerate(zip(topics, different_pairs(topics, 1, rng), strict=True)):
        video_id = f"video{first + i}"
        yield plan_video(rng, video_id, "test", STYLES[style], topic, pairs, (7, 10), (1, 4), (10, 14))


def _didemo(rng: np.random.Generator, style: str) -> Iterable[Plan]:
    topics = _turns(list(TOPICS), 100, rng)
    first = {"test": 1, "unseen": 1001}[style]
    for i, (topic, pairs) in enumerate(zip(topics, different_pairs(topics, 3, rng), strict=True)):
        video_id = f"vid{first + i:04d}.mp4"
        plan = plan_video(rng, video_id, "test", STYLES[style], topic, pairs, (1, 2), (0, 1), (6, 6))  # in blocks
        steps = tuple(replace(step, start=BLOCK * step.start, end=BLOCK * step.end) for step in plan.steps)
        yield replace(plan, seconds=BLOCK * plan.seconds, steps=steps)


def _coin(rng: np.random.Generator, style: str) -> Iterable[Plan]:
    tasks = {task.topic: task for task in coin_tasks()}
    parts = {"testing": COIN_TESTING} | ({"training": COIN_TRAINING} if style == "test" else {})
    for part, number in parts.items():
        name = style if part == "testing" else "training"
        for i, topic in enumerate(_turns(list(tasks), number, rng)):
            order = _order(rng, 3 if rng.random() < COIN_THREE else 4, len(tasks[topic].pairs))
            pairs = [tasks[topic].pairs[k] for k in order]
            gaps = COIN_GAPS[len(pairs)]
            yield plan_video(rng, f"coin-{name}{i:03d}", part, STYLES[style], topic, pairs, (6, 8), gaps, (55, 75))


def _crosstask(rng: np.random.Generator, style: str) -> Iterable[Plan]:
    tasks = {task.topic: task for task in crosstask_tasks()[0]}
    number = len(tasks) * CROSSTASK_EACH[style]
    validation = len(tasks) * CROSSTASK_VALIDATION if style == "test" else 0
    for i, topic in enumerate(_turns(list(tasks), number, rng)):
        steps = int(rng.choice(list(CROSSTASK_STEPS), p=list(CROSSTASK_STEPS.values())))
        order = _order(rng, steps, len(tasks[topic].pairs), SHOWN_AGAIN)
        pairs = [tasks[topic].pairs[k] for k in order]
        part = "validation" if i >= number - validation else "test"
        yield _scattered(rng, f"cross-{style}{i:03d}", part, STYLES[style], topic, pairs)


def _scattered(
    rng: np.random.Generator, video_id: str, split: str, style: str, topic: str, pairs: Sequence[Pair]
) -> Plan:
    """CrossTask's steps with uneven gaps: all ways to cut the free seconds into gaps of at least 1 s are as likely."""
    seconds = int(rng.integers(CROSSTASK_SECONDS[0], CROSSTASK_SECONDS[1] + 1))
    lasts = rng.integers(CROSSTASK_STEP_SECONDS[0], CROSSTASK_STEP_SECONDS[1] + 1, len(pairs))
    free = seconds - int(lasts.sum())
    cuts = np.sort(rng.choice(np.arange(1, free), len(pairs), replace=False))  # free seconds before each step
    starts = cuts + np.cumsum(lasts) - lasts
    steps = tuple(Step(int(s), int(s + n), *pair) for s, n, pair in zip(starts, lasts, pairs, strict=True))
    presenter = PRESENTERS[rng.integers(len(PRESENTERS))]
    return Plan(video_id, split, style, topic, presenter, seconds, int(rng.integers(2**31)), steps)


def _turns(topics: Sequence[str], number: int, rng: np.random.Generator) -> list[str]:
    """Topics in shuffled rounds, so that each comes as often as any other, give or take one."""
    rounds = [rng.permutation(list(topics)) for _ in range(-(-number // len(topics)))]
    return [str(topic) for topic in np.concatenate(rounds)[:number]]


def _order(rng: np.random.Generator, number: int, of: int, again: float = 0.0) -> list[int]:
    """`number` of a task's steps in its order, but for the fractions of videos that OUT_OF_ORDER and `again` name."""
    repeats = rng.random() < again
    steps = sorted(int(k) for k in rng.choice(of, number - repeats, replace=False))
    if repeats:
        steps.append(steps[rng.integers(len(steps) - 1)])
    elif rng.random() < OUT_OF_ORDER:
        i = rng.integers(number - 1)
        steps[i], steps[i + 1] = steps[i + 1], steps[i]
    return steps


def different_pairs(topics: Sequence[str], each: int, rng: np.random.Generator) -> list[list[Pair]]:
    """`each` pairs a video, of different actions, no pair twice in all.

    The topic's things that came least often go first, each with the action that came least often of those left to it;
    where there are more pairs than things, they go round again.
    """
    owned, used = topic_things(), set()
    things, actions = Counter(), Counter()
    videos = []
    for topic in topics:
        chosen: list[Pair] = []
        ranked = sorted(owned[topic], key=lambda thing: (things[thing], rng.random()))
        for thing in islice(cycle(ranked), each):
            free = [a for a in ACTIONS if (a, thing) not in used and a not in {pair[0] for pair in chosen}]
            action = min(free, key=lambda action: (actions[action], rng.random()))
            chosen.append((action, thing))
            things[thing] += 1
            actions[action] += 1
        used.update(chosen)
        videos.append([chosen[i] for i in rng.permutation(each)])
    return videos


@cache
def coin_tasks() -> tuple[Task, ...]:
    """Twelve tasks of four steps. Of the tasks that own the same thing, two pairs of tasks do the same to it."""
    rng = np.random.default_rng([SEED, 5, 0])
    topics = _topics()[:12]
    videos = different_pairs(topics, 4, rng)
    steps = [(task, k) for task in range(12) for k in range(4)]
    both = [(one, two) for one in steps for two in steps if one[0] < two[0]]
    touched: set[int] = set()
    for n in rng.permutation(len(both)):
        (i, a), (j, b) = both[n]
        action, thing = videos[i][a]
        fits = thing == videos[j][b][1] and action not in {other for other, _ in videos[j]}
        if fits and not touched & {i, j} and len(touched) < 2 * SHARED_TEXTS:
            videos[j][b] = action, thing
            touched |= {i, j}
    return _tasks(topics, videos, rng)


@cache
def crosstask_tasks() -> tuple[tuple[Task, ...], tuple[Task, ...]]:
    """Six primary tasks and two related ones without videos, of seven steps each and of other topics than COIN's."""
    rng = np.random.default_rng([SEED, 5, 1])
    topics = _topics()[12:20]
    tasks = _tasks(topics, different_pairs(topics, 7, rng), rng)
    return tasks[:6], tasks[6:]


def _topics() -> list[str]:
    return _turns(list(TOPICS), len(TOPICS), np.random.default_rng([SEED, 5]))


def _tasks(topics: Sequence[str], videos: list[list[Pair]], rng: np.random.Generator) -> tuple[Task, ...]:
    texts: dict[Pair, str] = {}
    for action, thing in dict.fromkeys(pair for pairs in videos for pair in pairs):
        verbs, names = ACTIONS[action].verbs, THINGS[thing][1]
        texts[action, thing] = f"{verbs[rng.integers(len(verbs))][0]} the {names[rng.integers(len(names))]}"
    return tuple(
        Task(topic, tuple(pairs), tuple(texts[pair] for pair in pairs))
        for topic, pairs in zip(topics, videos, strict=True)
    )
