"""Pictures and short clips of any video file, in formats that a web page can show.

Browsers play few of the formats that FFmpeg reads: a page gets small files that it plays as they are, and clips of
others, encoded anew as WebM (VP8 and Opus). Times are seconds from the container's start, as in `vclip.data.video`.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import groupby, takewhile
from pathlib import Path

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import VideoReformatter
from PIL import Image

from vclip.data.video import VideoError, decode, filter_graph, filtered, frames_of, open_video, picture_stream, rgb

SIDE, THUMBNAIL_SIDE = 480, 240  # longest side in pixels
SAMPLE_RATE = 48_000
OUT_OF_STEP = 0.05  # seconds by which sound may be early or late before it is moved


def pictures(path: str | Path, times: Sequence[float], side: int) -> Iterator[np.ndarray]:
    """Upright RGB pictures (H, W, 3) uint8 of at most `side` pixels a side, shown at ascending `times` (s).

    The picture for time t is the last with a timestamp <= t, before the video begins the first frame; in a damaged
    file the last that can be decoded.
    """
    shown, i, reformatter = None, 0, VideoReformatter()
    try:
        for shown, until in frames_of(path, begin=times[0]):
            while i < len(times) and times[i] + 1e-6 < until:
                yield _picture(shown, side, reformatter)
                i += 1
            if i == len(times):
                return
    except VideoError:
        if shown is None:
            raise
    assert shown is not None
    for _ in times[i:]:
        yield _picture(shown, side, reformatter)


def whole_or_clip(path: Path, start: float, end: float, codecs: Sequence[str]) -> tuple[dict, list[bytes]]:
    """What a page is sent: the file as it is if it plays `codecs` and can take it, else a clip; and which it is."""
    whole = path.is_file() and playable(path, codecs)
    return {"whole": whole}, [path.read_bytes() if whole else clip(path, start, end)]


def playable(path: Path, codecs: Sequence[str]) -> bool:
    """Whether a page that plays `codecs`, by FFmpeg's names, can be sent the file as it is: at most 30 MB."""
    if path.suffix.lower() not in (".mp4", ".m4v", ".webm") or path.stat().st_size > 30_000_000:
        return False
    with open_video(path) as container:
        coded = [stream.codec_context for stream in container.streams if stream.type in ("video", "audio")]
        known = all(context and context.codec.canonical_name in codecs for context in coded)
        return known and abs(container.start_time or 0) < av.time_base / 10  # a page counts from zero


def thumbnail(path: str | Path, time: float, side: int = THUMBNAIL_SIDE) -> bytes:
    """The picture at `time` (s) as a JPEG file, at most `side` pixels a side."""
    (picture,) = pictures(path, [time], side)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "jpeg", quality=75)
    return file.getvalue()


def clip(path: str | Path, start: float, end: float) -> bytes:
    """The seconds `start` to `end` as a WebM file of at most SIDE pixels a side, at the file's frame rate, 10 to 30.

    Sound that is missing or cannot be decoded is silent; after the file's end the last picture stays.
    """
    with open_video(path) as container:
        stream = picture_stream(container, repr(str(path)))
        rate = Fraction(round(min(max(stream.average_rate or stream.guessed_rate or 25, 10), 30)))
        heard = container.streams.best("audio") is not None
    file, times = io.BytesIO(), [start + k / float(rate) for k in range(max(1, round((end - start) * rate)))]
    # all pictures are written before any sound: the muxer holds them back until it can put both in order
    with av.open(file, "w", format="webm", options={"max_interleave_delta": "0"}) as out:
        # more encoder threads than free cores wait for each other: 20 times slower, measured
        fast = {"deadline": "realtime", "cpu-used": "16", "threads": "1"}
        video = out.add_stream("libvpx", rate=rate, options=fast)
        video.pix_fmt, video.bit_rate = "yuv420p", 800_000
        video.codec_context.gop_size = int(2 * rate)
        audio = out.add_stream("libopus", rate=SAMPLE_RATE, layout="stereo") if heard else None
        for k, picture in enumerate(pictures(path, times, SIDE)):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            if not k:
                video.width, video.height = frame.width, frame.height
            frame.pts, frame.time_base = k, 1 / rate
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if audio is not None:
            sound = av.AudioFrame.from_ndarray(_sound(path, start, end), "fltp", "stereo")
            sound.rate, sound.pts, sound.time_base = SAMPLE_RATE, 0, Fraction(1, SAMPLE_RATE)
            out.mux(audio.encode(sound))
            out.mux(audio.encode(None))
    return file.getvalue()


def _sound(path: str | Path, start: float, end: float) -> np.ndarray:
    """Stereo samples (2, n) float32 at SAMPLE_RATE; silence where there is no sound or none that can be decoded."""
    samples = np.zeros((2, round((end - start) * SAMPLE_RATE)), np.float32)
    with open_video(path) as container, suppress(FFmpegError):  # what was decoded before an error is heard
        stream, origin = container.streams.best("audio"), Fraction(container.start_time or 0, av.time_base)
        frames = decode(container, stream, Fraction(start) + origin, Fraction(1, 10), [])
        timed = (frame for frame in frames if frame.time is not None)
        near = takewhile(lambda frame: frame.time < origin + end, timed)
        for (base, *form), run in groupby(near, lambda f: (f.time_base, f.sample_rate, f.format.name, f.layout.name)):
            # silence in gaps, and in step with the timestamps
            follow = ("aresample", f"async=1:min_hard_comp={OUT_OF_STEP}")
            stereo = ("aformat", f"sample_fmts=fltp:channel_layouts=stereo:sample_rates={SAMPLE_RATE}")
            for block in filtered(run, filter_graph("a", form, base, follow, stereo)):
                place = round((block.time - origin - start) * SAMPLE_RATE)
                sound = block.to_ndarray()[:, max(-place, 0) :]
                room = samples[:, max(place, 0) :][:, : sound.shape[1]]
                room[:] = sound[:, : room.shape[1]]
    return samples


def _picture(frame: av.VideoFrame, side: int, reformatter: VideoReformatter) -> np.ndarray:
    """RGB, upright, even sides of at most `side`; pixels taken as square, as the per-second encoder takes them."""
    scale = min(1.0, side / max(frame.width, frame.height))
    width, height = (max(2, 2 * round(length * scale / 2)) for length in (frame.width, frame.height))
    return np.ascontiguousarray(rgb(frame, width, height, reformatter))
