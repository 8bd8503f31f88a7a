"""One video's share of the build: drawn, written as mp4, read back by the real decoder, encoded, kept in the cache."""

import hashlib
import os
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from drawing import video_frames, write_mp4
from sprites import cache_folder
from world import Plan

from vclip.data.video import read_seconds
from vclip.encoders.networks import EfficientNetLite0

FPS, SIZE = 3, 128
SOURCES = ("vocabulary.py", "world.py", "sprites.py", "motion.py", "drawing.py", "work.py")


class Encoded(NamedTuple):
    """`features` (T, 2560) float16; `still` (S, 1280) float16: one frame alone, of the second halfway in each step."""

    features: np.ndarray
    still: np.ndarray


def work_folder() -> Path:
    """In the cache, named by what the pictures depend on: a change of the world starts afresh."""
    code = b"".join((Path(__file__).parent / name).read_bytes() for name in SOURCES)
    folder = cache_folder() / f"build-{hashlib.sha256(code).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def kept(plan: Plan, suffix: str) -> Path:
    """Where the cache keeps a plan's mp4 or npz: a plan that differs has another name."""
    return work_folder() / f"{plan.video_id}-{hashlib.sha256(repr(plan).encode()).hexdigest()[:8]}.{suffix}"


@cache
def encoder() -> EfficientNetLite0:
    torch.set_num_threads(1)
    return EfficientNetLite0(fps=FPS, size=SIZE)


def build(plan: Plan) -> str:
    """Encode a video and keep its mp4; done already: nothing. Returns the id."""
    done, mp4 = kept(plan, "npz"), kept(plan, "mp4")
    if done.exists() and mp4.exists():
        return plan.video_id
    write_mp4(mp4, video_frames(plan))
    seconds = np.stack([block.copy() for block in read_seconds(mp4, FPS, SIZE)])
    if len(seconds) != plan.seconds:
        raise RuntimeError(f"{mp4} has {len(seconds)} seconds, planned were {plan.seconds}")
    middle = [(step.start + step.end) // 2 for step in plan.steps]
    still = encoder()(np.repeat(seconds[middle, FPS // 2 : FPS // 2 + 1], FPS, axis=1))[:, :1280]
    temporary = done.with_suffix(f".{os.getpid()}.part.npz")
    np.savez(
        temporary,
        features=encoder()(seconds).astype(np.float16),
        still=still.astype(np.float16),
    )
    temporary.replace(done)
    return plan.video_id


def load(plan: Plan) -> Encoded:
    with np.load(kept(plan, "npz"), allow_pickle=False) as file:
        return Encoded(file["features"], file["still"])
