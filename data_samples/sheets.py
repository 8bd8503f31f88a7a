"""A contact sheet a topic: frames of one training video above, of one video in the unseen style below."""

from pathlib import Path

from drawing import FPS, FRAME, video_frames
from PIL import Image, ImageDraw
from world import Plan

COLUMNS, MARGIN = 6, 14
QUALITY = 28  # of the 42 sheets, for 1.3 MB in all


def write_sheet(topic: str, splits: dict[str, list[Plan]], folder: Path) -> None:
    """`<topic>.jpg` in `folder`: six frames a row, each step named above its frame."""
    sheet = Image.new("RGB", (COLUMNS * FRAME, 2 * (FRAME + MARGIN)), "white")
    for row, split in enumerate(("train", "unseen")):
        plan = next(plan for plan in splits[split] if plan.topic == topic)
        _row(sheet, row * (FRAME + MARGIN), plan)
    folder.mkdir(parents=True, exist_ok=True)
    sheet.save(folder / f"{topic.replace(' ', '_')}.jpg", quality=QUALITY, optimize=True, progressive=True)


def _row(sheet: Image.Image, top: int, plan: Plan) -> None:
    labels = {1.0: plan.video_id} | {step.start + 2.0: f"{step.action} {step.thing}" for step in plan.steps}
    labels[plan.steps[0].start + 2.5] = "half a second later"
    wanted = {round(second * FPS): label for second, label in sorted(labels.items())[:COLUMNS]}
    draw, column = ImageDraw.Draw(sheet), 0
    for i, frame in enumerate(video_frames(plan)):
        if i in wanted:
            sheet.paste(Image.fromarray(frame), (column * FRAME, top + MARGIN))
            draw.text((column * FRAME + 3, top), wanted[i], fill="black")
            column += 1
