"""A video file becomes seconds of frames, counted exactly from the container's start, as players and captions do."""

import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from fractions import Fraction
from functools import lru_cache
from itertools import chain, groupby, starmap
from pathlib import Path
from threading import Lock

import av
import numpy as np
from av.error import ArgumentError, FFmpegError
from av.filter import Graph
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import ColorTrc, Interpolation, VideoReformatter

from vclip.data.prefetch import prefetch

NOT_A_PICTURE = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
NOT_OPEN = "cannot be opened: truncated file, or not a video; copy it again or re-mux it with ffmpeg"
FRAMES_AHEAD = 8  # decoded while others are resized, which takes 10 to 20 % less time than one after the other
HDR, TONE_MAPPING = (ColorTrc.SMPTE2084, ColorTrc.ARIB_STD_B67), Lock()
TO_BT709 = ("scale", "out_primaries=bt709:out_transfer=bt709"), ("format", "rgb24")
FROM_ZERO = ("matroska,webm", "asf", "nut")  # their durations count from time zero, not from the container's start
# formats whose files name other files: lists, addresses, numbered pictures
LISTS = {"alias_pix", "brender_pix", "concat", "dash", "hls", "image2", "imf", "rtp", "rtsp", "sap", "sdp", "vobsub"}
OPTIONS = {"protocol_whitelist": "file", "format_whitelist": ",".join(av.formats_available - LISTS)}
LONGEST_GAP = 3600  # seconds; timestamps further apart are damage, not a still picture


class VideoError(ValueError):
    """A file that cannot be read as video, or not to its end; the message names the file and the remedy."""


def read_seconds(path, fps: int, size: int, begin: int = 0) -> Generator[np.ndarray, None, None]:
    """Read a video second by second from `begin` on: uint8 arrays (fps, size, size, 3), RGB.

    Slot i, i / fps seconds after the container's start, holds the last frame whose timestamp, rounded to the nearest
    slot, is at most i (FFmpeg's filter `fps`, MMPT videoreader.py:55), or the first frame. Frames are deinterlaced,
    tone-mapped from HDR (PQ, HLG), rotated as the file asks, resized (bicubic) until their short side is `size`, and
    cropped to the centre. A last partial second is filled with black frames (MMPT preprocessing.py:51-55).

    Args:
        path: any file that FFmpeg opens.
        fps, size: frames a second and pixels a side.

    Raises:
        VideoError: if no frame can be decoded; for a damaged file, after the seconds that could be read.
        ValueError: for `fps` or `size` below 1.

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
    """Frames that fill any slot from `begin` (s) on, and how many; a video shorter than half a slot fills one."""
    k, frame = begin * fps, None
    for frame, until in frames_of(path, begin):
        end = math.floor(until * fps + Fraction(1, 2))
        if end > k:
            yield frame, end - k
            k = end
    if frame is not None and not k:
        yield frame, 1


def frames_of(path, begin: float = 0) -> Iterator[tuple[VideoFrame, Fraction]]:
    """Frames shown from `begin` on, and some before, deinterlaced, and until when (s from the container's start)."""
    name = repr(str(path))
    with open_video(path) as container:
        stream = picture_stream(container, name)
        base = stream.time_base or Fraction(1, av.time_base)
        period = 1 / Fraction(stream.average_rate or stream.guessed_rate or 25)
        origin = round(Fraction(container.start_time or 0, av.time_base) / base) * base  # exact, as FFmpeg makes it
        damage: list[str] = []
        shown, since, end = None, Fraction(0), Fraction(0)
        frames = decode(container, stream, origin + Fraction(begin) if begin else Fraction(0), period, damage)
        for frame in _deinterlaced(frames, base):
            time = end if frame.pts is None else frame.pts * base - origin
            if shown is not None:
                if not since - 1 <= time <= since + LONGEST_GAP:
                    damage.append(f"timestamps jump from {float(since):.1f} s to {float(time):.1f} s")
                    break
                if time < since:
                    continue
                yield shown, time
            shown, since = frame, time
            length = (frame.duration or 0) * base
            end = since + (length if 0 < length <= LONGEST_GAP else period)
        if shown is None:
            raise VideoError(f"{name}: no frame can be decoded ({'; '.join(damage) or 'no data'}): copy the file again")
        if container.format.name == "avi" and stream.duration:  # its B frames come a frame late, its length is right
            end = min(end, stream.duration * base)
        yield shown, end
        if damage:
            remedy = "copy the file again, or repair it (ffmpeg -i FILE -c copy NEW)"
            raise VideoError(f"{name}: damaged: {damage[0]}; the seconds that could be decoded were kept: {remedy}")


def decode(container, stream, time: Fraction, period: Fraction, damage: list[str]) -> Iterator:
    """Frames of `stream`, picture or sound, each `period` long unless it says so; packets that fail add to `damage`.

    They begin with the last key frame at or before `time` (s, as the file counts), or at the file's beginning.
    """
    back = 0
    with suppress(FFmpegError):  # a file without an index cannot seek
        while back < time:
            container.seek(int((time - back) / stream.time_base), stream=stream)
            frames = _decode(container, stream, period, damage)
            first = next((frame for frame in frames if frame.pts is not None), None)
            if first is not None and first.pts * stream.time_base <= time:
                yield from chain([first], frames)
                return
            damage.clear()
            back = 2 * back + 1  # MPEG-TS has no index: it gives the key frame after the place found
    if back:
        container.seek(min(container.start_time or 0, 0))
    yield from _decode(container, stream, period, damage)


def filtered(frames: Iterable, graph: Graph) -> Iterator:
    """What comes out of an FFmpeg filter graph when `frames` go in."""
    for frame in chain(frames, [None]):
        graph.push(frame)
        with suppress(BlockingIOError, EOFError):
            while True:
                yield graph.pull()


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
            # Theora repeats a frame by an empty packet; one without a time ends the stream
            frames = packet.decode() if packet.stream is stream and (packet.size or packet.dts is None) else []
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
        start = 0 if container.format.name in FROM_ZERO else container.start_time or 0
        duration, end = container.duration / av.time_base, reached - start / av.time_base
        if container.format.name == "avi":  # of which FFmpeg guesses the duration by the file's size
            duration = max(duration, float(stream.frames * period))
        if end < duration - min(1.0, max(0.3, duration / 10)):
            damage.insert(0, f"it ends at {end:.1f} s although its header says {duration:.1f} s")


def open_video(path):
    """The file as an av container, a context manager; nothing else is opened on its behalf."""
    path = Path(path).expanduser()
    if path.is_file() and not path.stat().st_size:
        raise VideoError(f"{str(path)!r}: the file is empty: copy it again")
    try:
        # the prefix keeps a name like "a:b.mp4" from being read as an address
        return av.open(f"file:{path}", metadata_errors="replace", options=OPTIONS)
    except FileNotFoundError:
        raise FileNotFoundError(f"{str(path)!r}: no such file") from None
    except ArgumentError:
        raise VideoError(f"{str(path)!r}: it is a list of other files, or names them: name the video itself") from None
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


def _deinterlaced(frames: Iterable[VideoFrame], base: Fraction) -> Iterator[VideoFrame]:
    for (interlaced, *form), run in groupby(frames, lambda f: (f.interlaced_frame, f.width, f.height, f.format.name)):
        if interlaced:
            run = filtered(run, filter_graph("", form, base, ("bwdif", "send_frame"), ("settb", str(base))))
        yield from run


def filter_graph(kind: str, form: Sequence, base: Fraction, *filters: tuple[str, str]) -> Graph:
    """FFmpeg's `filters` (name, options) in a row; `kind` is "" for pictures, "a" for sound, of a `form` and clock."""
    graph = Graph()
    source = (graph.add_abuffer if kind else graph.add_buffer)(None, *form, time_base=base)
    graph.link_nodes(source, *starmap(graph.add, filters), graph.add(f"{kind}buffersink")).configure()
    return graph


tone_mapping = lru_cache(4)(filter_graph)  # FFmpeg's table of colours takes seconds to make


def rgb(frame: VideoFrame, width: int, height: int, reformatter: VideoReformatter) -> np.ndarray:
    """The frame's picture (H, W, 3), resized, tone-mapped if it is HDR (PQ, HLG), turned and mirrored as it asks."""
    pixels = "rgb48le" if frame.color_trc in HDR else "rgb24"
    resized = reformatter.reformat(frame, width, height, pixels, interpolation=Interpolation.BICUBIC)
    if frame.color_trc in HDR:
        with TONE_MAPPING:
            graph = tone_mapping("", (width, height, pixels), Fraction(1), *TO_BT709)
            graph.push(resized)
            resized = graph.pull()
    picture, matrix = resized.to_ndarray(), frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return picture
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5]  # (x', y') = (a x + c y, b x + d y), in quarter turns
    if abs(b) > abs(a):
        picture, a, d = picture.swapaxes(0, 1), c, b
    return picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def resize_and_crop(frame: VideoFrame, size: int, reformatter: VideoReformatter | None = None) -> np.ndarray:
    scaler, short = reformatter or VideoReformatter(), min(frame.width, frame.height)
    picture = rgb(frame, int(frame.width * size / short), int(frame.height * size / short), scaler)
    top, left = (int((side - size) / 2) for side in picture.shape[:2])
    return picture[top : top + size, left : left + size]
