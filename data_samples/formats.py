"""The further test sets in the layouts of the official files: MSR-VTT, DiDeMo, COIN, CrossTask."""

import csv
import io
import json
from collections.abc import Iterable, Sequence

import numpy as np
from testsets import BLOCK, STYLES, Task, coin_tasks, crosstask_tasks, plans
from vocabulary import ACTIONS, THINGS
from world import SEED, Plan, Step

SUBJECTS = ("someone is", "a person is", "a cook is")  # and "a man is" or "a woman is", as the presenter is
WITH_TAIL = 0.6  # how often a sentence says how, as in the sentences in YouCook2's format
TRUE_BLOCKS = 0.75  # how often an annotator gives a moment's true blocks; else one end is off by a block
TWO_STEPS = 0.3  # fraction of DiDeMo's videos with a description of two neighbouring steps


def files(dataset: str, style: str) -> dict[str, str]:
    """The official files of a set, name -> content, the same at every call."""
    videos = plans(dataset, style)
    write = {"msrvtt": _msrvtt, "didemo": _didemo, "coin": _coin, "crosstask": _crosstask}[dataset]
    return write(videos, style)


def sentence(plan: Plan, steps: Sequence[Step], rng: np.random.Generator) -> str:
    """Some steps of a plan as MSR-VTT's annotators put it: "a person is dicing the aubergine into small pieces"."""

    def pick(options: Sequence):
        return options[rng.integers(len(options))]

    parts = []
    for step in steps:
        tail = f" {pick(ACTIONS[step.action].tails)}" if rng.random() < WITH_TAIL else ""
        parts.append(f"{pick(ACTIONS[step.action].verbs)[1]} the {pick(THINGS[step.thing][1])}{tail}")
    subject = pick((*SUBJECTS, f"a {plan.presenter.split('-')[0]} is"))
    # tails are spoken to the viewer ("with your palm"), a description is not
    return f"{subject} {' and then '.join(parts)}".replace(" your ", " the ")


def _table(rows: Iterable[Sequence], delimiter: str = ",") -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _msrvtt(videos: list[Plan], style: str) -> dict[str, str]:
    sentences = [sentence(plan, plan.steps, np.random.default_rng([plan.seed, 12])) for plan in videos]
    keys = [plan.video_id.replace("video", "msr") for plan in videos]
    rows = [(f"ret{i}", keys[i], plan.video_id, sentences[i]) for i, plan in enumerate(videos)]
    out = {"MSRVTT_JSFUSION_test.csv": _table([("key", "vid_key", "video_id", "sentence"), *rows])}
    rng = np.random.default_rng([SEED, 6, list(STYLES).index(style)])
    for name, distractors in (("MSR_MC_test.csv", _far), ("MSR_MC_test_hard.csv", _near)):
        questions = []
        for i, key in enumerate(keys):
            choices, answer = [sentences[j] for j in distractors(videos, i, rng)], int(rng.integers(5))
            questions.append((i, key, *choices[:answer], sentences[i], *choices[answer:], answer))
        out[name] = _table([("key", "vid_key", "a1", "a2", "a3", "a4", "a5", "answer"), *questions], "\t")
    return out


def _kin(videos: list[Plan], i: int) -> list[tuple[bool, bool]]:
    """Whether each clip shares the action and whether it shares the thing with clip i."""
    own = videos[i].steps[0]
    return [(plan.steps[0].action == own.action, plan.steps[0].thing == own.thing) for plan in videos]


def _far(videos: list[Plan], i: int, rng: np.random.Generator) -> list[int]:
    """Four clips that share neither action nor thing with clip i."""
    return [int(j) for j in rng.choice([j for j, kin in enumerate(_kin(videos, i)) if not any(kin)], 4, replace=False)]


def _near(videos: list[Plan], i: int, rng: np.random.Generator) -> list[int]:
    """Two clips that share the action alone with clip i and two that share the thing alone, in random order."""
    kin = _kin(videos, i)
    two = [rng.choice([j for j, k in enumerate(kin) if k == kind], 2, replace=False) for kind in ((1, 0), (0, 1))]
    return [int(j) for j in rng.permutation(np.concatenate(two))]


def _didemo(videos: list[Plan], style: str) -> dict[str, str]:
    rows = []
    for plan in videos:
        rng = np.random.default_rng([plan.seed, 12])
        told = [(step,) for step in plan.steps]
        if rng.random() < TWO_STEPS:
            i = rng.integers(len(plan.steps) - 1)
            told.append(plan.steps[i : i + 2])
        for steps in told:
            blocks = steps[0].start // BLOCK, steps[-1].end // BLOCK - 1
            rows.append(
                {
                    "num_segments": plan.seconds // BLOCK,
                    "description": sentence(plan, steps, rng),
                    "dl_link": "none",
                    "times": [_annotator(blocks, rng) for _ in range(4)],
                    "video": plan.video_id,
                    "annotation_id": len(rows) + 10_000 * list(STYLES).index(style),
                }
            )
    return {"test_data.json": _json(rows)}


def _annotator(blocks: tuple[int, int], rng: np.random.Generator) -> list[int]:
    """The moment's first and last block as one annotator gives them."""
    first, last = blocks
    if rng.random() < TRUE_BLOCKS:
        return [first, last]
    off = [(first - 1, last), (first + 1, last), (first, last - 1), (first, last + 1)]
    possible = [(a, b) for a, b in off if 0 <= a <= b <= 5]
    return list(possible[rng.integers(len(possible))])


def _json(value) -> str:
    return json.dumps(value, indent=1) + "\n"


def _coin(videos: list[Plan], style: str) -> dict[str, str]:
    tasks = coin_tasks()
    number = {task.topic: i for i, task in enumerate(tasks)}
    ids = {(task.topic, pair): 4 * i + k + 1 for i, task in enumerate(tasks) for k, pair in enumerate(task.pairs)}
    texts = [text for task in tasks for text in task.texts]
    database = {}
    for plan in videos:
        steps = [(ids[plan.topic, (step.action, step.thing)], step) for step in plan.steps]
        database[plan.video_id] = {
            "recipe_type": number[plan.topic],
            "class": plan.topic.title().replace(" ", ""),
            "subset": plan.split,
            "duration": float(plan.seconds),
            "start": 0.0,
            "end": float(plan.seconds),
            "video_url": plan.video_id,
            "annotation": [
                {"id": str(i), "segment": [float(step.start), float(step.end)], "label": texts[i - 1]}
                for i, step in steps
            ],
        }
    return {"COIN.json": _json({"database": database})}


def _crosstask(videos: list[Plan], style: str) -> dict[str, str]:
    primary, related = crosstask_tasks()
    task_id = {task.topic: str(10_001 + i) for i, task in enumerate((*primary, *related))}
    number = {(task.topic, pair): k + 1 for task in primary for k, pair in enumerate(task.pairs)}

    def address(name: str) -> str:
        return f"https://example.org/{name.replace(' ', '-')}"

    def block(task: Task) -> str:
        lines = (task_id[task.topic], task.topic.title(), address(task.topic), len(task.texts),
                 ",".join(task.texts))  # fmt: skip
        return "".join(f"{line}\n" for line in (*lines, ""))

    def listed(chosen: Iterable[Plan]) -> str:
        return _table((task_id[p.topic], p.video_id, address(p.video_id)) for p in chosen)

    out = {
        "tasks_primary.txt": "".join(block(task) for task in primary),
        "tasks_related.txt": "".join(block(task) for task in related),
        "videos.csv": listed(videos),
        "videos_val.csv": listed(plan for plan in videos if plan.split == "validation"),
    }
    for plan in videos:
        rows = [(number[plan.topic, (s.action, s.thing)], f"{s.start:.1f}", f"{s.end:.1f}") for s in plan.steps]
        out[f"annotations/{task_id[plan.topic]}_{plan.video_id}.csv"] = _table(rows)
    return out


def thumbnail_seconds(plan: Plan) -> set[int]:
    """The seconds halfway in each step; none for COIN's training videos, which are scored by no notebook."""
    return set() if plan.split == "training" else {(step.start + step.end) // 2 for step in plan.steps}
