"""A contact sheet a topic: frames of one training video above, of one video in the unseen style below."""

from itertools import islice
from pathlib import Path

import numpy as np
from drawing import FPS, FRAME, video_frames
from PIL import Image, ImageDraw
from world import Plan

COLUMNS, MARGIN = 6, 14


def write_sheet(topic: str, splits: dict[str, list[Plan]], folder: Path) -> None:
    """`<topic>.jpg` in `folder`: six frames a row, each step named above its frames."""
    sheet = Image.new("RGB", (COLUMNS * FRAME, 2 * (FRAME + MARGIN)), "white")
    for row, split in enumerate(("train", "unseen")):
        plan = next(plan for plan in splits[split] if plan.topic == topic)
        _row(sheet, row * (FRAME + MARGIN), plan)
    folder.mkdir(parents=True, exist_ok=True)
    sheet.save(folder / f"{topic.replace(' ', '_')}.jpg", quality=80)


def _row(sheet: Image.Image, top: int, plan: Plan) -> None:
    draw = ImageDraw.Draw(sheet)
    moments = [(1.0, plan.video_id)]
    moments += [(step.start + 2.0, f"{step.action} {step.thing}") for step in plan.steps]
    first = plan.steps[0]
    moments = (moments + [(first.start + 2.5, "half a second later")])[:COLUMNS]
    for column, (second, label) in enumerate(sorted(moments)):
        frame: np.ndarray = next(islice(video_frames(plan), round(second * FPS), None))
        sheet.paste(Image.fromarray(frame), (column * FRAME, top + MARGIN))
        draw.text((column * FRAME + 3, top), label, fill="black")
