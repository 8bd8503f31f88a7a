"""Training sets in the formats of YouCook2 and MSR-VTT, made of the training videos: nothing is drawn for them.

YouCook2's clips are the steps of all training videos; MSR-VTT's are cut from them, as the real ones are from longer
videos. COIN and CrossTask have training videos of their own (`testsets.py`).
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tables
from formats import sentence
from world import SEED, Plan, Step, plans

from vclip.data.corpus import Corpus

MSRVTT_CLIPS = 240
MSRVTT_SECONDS = (7, 12)
MSRVTT_SENTENCES = 5  # of a clip, no two alike; the real ones have 20


class Cut(NamedTuple):
    """Clip `video_id`: seconds `start`:`end` of a training video, in which one step is seen whole."""

    video_id: str
    plan: Plan
    step: Step
    start: int
    end: int


def write(out: Path, licence: str) -> None:
    """Both sets from the training corpus in `out`: `youcook2/train` and `msrvtt/train`."""
    tables.write_youcook2(plans("train"), out / "youcook2" / "train", "training")
    folder, corpus = out / "msrvtt" / "train", Corpus.open(out / "train")
    assert corpus.spec is not None
    shutil.rmtree(folder, ignore_errors=True)
    rows = ((c.video_id, corpus.features(corpus.index(c.plan.video_id))[c.start : c.end], None) for c in cuts())
    Corpus.create(folder / "features", corpus.spec, rows, split="train", licence=licence)
    for name, text in msrvtt_files().items():
        (folder / name).write_text(text, encoding="utf-8")


def cuts() -> list[Cut]:
    """The clips, the same at every call: of as many videos, and no two of them show the same pair."""
    rng = np.random.default_rng([SEED, 8])
    steps = [(plan, step) for plan in plans("train") for step in plan.steps]
    chosen: list[Cut] = []
    videos, pairs = set(), set()
    for i in rng.permutation(len(steps)):
        plan, step = steps[i]
        if plan.video_id in videos or (step.action, step.thing) in pairs:
            continue
        chosen.append(Cut(f"video{len(chosen)}", plan, step, *_around(step, rng)))
        videos.add(plan.video_id)
        pairs.add((step.action, step.thing))
        if len(chosen) == MSRVTT_CLIPS:
            return chosen
    raise ValueError(f"{len(chosen)} videos show different pairs, {MSRVTT_CLIPS} were asked for")


def _around(step: Step, rng: np.random.Generator) -> tuple[int, int]:
    """The step with up to two seconds before it and after: gaps are that long, so no other step is seen."""
    while True:
        start, end = step.start - int(rng.integers(3)), step.end + int(rng.integers(3))
        if MSRVTT_SECONDS[0] <= end - start <= MSRVTT_SECONDS[1]:
            return start, end


def msrvtt_files() -> dict[str, str]:
    """The list and the captions in the official layout, name -> content; a clip's `url` names its training video."""
    chosen = cuts()
    videos = [
        {"id": i, "video_id": cut.video_id, "split": "train", "url": cut.plan.video_id,
         "start time": float(cut.start), "end time": float(cut.end)}
        for i, cut in enumerate(chosen)
    ]  # fmt: skip
    told = [(cut.video_id, text) for cut in chosen for text in _sentences(cut)]
    sentences = [{"caption": text, "video_id": video_id, "sen_id": i} for i, (video_id, text) in enumerate(told)]
    return {
        "MSRVTT_train.csv": "".join(f"{line}\n" for line in ("video_id", *(cut.video_id for cut in chosen))),
        "MSRVTT_data.json": _lines({"videos": videos, "sentences": sentences}),
    }


def _sentences(cut: Cut) -> Iterator[str]:
    rng, told = np.random.default_rng([cut.plan.seed, 13]), set()
    while len(told) < MSRVTT_SENTENCES:
        text = sentence(cut.plan, (cut.step,), rng)
        if text not in told:
            told.add(text)
            yield text


def _lines(lists: dict[str, list[dict]]) -> str:
    """JSON with a row a line."""
    body = (f"{json.dumps(name)}: [\n" + ",\n".join(map(json.dumps, rows)) + "\n]" for name, rows in lists.items())
    return "{" + ", ".join(body) + "}\n"
