"""Pictures and short playable pieces of any video file, as a web page can show them.

Browsers play few of the formats that FFmpeg reads, and a notebook's page cannot reach a file outside its server's
folder. So a few seconds at a time are encoded anew, small, as WebM (VP8 and Opus: free, and played by every browser).
Times are seconds from the container's start, as in `vclip.data.video`.
"""

import io
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.audio.resampler import AudioResampler
from av.error import FFmpegError
from PIL import Image

from vclip.data.video import VideoError, decode, frame_rate, open_video, picture_stream, start_time, upright

SIDE, THUMBNAIL_SIDE = 480, 160  # pixels of the longer side, at most
SAMPLE_RATE = 48_000
OUT_OF_STEP = 0.05  # seconds of sound too early or late that nobody notices


def pictures(path: str | Path, times: Sequence[float], side: int) -> Iterator[np.ndarray]:
    """RGB pictures (H, W, 3) uint8, one for each of the ascending `times` (s, at least one), upright.

    Neither side is longer than `side` pixels, both are even, none is enlarged. The picture for time t is the last with
    a timestamp <= t; before the first frame it is the first, past the end the last.
    Raises FileNotFoundError, and VideoError for a file in which no frame can be decoded there.
    """
    name = repr(str(path))
    with open_video(path) as container:
        stream = picture_stream(container, name)
        base, origin = stream.time_base or Fraction(1, av.time_base), _origin(container)
        period, i, shown, picture = 1 / frame_rate(stream), 0, None, None
        for frame in _from(container, stream, times[0] + origin, period):
            if frame.pts is None:
                continue
            while shown is not None and i < len(times) and times[i] + 1e-6 < frame.pts * base - origin:
                picture = _picture(shown, side) if picture is None else picture
                yield picture
                i += 1
            if i == len(times):
                return
            shown, picture = frame, None
        if shown is None:
            raise VideoError(f"{name}: no frame can be decoded near {times[0]:.1f} s: copy the file again")
        picture = _picture(shown, side) if picture is None else picture
        for _ in times[i:]:
            yield picture


def thumbnail(path: str | Path, time: float) -> bytes:
    """The picture at `time` (s) as a JPEG of at most THUMBNAIL_SIDE pixels a side. Raises what `pictures` raises."""
    (picture,) = pictures(path, [time], THUMBNAIL_SIDE)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "jpeg", quality=75)
    return file.getvalue()


def piece(path: str | Path, start: float, end: float) -> tuple[bytes, str]:
    """Seconds `start` to `end` as a WebM file whose timestamps begin at 0, and its MIME type.

    Constant frame rate (the file's, rounded, 10 to 30), pictures of at most SIDE pixels a side, silence where the sound
    has gaps, the last picture repeated past the file's end: pieces laid end to end play without a hole.
    Raises what `pictures` raises; sound that cannot be decoded is silence.
    """
    with open_video(path) as container:
        rate = min(max(frame_rate(picture_stream(container, repr(str(path)))), Fraction(10)), Fraction(30))
        heard = container.streams.best("audio") is not None
    rate, file = Fraction(round(rate)), io.BytesIO()
    times = [start + k / float(rate) for k in range(max(1, round((end - start) * rate)))]
    with av.open(file, "w", format="webm") as out:
        # more threads than free cores wait for each other: 40 times slower, measured
        fast = {"deadline": "realtime", "cpu-used": "16", "threads": "1"}
        video = out.add_stream("libvpx", rate=rate, options=fast)
        video.pix_fmt, video.bit_rate = "yuv420p", 800_000
        video.codec_context.gop_size = int(2 * rate)
        audio = out.add_stream("libopus", rate=SAMPLE_RATE, layout="stereo") if heard else None
        for k, picture in enumerate(pictures(path, times, SIDE)):
            if not k:
                video.height, video.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = k, 1 / rate
            out.mux(_earlier(video.encode(frame)))
        out.mux(_earlier(video.encode(None)))
        if audio is not None:
            sound = av.AudioFrame.from_ndarray(_sound(path, start, end), "fltp", "stereo")
            sound.rate, sound.pts, sound.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
            out.mux(audio.encode(sound))
            out.mux(audio.encode(None))
    return file.getvalue(), f'video/webm; codecs="vp8{",opus" if heard else ""}"'


def _earlier(packets: list) -> list:
    """Pictures in whole ms, written 7 ms ahead of the sound: WebM's blocks must not go back in time.

    The muxer puts packets in the order of their decoding times, then adds Opus's delay of 6.5 ms to the sound's.
    FFmpeg reads what comes of that, Chromium refuses it.
    """
    for packet in packets:
        time = round(1000 * packet.pts * packet.time_base)
        packet.time_base = Fraction(1, 1000)
        packet.pts, packet.dts = time, time - 7
    return packets


def _sound(path: str | Path, start: float, end: float) -> np.ndarray:
    """Stereo samples (2, n) float32 at SAMPLE_RATE; silence where there are none, or none that can be decoded."""
    samples = np.zeros((2, round((end - start) * SAMPLE_RATE)), np.float32)
    with open_video(path) as container:
        stream, origin = container.streams.best("audio"), _origin(container)
        try:
            for time, block in _resampled(_from(container, stream, start + origin, Fraction(1, 10))):
                place = round((time - origin - start) * SAMPLE_RATE)
                if place >= samples.shape[1]:
                    break
                first, last = max(place, 0), min(place + block.shape[1], samples.shape[1])
                if last > first:
                    samples[:, first:last] = block[:, first - place : last - place]
        except FFmpegError:
            pass  # what could be decoded is heard
    return samples


def _resampled(frames: Iterator) -> Iterator[tuple[float, np.ndarray]]:
    """Blocks of stereo samples (2, n) float32 at SAMPLE_RATE, each with the time (s) of its first sample.

    A resampler takes what it is fed for one unbroken stream of one kind: where the timestamps leave a gap, jump or have
    drifted away from the samples, and where the kind of sound changes, another begins.
    """
    resampler: AudioResampler | None = None
    kind, fed, given = None, 0.0, 0.0  # times up to which samples went in and came out
    for frame in chain(frames, [None]):
        if frame is not None and frame.time is None and resampler is None:
            continue  # nobody knows when
        new = None if frame is None else (frame.format.name, frame.layout.name, frame.sample_rate)
        time = fed if frame is None or frame.time is None else frame.time
        if resampler is None or new != kind or abs(time - fed) > OUT_OF_STEP:
            for block in resampler.resample(None) if resampler else []:  # what it holds back
                yield given, block.to_ndarray()
                given += block.samples / SAMPLE_RATE
            resampler, kind, fed, given = AudioResampler("fltp", "stereo", SAMPLE_RATE), new, time, time
        if frame is not None:
            for block in resampler.resample(frame):
                yield given, block.to_ndarray()
                given += block.samples / SAMPLE_RATE
            fed += frame.samples / frame.sample_rate


def _from(container, stream, time: float, period: Fraction) -> Iterator:
    """Frames of `stream` from the last key frame at or before `time` (s, as the file counts), or all of them."""
    if time > 0:
        try:
            container.seek(int(time / stream.time_base), stream=stream)
            frames = decode(container, stream, period, [])
            first = next((frame for frame in frames if frame.pts is not None), None)
            if first is not None and (first.time or 0.0) <= time + float(period):
                yield first
                yield from frames
                return
        except FFmpegError:
            pass  # no index to seek by
        container.seek(container.start_time or 0)
    yield from decode(container, stream, period, [])


def _origin(container) -> Fraction:
    return start_time(container) or Fraction(0)


def _picture(frame, side: int) -> np.ndarray:
    """RGB, upright, pixels taken as square, even sides: what the encoder takes."""
    scale = min(1.0, side / max(frame.width, frame.height))
    sides = [max(2, 2 * round(length * scale / 2)) for length in (frame.width, frame.height)]
    return np.ascontiguousarray(upright(frame.reformat(*sides, "rgb24").to_ndarray(), frame))
