"""A video file becomes seconds of frames, counted exactly from the container's start, as players and captions do."""

import math
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from vclip.data.prefetch import prefetch

NOT_A_PICTURE = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
NOT_OPEN = "cannot be opened: truncated file, or not a video; copy it again or re-mux it with ffmpeg"
FRAMES_AHEAD = 8  # decoded while others are resized, which takes 10 to 20 % less time than one after the other
LONGEST_GAP = 3600  # seconds; timestamps further apart are damage, not a still picture


class VideoError(ValueError):
    """A file that cannot be read as video, or not to its end; the message names the file and the remedy."""


def read_seconds(path, fps: int, size: int, begin: int = 0) -> Generator[np.ndarray, None, None]:
    """Read a video second by second from `begin` on: uint8 arrays (fps, size, size, 3), RGB.

    Second s holds the frames for the times s + i / fps from the container's start: each the last with a timestamp <= t,
    before the first frame that one. Frames are rotated as the file asks, resized (bicubic) until their short side is
    `size`, and cropped to the centre. A last partial second is filled with black frames (MMPT preprocessing.py:51-55).

    Args:
        path: any file that FFmpeg opens.
        fps, size: frames a second and pixels a side.

    Raises:
        VideoError: if no frame can be decoded; for a damaged file, after the seconds that could be read.

    Example:
        >>> import vclip
        >>> next(read_seconds(vclip.minihowto() / "videos" / "test0000.mp4", fps=3, size=64)).shape
        (3, 64, 64, 3)
    """
    if fps < 1 or size < 1:
        raise ValueError(f"fps and size must be at least 1, got {fps} and {size}")
    reformatter = VideoReformatter()
    block, k, error = np.zeros((fps, size, size, 3), np.uint8), 0, None
    try:
        with closing(prefetch(_sampled(path, fps, begin), FRAMES_AHEAD)) as frames:
            for frame, times in frames:
                picture = resize_and_crop(frame, size, reformatter)
                for _ in range(times):
                    block[k % fps] = picture
                    k += 1
                    if k % fps == 0:
                        yield block
                        block = np.zeros_like(block)
    except VideoError as damage:
        error = damage
    except FFmpegError as refusal:
        error = VideoError(f"{str(path)!r}: a frame cannot be converted ({refusal.strerror}): leave the file out")
    if k % fps:
        yield block
    if error is not None:
        raise error


def _sampled(path, fps: int, begin: int) -> Generator[tuple[VideoFrame, int], None, None]:
    """Frames that are shown at any of the times begin + i / fps, and at how many."""
    k = begin * fps
    for frame, until in frames_of(path, begin):
        end = math.ceil(until * fps)
        if end > k:
            yield frame, end - k
            k = end


def frames_of(path, begin: float = 0) -> Iterator[tuple[VideoFrame, Fraction]]:
    """The frames shown from `begin` on, and some before, each with the time until which it is shown; times are seconds
    from the container's start."""
    name = repr(str(path))
    with open_video(path) as container:
        stream = picture_stream(container, name)
        origin, base = start_time(container), stream.time_base or Fraction(1, av.time_base)
        period = 1 / frame_rate(stream)
        damage: list[str] = []
        shown, since, end = None, Fraction(0), Fraction(0)
        seek_to = origin + Fraction(begin) if begin and origin is not None else Fraction(0)
        for frame in decode(container, stream, seek_to, period, damage):
            time = end if frame.pts is None else frame.pts * base - (origin or 0)
            if shown is None:
                # without a start time in the container the first frame is the start
                origin, time = (time, Fraction(0)) if origin is None else (origin, time)
            elif not since - 1 <= time <= since + LONGEST_GAP:
                damage.append(f"timestamps jump from {float(since):.1f} s to {float(time):.1f} s")
                break
            elif time < since:
                continue
            else:
                yield shown, time
            shown, since = frame, time
            length = (frame.duration or 0) * base
            end = since + (length if 0 < length <= LONGEST_GAP else period)
        if shown is None:
            raise VideoError(f"{name}: no frame can be decoded ({'; '.join(damage) or 'no data'}): copy the file again")
        # timestamps and lengths may be rounded up to a millisecond; that must not begin another second
        yield shown, max(end - min(base, Fraction(1, 1000)), since + Fraction(1, 10**6))
        if damage:
            remedy = "copy the file again, or repair it (ffmpeg -i FILE -c copy NEW)"
            raise VideoError(f"{name}: damaged: {damage[0]}; the seconds that could be decoded were kept: {remedy}")


def decode(container, stream, time: Fraction, period: Fraction, damage: list[str]) -> Iterator:
    """Frames of `stream`, picture or sound, each `period` long unless it says so; packets that fail add to `damage`.

    They begin with the last key frame at or before `time` (s, as the file counts), or at the file's beginning.
    """
    if time > 0:
        try:
            container.seek(int(time / stream.time_base), stream=stream)
            frames = _decode(container, stream, period, damage)
            first = next((frame for frame in frames if frame.pts is not None), None)
            if first is not None and (first.time or 0.0) <= time + period:
                yield first
                yield from frames
                return
        except FFmpegError:
            pass  # the file has no index to seek by
        container.seek(container.start_time or 0)
    yield from _decode(container, stream, period, damage)


def _decode(container, stream, period: Fraction, damage: list[str]) -> Iterator:
    if not stream.codec_context.is_open:
        stream.thread_type = "AUTO"
    reached, decoded, packets = 0.0, 0, container.demux()
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                break
            # every stream counts: sound may go on after the picture
            if packet.pts is not None and packet.time_base:
                length = (packet.duration or 0) * packet.time_base or (period if packet.stream is stream else 0)
                reached = max(reached, float(packet.pts * packet.time_base + length))
            frames = packet.decode() if packet.stream is stream else []
        except FFmpegError as error:
            # a recording may begin in the middle of a group of pictures: no damage before the first frame
            if decoded and len(damage) < 9:
                damage.append(f"decoding fails at {reached:.1f} s ({error.strerror})")
            continue
        decoded += len(frames)
        yield from frames
    with suppress(FFmpegError):  # after a failed read nothing has told the decoder to hand out what it holds
        yield from stream.decode(None)
    if container.duration:
        duration, start = container.duration / av.time_base, (container.start_time or 0) / av.time_base
        if container.format.name == "avi":  # of which FFmpeg guesses the duration by the file's size
            duration = max(duration, float(stream.frames * period))
        if reached - start < duration - min(1.0, max(0.3, duration / 10)):
            damage.insert(0, f"it ends at {reached - start:.1f} s although its header says {duration:.1f} s")


def open_video(path):
    """The file as an av container, a context manager; nothing else is opened on its behalf."""
    path = Path(path).expanduser()
    if path.is_file() and not path.stat().st_size:
        raise VideoError(f"{str(path)!r}: the file is empty: copy it again")
    try:
        # the prefix keeps a name like "a:b.mp4" from being read as an address, the list keeps playlists off the network
        return av.open(f"file:{path}", metadata_errors="replace", options={"protocol_whitelist": "file"})
    except FileNotFoundError:
        raise FileNotFoundError(f"{str(path)!r}: no such file") from None
    except (FFmpegError, UnicodeError) as error:
        raise VideoError(f"{str(path)!r}: {NOT_OPEN} ({error})") from error


def picture_stream(container, name: str):
    """FFmpeg's choice among the decodable video streams, without cover art."""
    if not container.streams:
        raise VideoError(f"{name}: {NOT_OPEN}")
    streams = [s for s in container.streams.video if s.codec_context and not s.disposition & NOT_A_PICTURE]
    if not streams:
        raise VideoError(f"{name}: no moving picture: only sound, cover art or an unknown codec; leave it out")
    best = container.streams.best("video")
    return best if best in streams else streams[0]


def frame_rate(stream) -> Fraction:
    """Frames a second as the file says, 25 if it says nothing."""
    return Fraction(stream.average_rate or stream.guessed_rate or 25)


def start_time(container) -> Fraction | None:
    """The container's start in seconds, None if it has none: its microseconds made exact by the stream's own time."""
    if container.start_time is None:
        return None
    start = Fraction(container.start_time, av.time_base)
    streams = [s for s in container.streams if s.start_time is not None and s.time_base]
    exact = (s.start_time * Fraction(s.time_base) for s in streams)
    return next((time for time in exact if abs(time - start) <= Fraction(1, av.time_base)), start)


def resize_and_crop(frame: VideoFrame, size: int, reformatter: VideoReformatter | None = None) -> np.ndarray:
    short, long = sorted((frame.width, frame.height))
    other = int(long * size / short)
    width, height = (size, other) if frame.width == short else (other, size)
    scaler = reformatter or VideoReformatter()
    resized = scaler.reformat(frame, width, height, "rgb24", interpolation=Interpolation.BICUBIC)
    picture = upright(resized.to_ndarray(), frame)
    top, left = (int((side - size) / 2) for side in picture.shape[:2])
    return picture[top : top + size, left : left + size]


def upright(picture: np.ndarray, frame: VideoFrame) -> np.ndarray:
    """A view of the frame's `picture` (H, W, 3), turned or mirrored as its display matrix asks, in quarter turns."""
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return picture
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5]  # (x', y') = (a x + c y, b x + d y)
    across, down = (a, d)
    if abs(b) > abs(a):
        picture, across, down = picture.swapaxes(0, 1), c, b
    return picture[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]
