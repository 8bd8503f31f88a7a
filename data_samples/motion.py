"""How tools and things move: 12 actions, two a tool.

The two actions of a tool sweep the same places and angles, so that a still frame does not tell them apart; one is
fast (about 1.2 cycles a second, seen within a second) and one slow (a cycle in ten seconds).
"""

from dataclasses import dataclass
from math import cos, pi, sin

import numpy as np


@dataclass(frozen=True)
class Manner:
    """What one step's motion draws once: phase (cycles), tempo (a factor), where the tool works and how it is held."""

    phase: float
    tempo: float
    x: float
    y: float
    angle: float

    @staticmethod
    def draw(rng: np.random.Generator) -> "Manner":
        return Manner(
            rng.random(), rng.uniform(0.9, 1.12), rng.uniform(-0.08, 0.08), rng.uniform(-0.06, 0.06), rng.uniform(-1, 1)
        )


@dataclass(frozen=True)
class Pose:
    """Offsets in frame sides from the thing's place, angles in degrees anticlockwise, `thing_height` a factor."""

    tool_x: float
    tool_y: float
    tool_angle: float
    thing_x: float = 0.0
    thing_y: float = 0.0
    thing_angle: float = 0.0
    thing_height: float = 1.0


def _wave(t: float, manner: Manner, frequency: float) -> tuple[float, float]:
    """Sine and cosine at second t of a cycle of `frequency` Hz."""
    angle = 2 * pi * (frequency * manner.tempo * t + manner.phase)
    return sin(angle), cos(angle)


def pose(action: str, t: float, manner: Manner) -> Pose:
    """Where tool and thing are, t seconds into the step."""
    m = manner
    fast, fast_c = _wave(t, m, 1.2)
    slow, slow_c = _wave(t, m, 0.1)
    match action:
        case "chop":  # up and down
            return Pose(0.12 + m.x, -0.14 + m.y + 0.13 * fast, 12 * fast + 20 * m.angle)
        case "slice":  # a slow saw
            return Pose(0.12 + m.x + 0.1 * slow, -0.14 + m.y + 0.11 * slow_c, 30 * m.angle + 6 * slow_c)
        case "stir":  # circles
            return Pose(0.12 + 0.13 * fast, -0.14 + m.y + 0.09 * fast_c, 25 * m.angle + 16 * fast)
        case "scoop":  # lift slowly
            return Pose(0.12 + m.x - 0.1 * slow_c, -0.14 + 0.11 * slow, 35 * m.angle + 12 * slow)
        case "flip":  # thing and pan rock and hop
            hop = -0.07 * abs(fast_c)
            return Pose(0.1, 0.1 - 0.5 * hop, 10 * fast, m.x / 2, hop, 50 * fast, 1.0)
        case "fry":  # thing and pan turn slowly
            return Pose(0.1 + 0.03 * slow, 0.1 + 0.02 * slow_c, 10 * slow, m.x / 2, -0.05 + m.y / 2, 50 * slow_c, 1.0)
        case "press":  # the palm squeezes
            down = (1 + fast) / 2
            return Pose(m.x, -0.26 + 0.16 * down, 20 * m.angle, 0, 0.07 * down, 25 * m.angle, 1 - 0.3 * down)
        case "roll":  # thing turns slowly under the palm
            return Pose(0.14 * slow, -0.18 + m.y, 20 * slow_c, 0.03 * slow, 0.02, -30 * slow, 0.85 + 0.12 * m.angle)
        case "season":  # shaken
            return Pose(0.08 + m.x + 0.07 * fast, -0.24 + 0.07 * fast_c, 25 * m.angle + 28 * fast)
        case "drizzle":  # tilted slowly
            return Pose(0.08 + m.x + 0.07 * slow, -0.24 + m.y, 45 * slow_c + 10 * m.angle)
        case "wash":  # a quick zigzag
            return Pose(0.13 + 0.15 * fast, -0.12 + m.y + 0.05 * fast_c, 25 * m.angle + 18 * fast)
        case "glaze":  # slow strokes
            return Pose(0.13 + 0.13 * slow, -0.12 + m.y + 0.03 * slow_c, 30 * m.angle + 8 * slow)
    raise ValueError(f"no such action: {action!r}")
