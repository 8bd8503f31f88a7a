"""Small videos for the tests, written by the encoder that reads them."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

MILLISECOND = Fraction(1, 1000)


def write_video(
    path: Path,
    times: Sequence[int],
    pictures: Sequence[np.ndarray],
    codec: str = "png",
    pixels: str = "rgb24",
    rotation: tuple[int, bool, bool] = (0, False, False),
    sound: tuple[int, int] | None = None,
    **container,
) -> Path:
    """`pictures` (H, W, 3) at `times`, in ms; each is shown until the next, the last as long as the one before it.

    Codec "png" in .mov and "ffv1" in .mkv (pixels "bgr0") give back what was written. `rotation` is degrees
    counter-clockwise and two flips, `sound` the span of a sound track in ms.
    """
    lengths = [*np.diff(times), times[-1] - times[-2] if len(times) > 1 else 40]
    with av.open(str(path), "w", **container) as out:
        stream = out.add_stream(codec, rate=1000)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt, stream.codec_context.time_base = pixels, MILLISECOND
        if any(rotation):
            stream.set_display_rotation(*rotation)
        audio = out.add_stream("aac", rate=8000) if sound else None
        if sound:
            write_sound(out, audio, *sound)
        lasting = dict(zip(times, lengths, strict=True))
        frames = [av.VideoFrame.from_ndarray(picture, "rgb24") for picture in pictures]
        for time, frame in zip([*times, 0], [*frames, None], strict=True):
            if frame is not None:
                frame.pts, frame.time_base = int(time), MILLISECOND
            for packet in stream.encode(frame):
                packet.duration = int(lasting[packet.pts])
                out.mux(packet)
    return path


def write_sound(out, stream, start: int, end: int) -> None:
    for first in range(start * 8, end * 8, 1024):
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate, frame.pts, frame.time_base = 8000, first, Fraction(1, 8000)
        out.mux(stream.encode(frame))
    out.mux(stream.encode(None))


def grey(*levels: int, size: tuple[int, int] = (16, 16)) -> list[np.ndarray]:
    return [np.full((*size, 3), level, np.uint8) for level in levels]


def cut(source: Path, target: Path, share: float = 0.6) -> Path:
    """The first bytes of a file, as a broken download leaves them."""
    data = source.read_bytes()
    target.write_bytes(data[: int(len(data) * share)])
    return target
