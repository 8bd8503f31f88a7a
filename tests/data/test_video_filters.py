"""What FFmpeg's own filters do is what `read_seconds` does: frame rates, deinterlacing, HDR."""

from contextlib import suppress
from fractions import Fraction

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation, VideoReformatter
from hypothesis import given, settings
from hypothesis import strategies as st
from videos import grey

import vclip
from vclip.data.video import read_seconds
from vclip.search.playback import pictures

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


def combed(picture: np.ndarray) -> float:
    """How much the lines of one field stand out from those of the other."""
    lines = picture.astype(float)
    return np.abs(lines[1:-1] - (lines[:-2] + lines[2:]) / 2).mean()


def moving(n: int, side: int = 64) -> list[np.ndarray]:
    """A bright bar that moves; each frame's second field shows it four pixels later."""
    pictures = []
    for i in range(n):
        picture = np.full((side, side, 3), 40, np.uint8)
        for field in (0, 1):
            picture[field::2, 8 * (i % 5) + 4 * field :][:, :12] = 200
        pictures.append(picture)
    return pictures


@pytest.mark.parametrize("suffix", [".ts", ".mkv"])
def test_interlaced_frames_are_deinterlaced(tmp_path, suffix):
    flags = {"flags": "+ildct+ilme", "qmin": "1", "qmax": "1"}
    path = encoded(tmp_path / f"v{suffix}", moving(25), 25, "mpeg2video", **flags)
    with av.open(str(path)) as container:
        woven = list(container.decode(video=0))
    assert all(frame.interlaced_frame for frame in woven)
    read = np.concatenate(list(read_seconds(path, 25, 64)))
    expected = [frame.to_ndarray(format="rgb24") for frame in after(path, ("bwdif", "send_frame"))]
    assert len(read) == len(expected) == 25
    for picture, frame, reference in zip(read, woven, expected, strict=True):
        assert np.abs(picture.astype(int) - reference).max() <= 2
        assert combed(picture) < 0.3 * combed(frame.to_ndarray(format="rgb24"))


def test_progressive_frames_among_interlaced_ones_stay_as_they_are(tmp_path):
    """MPEG-TS of a broadcaster may change between both at any frame, and its picture's size too."""
    still = grey(*[100] * 10, size=(64, 64))
    parts = [
        encoded(tmp_path / "a.ts", still, 25, "mpeg2video"),
        encoded(tmp_path / "b.ts", moving(10), 25, "mpeg2video", flags="+ildct+ilme"),
        encoded(tmp_path / "c.ts", moving(10, 128), 25, "mpeg2video", flags="+ildct+ilme"),
    ]
    with av.open(str(tmp_path / "all.ts"), "w") as out:
        stream, n = out.add_stream("mpeg2video", rate=25), 0
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for part in parts:
            with av.open(str(part)) as container:
                for packet in container.demux(video=0):
                    if packet.size:
                        packet.stream, packet.time_base = stream, Fraction(1, 25)
                        packet.pts = packet.dts = n
                        n += 1
                        out.mux(packet)
    with av.open(str(tmp_path / "all.ts")) as container:
        flags = [frame.interlaced_frame for frame in container.decode(video=0)]
    assert {True, False} == set(flags)
    read = np.concatenate(list(read_seconds(tmp_path / "all.ts", 25, 64)))[: len(flags)]
    assert np.abs(read[:9].astype(int) - 100).max() <= 2 and max(map(combed, read)) < 2


COLOURS = np.array(
    [[128, 128, 128], [235, 235, 235], [30, 30, 30], [200, 60, 60], [60, 180, 60], [60, 60, 200]]
    + [[220, 180, 150], [250, 200, 40], [90, 140, 210]]
)
BT2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.088, 0.8956]])  # from BT.709


def pq(light: np.ndarray) -> np.ndarray:
    """SMPTE ST 2084, with white at 203 nits (BT.2408)."""
    y = (light * 203 / 10_000) ** (2610 / 16384)
    return ((3424 / 4096 + 2413 / 128 * y) / (1 + 2392 / 128 * y)) ** (2523 / 32)


def hlg(light: np.ndarray) -> np.ndarray:
    """ARIB STD-B67 for a display of 1,000 nits with white at 203."""
    shown = light * 0.203
    scene = shown * (shown @ [0.2627, 0.678, 0.0593])[:, None] ** (1 / 1.2 - 1)
    logarithm = 0.17883277 * np.log(np.maximum(12 * scene - 0.28466892, 1e-9)) + 0.55991073
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), logarithm)


@pytest.mark.parametrize("transfer, curve", [(16, pq), (18, hlg)])
def test_hdr_shows_the_colours_of_its_sdr_original(tmp_path, transfer, curve):
    signal = curve((COLOURS / 255) ** 2.4 @ BT2020.T)
    picture = (65535 * signal).round().astype(np.uint16).reshape(3, 3, 3).repeat(32, 0).repeat(32, 1)
    with av.open(str(tmp_path / "hdr.mkv"), "w") as out:
        stream = out.add_stream("ffv1", rate=3)
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv444p10le"
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace, context.color_range = transfer, 9, 9, 1
        frame = av.VideoFrame.from_ndarray(picture, "rgb48le")
        for i in range(3):
            wide = frame.reformat(format="yuv444p10le", dst_colorspace=9, dst_color_range=1)
            wide.pts = i
            out.mux(stream.encode(wide))
        out.mux(stream.encode(None))
    (second,) = read_seconds(tmp_path / "hdr.mkv", 3, 96)
    assert np.abs(second[:, 16::32, 16::32].reshape(3, 9, 3).astype(int) - COLOURS).max() <= 8
    (shown,) = pictures(tmp_path / "hdr.mkv", [0.5], 96)
    np.testing.assert_array_equal(shown, second[1])
