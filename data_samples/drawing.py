"""A plan becomes frames, and frames an mp4: scene, tool and thing composited from sprites, in frame sides."""

import colorsys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import av
import numpy as np
from motion import Manner, pose
from PIL import Image, ImageDraw
from sprites import icon, tool
from vocabulary import ACTIONS, THINGS, TOPICS
from world import Plan, Step, topic_things

FRAME, FPS = 160, 6
THING = 0.6  # a thing's height as a part of the frame's
TOOL_SIZE = {"pan": 0.92, "hand": 0.54, "bottle": 0.58}
PRESENTER_IN_GAP, PRESENTER_IN_STEP = 0.65, 0.35  # how often


def colour(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue % 360 / 360, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


@cache
def scenery(topic: str, style: str) -> Image.Image:
    """Wall with the topic's pattern and its furniture; the second style redraws both in the topic's hue."""
    index, hue, first = list(TOPICS).index(topic), TOPICS[topic][0], style == "noto"
    side = 2 * FRAME
    wall = colour(hue, 0.35 + 0.2 * (index % 2), 0.95) if first else colour(hue + 8, 0.45 + 0.2 * (index % 2), 0.85)
    ink = colour(hue + 25, 0.5, 0.85) if first else colour(hue - 15, 0.55, 0.7)
    image = Image.new("RGB", (side, side), wall)
    draw = ImageDraw.Draw(image)
    _pattern(draw, index % 6, side, 40 if first else 56, ink)
    wood = colour(hue * 5 + 40, 0.45, 0.6) if first else colour(hue * 5 + 52, 0.55, 0.5)
    _furniture(draw, index // 6 % 4, side, wood, colour(hue * 5 + 40, 0.3, 0.8 if first else 0.68), first)
    return image.resize((FRAME, FRAME), Image.Resampling.LANCZOS)


def _pattern(draw: ImageDraw.ImageDraw, kind: int, side: int, pitch: int, ink: tuple[int, int, int]) -> None:
    for a in range(-side, 2 * side, pitch):
        if kind == 0:
            draw.line((a, 0, a, side), fill=ink, width=pitch // 3)
        elif kind == 1:
            draw.line((0, a, side, a), fill=ink, width=pitch // 3)
        elif kind == 2:
            draw.line((a, 0, a + side, side), fill=ink, width=pitch // 4)
        for b in range(0, side, pitch):
            if kind == 3:
                draw.ellipse((a, b, a + pitch // 2, b + pitch // 2), fill=ink)
            elif kind == 4 and (a + b) // pitch % 2:
                draw.rectangle((a, b, a + pitch, b + pitch), fill=ink)


def _furniture(draw: ImageDraw.ImageDraw, kind: int, side: int, wood, light, first: bool) -> None:
    top = round(side * (0.64 if first else 0.67))
    if kind == 0:  # planks
        draw.rectangle((0, top, side, side), fill=wood)
        for y in range(top, side, 32 if first else 44):
            draw.line((0, y, side, y), fill=light, width=4)
    elif kind == 1:  # a table with a cloth
        draw.rectangle((0, top, side, side), fill=light)
        for x in range(0, side, 48):
            shape = (x, top + 16, x + 48, top + 64)
            draw.ellipse(shape, fill=wood) if first else draw.rectangle((*shape[:2], x + 30, side), fill=wood)
    elif kind == 2:  # a round table
        draw.ellipse((-side // 8, top - 20, side + side // 8, side + side // 3), fill=wood)
        draw.ellipse((-side // 8 + 16, top, side + side // 8 - 16, side + side // 3), fill=light)
    else:  # a counter
        draw.rectangle((0, top, side, side), fill=wood)
        draw.rectangle((0, top, side, top + (28 if first else 16)), fill=light)


def place(frame: Image.Image, sprite: Image.Image, x: float, y: float, size: float, angle=0.0, height=1.0) -> None:
    """Paste `sprite` with its centre at (x, y), `size` wide, `height` times as high, turned by `angle` degrees."""
    wide = max(2, round(size * FRAME))
    drawn = sprite.resize((wide, max(2, round(wide * height))), Image.Resampling.BILINEAR, reducing_gap=1.5)
    if angle:
        drawn = drawn.rotate(angle, Image.Resampling.BILINEAR, expand=True)
    frame.paste(drawn, (round(x * FRAME - drawn.width / 2), round(y * FRAME - drawn.height / 2)), drawn)


def video_frames(plan: Plan, fps: int = FPS) -> Iterator[np.ndarray]:
    """uint8 (FRAME, FRAME, 3) frames of the whole video, `fps` a second."""
    rng = np.random.default_rng(plan.seed)
    decor = rng.uniform(-0.03, 0.03, (2, 2)), rng.uniform(0.2, 0.27, 2), rng.permutation(2)
    others = list(rng.permutation([t for t in topic_things()[plan.topic] if t not in {s.thing for s in plan.steps}]))
    clock = 0
    for step in plan.steps:
        yield from _gap(plan, step.start - clock, rng, fps, decor, others)
        yield from _step(plan, step, rng, fps, decor, others)
        clock = step.end
    yield from _gap(plan, plan.seconds - clock, rng, fps, decor, others)


def _scene(plan: Plan, decor, others: list[str], rng: np.random.Generator) -> Image.Image:
    """Scenery, the topic's two decor icons, and small things of the topic lying about."""
    frame = scenery(plan.topic, plan.style).copy()
    jitter, sizes, order = decor
    for i, name in enumerate(TOPICS[plan.topic][1]):
        x = (0.15, 0.85)[order[i]] + jitter[i, 0]
        place(frame, icon(plan.style, name), x, 0.16 + jitter[i, 1], sizes[i])
    for x in (0.1, 0.9):
        if others and rng.random() < 0.7:
            name = THINGS[others[rng.integers(len(others))]][0]
            place(frame, icon(plan.style, name), x, rng.uniform(0.84, 0.92), rng.uniform(0.13, 0.17))
    return frame


def _gap(plan: Plan, seconds: int, rng: np.random.Generator, fps: int, decor, others) -> Iterator[np.ndarray]:
    frame = _scene(plan, decor, others, rng)
    talks, x, phase, size = (
        rng.random() < PRESENTER_IN_GAP,
        rng.uniform(0.35, 0.65),
        rng.random(),
        rng.uniform(0.5, 0.7),
    )
    for i in range(seconds * fps):
        shown = frame.copy()
        if talks:
            sway = np.sin(2 * np.pi * (0.4 * i / fps + phase))
            place(shown, icon(plan.style, plan.presenter), x + 0.02 * sway, 0.55 + 0.01 * sway, size, 4 * sway)
        yield np.asarray(shown)


def _step(plan: Plan, step: Step, rng: np.random.Generator, fps: int, decor, others) -> Iterator[np.ndarray]:
    scene = _scene(plan, decor, others, rng)
    if rng.random() < PRESENTER_IN_STEP:
        place(scene, icon(plan.style, plan.presenter), rng.choice([0.14, 0.86]), 0.5, rng.uniform(0.3, 0.36))
    manner, x, y = Manner.draw(rng), rng.uniform(0.44, 0.56), rng.uniform(0.56, 0.64)
    size = THING * rng.uniform(0.93, 1.07)
    name = ACTIONS[step.action].tool
    thing, held, width = icon(plan.style, THINGS[step.thing][0]), tool(plan.style, name), TOOL_SIZE.get(name, 0.6)
    for i in range((step.end - step.start) * fps):
        p, frame = pose(step.action, i / fps, manner), scene.copy()
        at_thing = (x + p.thing_x, y + p.thing_y, size, p.thing_angle, p.thing_height)
        at_tool = (x + p.tool_x, y + p.tool_y, width, p.tool_angle)
        if name == "pan":
            place(frame, held, *at_tool)
        place(frame, thing, *at_thing)
        if name != "pan":
            place(frame, held, *at_tool)
        if name == "bottle":
            _drops(frame, at_tool, rng)
        yield np.asarray(frame)


def _drops(frame: Image.Image, at_tool: tuple, rng: np.random.Generator) -> None:
    draw = ImageDraw.Draw(frame)
    for _ in range(4):
        x, y = FRAME * (at_tool[0] + rng.uniform(-0.08, 0.08)), FRAME * (at_tool[1] + rng.uniform(0.2, 0.32))
        draw.ellipse((x - 2, y - 2, x + 2, y + 2), fill="#5d2e0c")


def write_mp4(path: Path, frames: Iterable[np.ndarray], fps: int = FPS) -> None:
    """H.264 in mp4, one thread, so that the same plan gives the same bytes."""
    temporary = path.with_suffix(".part.mp4")
    with av.open(str(temporary), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "veryfast", "crf": "23", "threads": "1"})
        stream.width = stream.height = FRAME
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24")))
        container.mux(stream.encode())
    temporary.replace(path)
