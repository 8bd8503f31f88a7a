"""What FFmpeg's own filters do is what `read_seconds` does."""

from contextlib import suppress
from fractions import Fraction

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from hypothesis import given, settings
from hypothesis import strategies as st
from videos import grey

import vclip
from vclip.data.video import read_seconds

NTSC = Fraction(30000, 1001)


def encoded(path, pictures, rate, codec="libx264", pixels="yuv420p", **options):
    """A video of `rate` frames a second, as an encoder and FFmpeg's muxer make it."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], pixels
        for picture in pictures:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(stream.encode(None))
    return path


def after(path, *filters: tuple[str, str]) -> list[av.VideoFrame]:
    """All frames of a video after FFmpeg's filters, by PyAV's graph."""
    frames, graph = [], av.filter.Graph()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        nodes = [graph.add_buffer(template=stream), *(graph.add(*f) for f in filters), graph.add("buffersink")]
        graph.link_nodes(*nodes).configure()
        for frame in [*container.decode(stream), None]:
            graph.push(frame)
            with suppress(BlockingIOError, EOFError):
                while True:
                    frames.append(graph.pull())
    return frames


def level(picture: np.ndarray) -> int:
    return round(float(picture.mean()) / 2)


@settings(max_examples=30, deadline=None)
@given(
    rate=st.sampled_from([24, 25, NTSC, 30, 50]),
    fps=st.sampled_from([30, 3, 10, 16]),
    suffix=st.sampled_from([".mp4", ".mov", ".mkv"]),
    n=st.integers(1, 120),
)
def test_slots_hold_the_frames_of_the_filter_fps(tmp_path_factory, rate, fps, suffix, n):
    pictures = grey(*[2 * i for i in range(n)], size=(16, 16))
    path = encoded(tmp_path_factory.mktemp("v") / f"v{suffix}", pictures, rate, crf="0", preset="ultrafast", bf="2")
    # a video shorter than half a slot, of which the filter makes nothing, has its last frame
    frames = after(path, ("fps", str(fps))) or after(path, ("null", ""))[-1:]
    expected = [level(frame.to_ndarray(format="rgb24")) for frame in frames]
    got = [level(picture) for second in read_seconds(path, fps, 16) for picture in second]
    assert got == expected + [0] * (-len(expected) % fps)


def test_minihowto_gives_every_second_frame():
    path, reformatter = vclip.minihowto() / "videos" / "test0000.mp4", VideoReformatter()
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 6
        frames = list(container.decode(video=0))[::2]
    read = np.concatenate(list(read_seconds(path, 3, 128)))
    assert len(read) == len(frames) == 144
    for picture, frame in zip(read, frames, strict=True):
        small = reformatter.reformat(frame, 128, 128, "rgb24", interpolation=Interpolation.BICUBIC)
        np.testing.assert_array_equal(picture, small.to_ndarray())
