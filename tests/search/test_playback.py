import io
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image
from videos import cut, grey, write_video

from vclip.data.video import VideoError, read_seconds
from vclip.search.playback import SAMPLE_RATE, clip, pictures, playable, thumbnail


def levels(data: bytes) -> list[tuple[float, float]]:
    """Time and mean grey level of every picture of a clip."""
    with av.open(io.BytesIO(data)) as container:
        return [(float(f.time), float(f.to_ndarray(format="rgb24").mean())) for f in container.decode(video=0)]


@pytest.fixture
def steps(tmp_path):
    """A new grey level every half second, for 10 s: 0, 10, 20..."""
    return write_video(tmp_path / "steps.mov", range(0, 10_000, 500), grey(*range(0, 200, 10), size=(64, 64)))


def test_pictures_are_those_shown_at_their_times(steps):
    times = [0, 0.2, 0.5, 3.49, 3.5, 9.9, 12]
    shown = [int(picture[0, 0, 0]) for picture in pictures(steps, times, 480)]
    assert shown == [10 * min(19, int(time / 0.5)) for time in times]
    for start in (2.0, 7.25):
        (picture,) = pictures(steps, [start], 480)
        assert picture[0, 0, 0] == 10 * int(start / 0.5)


def test_a_clip_begins_at_zero_and_has_no_hole(steps):
    shown = levels(clip(steps, 4, 8))
    assert np.allclose([time for time, _ in shown], np.arange(len(shown)) / 10) and len(shown) == 40
    assert np.allclose([level for _, level in shown], [10 * int((4 + t) / 0.5) for t, _ in shown], atol=6)
    assert len(levels(clip(steps, 8, 12))) == 40, "the last picture goes on past the end"


def test_silence_fills_where_there_is_no_sound(tmp_path):
    path = tmp_path / "tone.mov"
    write_video(path, range(0, 6000, 100), grey(*[90] * 60, size=(32, 32)), sound=(1000, 2500))
    with av.open(io.BytesIO(clip(path, 0, 4))) as container:
        samples = sum(frame.samples for frame in container.decode(audio=0))
    assert abs(samples - 4 * 48_000) < 2000, "as long as the picture, or a player would wait for it"


def tone(path, *spans: tuple[float, float], begin: float = 0, end: float = 8, rate: int = 44_100, jitter: float = 0.0):
    """A video from `begin` to `end` (s) with a loud tone during the `spans` (s); between them lies no packet at all.

    The sound's timestamps are wrong by up to `jitter` s.
    """
    noise, codec = np.random.default_rng(0), "mp2" if path.suffix == ".ts" else "pcm_s16le"
    with av.open(str(path), "w") as out:
        picture, sound = out.add_stream("mpeg2video", rate=25), out.add_stream(codec, rate=rate, layout="mono")
        picture.width = picture.height = 32
        picture.pix_fmt = "yuv420p"
        for k in range(round(25 * begin), round(25 * end)):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 90, np.uint8), "rgb24")
            frame.pts, frame.time_base = k, Fraction(1, 25)
            out.mux(picture.encode(frame))
        out.mux(picture.encode(None))
        for start, stop in spans:
            for first in range(round(start * rate), round(stop * rate), 1152):
                wave = 12_000 * np.sin(2 * np.pi * 440 / rate * np.arange(first, first + 1152))
                frame = av.AudioFrame.from_ndarray(wave.astype(np.int16)[None], "s16", "mono")
                frame.rate, frame.time_base = rate, Fraction(1, rate)
                frame.pts = first + round(noise.uniform(0, jitter) * rate)
                out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    return path


def loud(path, start: float, end: float, width: float = 0.02) -> np.ndarray:
    """Whether there is sound in each `width` seconds of a clip."""
    with av.open(io.BytesIO(clip(path, start, end))) as container:
        samples = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    n = round(width * SAMPLE_RATE)
    return samples[: len(samples) // n * n].reshape(-1, n).std(axis=1) > 0.05


@pytest.mark.parametrize("start", [0, 2.5, 4])
def test_sound_after_a_gap_is_in_step(tmp_path, start):
    spans = [(0.5, 1.0), (3.0, 3.4), (3.7, 5.0), (6.2, 7.9)]
    path = tone(tmp_path / "gaps.mkv", *spans)
    heard = loud(path, start, start + 4)
    times = start + 0.01 + 0.02 * np.arange(len(heard))
    edges = np.min([np.abs(times - edge) for span in spans for edge in span], axis=0)
    expected = np.any([(a <= times) & (times < b) for a, b in spans], axis=0)
    assert np.array_equal(heard[edges > 0.04], expected[edges > 0.04]) and expected.any() and not expected.all()


def test_sound_whose_timestamps_drift_or_jitter_stays_in_step(tmp_path):
    # 6 ms lost after every four frames of 26 ms: in the end the samples alone would be 0.4 s early
    drifting = tone(tmp_path / "drift.mkv", *[(0.11 * i, 0.11 * i + 0.1) for i in range(70)], end=9)
    heard = loud(drifting, 5, 9)
    assert abs(5 + heard.nonzero()[0][-1] * 0.02 - (0.11 * 69 + 0.1)) < 0.07
    jittering = tone(tmp_path / "jitter.mkv", (0, 8), jitter=0.02)
    assert loud(jittering, 1, 5, width=0.0025).all(), "small errors are no gaps"


def test_sound_may_change_its_rate(tmp_path):
    first, second = tone(tmp_path / "a.ts", (0, 2), end=2), tone(tmp_path / "b.ts", (2, 4), begin=2, end=4, rate=48_000)
    (tmp_path / "both.ts").write_bytes(first.read_bytes() + second.read_bytes())
    heard = loud(tmp_path / "both.ts", 0, 4)
    assert heard[5:90].all() and heard[110:190].all()


def test_sound_is_that_of_its_seconds(shared):
    def heard(file, start=0.0, end=60.0) -> np.ndarray:
        with av.open(file) as container:
            resampler = av.AudioResampler("fltp", "mono", SAMPLE_RATE)
            blocks = [b.to_ndarray()[0] for f in container.decode(audio=0) for b in resampler.resample(f)]
        return np.concatenate(blocks)[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)]

    path = shared / "videos" / "rabbit320.mp4"
    part, whole = heard(io.BytesIO(clip(path, 3, 5))), heard(str(path), 2.9, 5.1)
    assert part.std() > 0.001
    lag = np.argmax(np.correlate(whole, part[SAMPLE_RATE // 2 : SAMPLE_RATE], "valid")) / SAMPLE_RATE - 0.6
    assert abs(lag) < 0.02, "in step with the picture"


def test_a_page_can_seek_and_sound_lies_beside_its_picture(tmp_path):
    path = tone(tmp_path / "long.mkv", (0, 30), end=30)
    with av.open(io.BytesIO(clip(path, 1, 29))) as container:
        assert abs(container.duration / av.time_base - 28) < 0.1, "or the page's bar has no length"
        packets = [
            (float(packet.pts * packet.time_base), packet.stream.type, packet.is_keyframe)
            for packet in container.demux()
            if packet.size
        ]
    times, kinds, _ = zip(*packets, strict=True)
    assert set(kinds) == {"audio", "video"}
    assert np.all(np.diff(times) > -0.05), "a player would read all pictures before the first sound"
    keys = [time for time, kind, is_key in packets if kind == "video" and is_key]
    assert max(np.diff([*keys, 28])) <= 2.1, "a seek decodes two seconds at most"


@pytest.mark.parametrize("rotation", [(0, False, False), (90, False, False), (180, True, False)])
@pytest.mark.parametrize("pixels, space, span", [("yuv420p", 1, 1), ("yuv420p", 5, 1), ("yuvj420p", 1, 2)])
def test_a_clip_is_upright_and_keeps_its_colours(tmp_path, rotation, pixels, space, span):
    colours = np.array([[[200, 30, 30], [30, 200, 30]], [[30, 30, 200], [220, 220, 220]]], np.uint8)
    path = tmp_path / "colours.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, pixels
        stream.codec_context.colorspace, stream.codec_context.color_range = space, span
        if any(rotation):
            stream.set_display_rotation(*rotation)
        for _ in range(10):
            picture = av.VideoFrame.from_ndarray(colours.repeat(32, axis=0).repeat(48, axis=1), "rgb24")
            out.mux(stream.encode(picture.reformat(format=pixels, dst_colorspace=space, dst_color_range=span)))
        out.mux(stream.encode(None))
    (expected,) = pictures(path, [0.5], 480)
    with av.open(io.BytesIO(clip(path, 0, 1))) as container:
        shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)][5]
    assert shown.shape == expected.shape

    def middles(picture) -> np.ndarray:
        height, width = picture.shape[:2]
        return picture[height // 4 :: height // 2, width // 4 :: width // 2].astype(int)

    assert np.abs(middles(shown) - middles(expected)).max() < 12
    assert sorted(map(tuple, np.round(middles(shown), -2).reshape(-1, 3))) == sorted(
        map(tuple, np.round(colours.astype(int), -2).reshape(-1, 3))
    )


def test_wide_and_tall_pictures_are_made_small(tmp_path):
    for name, size, expected in (("wide", (300, 1201), (240, 60)), ("tall", (1200, 300), (60, 240))):
        path = write_video(tmp_path / f"{name}.mov", [0, 500], grey(5, 5, size=size))
        assert Image.open(io.BytesIO(thumbnail(path, 0.2))).size == expected


def test_real_videos_give_clips_everywhere(shared):
    for path in sorted((shared / "videos").glob("*.[mw][pe][4b]*")):
        for start in (0, 6):
            shown = levels(clip(path, start, start + 0.5))
            assert 5 <= len(shown) <= 15 and shown[0][0] < 0.05, path.name
        assert Image.open(io.BytesIO(thumbnail(path, 7))).width == 240
        assert Image.open(io.BytesIO(thumbnail(path, 7, side=96))).width == 96


def test_pictures_agree_with_the_plain_reader(shared):
    """The frame chosen after a seek is the one that decoding from the beginning finds."""
    path = shared / "videos" / "rabbit320.mp4"
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [(f.pts * stream.time_base, f.to_ndarray(format="rgb24")) for f in container.decode(stream)]
    for time in (0.5, 3.02, 6.51):
        (picture,) = pictures(path, [time], 480)
        last = [array for t, array in frames if t <= Fraction(time)][-1]
        assert np.array_equal(picture, last)


@pytest.mark.parametrize("suffix", [".ts", ".mpg", ".mkv", ".mp4", ".flv", ".nut"])
@pytest.mark.parametrize("begin", [0, 40])
def test_pictures_after_a_seek_are_those_of_the_plain_reader(tmp_path, suffix, begin):
    """Key frames lie ten seconds apart, and MPEG-TS has no index; clocks may start late."""
    path, rate = tmp_path / f"v{suffix}", 5 if suffix not in (".mpg", ".flv") else 25
    codec = {".mpg": "mpeg2video", ".flv": "flv"}.get(suffix, "libx264")
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=rate, options={"g": str(10 * rate), "sc_threshold": "1000000000"})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for i in range(30 * rate):
            frame = av.VideoFrame.from_ndarray(grey(8 * (i // rate), size=(32, 32))[0], "rgb24")
            frame.pts, frame.time_base = begin * rate + i, Fraction(1, rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    read = [block[1, 0, 0, 0] for block in read_seconds(path, 2, 32)][:30]
    shown = [next(pictures(path, [second + 0.5], 32))[0, 0, 0] for second in range(30)]
    assert shown == read and np.all(np.abs(np.array(read, int) - 8 * np.arange(30)) <= 2)


def test_bad_files_say_what_is_wrong(steps, tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        clip(tmp_path / "gone.mp4", 0, 4)
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoError, match=r"text\.mp4.*cannot be opened"):
        thumbnail(tmp_path / "text.mp4", 1)
    with pytest.raises(VideoError):
        thumbnail(cut(steps, tmp_path / "cut.mov", 0.6), 1)


def remuxed(source, target, offset: float = 0):
    """The packets of `source` in another container, `offset` s later."""
    with av.open(str(source)) as read, av.open(str(target), "w") as out:
        streams = {stream: out.add_stream_from_template(stream) for stream in read.streams}
        for packet in read.demux():
            if packet.dts is not None:
                late = round(offset / packet.time_base)
                packet.pts, packet.dts = packet.pts + late, packet.dts + late
                packet.stream = streams[packet.stream]
                out.mux(packet)
    return target


def test_only_what_a_page_plays_is_sent_whole(shared, tmp_path, steps):
    everything = ["h264", "aac", "vp8", "vp9", "av1", "opus", "vorbis"]
    rabbit, gnome = (shared / "videos" / name for name in ("rabbit320.mp4", "gnome-launching-applications.webm"))
    assert playable(rabbit, everything) and playable(gnome, everything)
    assert not playable(rabbit, []) and not playable(rabbit, ["h264"]) and not playable(rabbit, ["aac"])
    assert not playable(gnome, ["h264", "aac", "vorbis"])
    assert not playable(steps, [*everything, "mpeg4"]), "a .mov"
    assert not playable(remuxed(rabbit, tmp_path / "a.mkv"), everything)
    assert playable(remuxed(rabbit, tmp_path / "a.MP4"), everything)
    late = remuxed(gnome, tmp_path / "late.webm", offset=4)
    assert not playable(late, everything), "the page would count from zero"
    large = tmp_path / "large.mp4"
    large.write_bytes(rabbit.read_bytes() + bytes(30_000_000))
    assert not playable(large, everything)
    clips = tmp_path / "clip.webm"
    clips.write_bytes(clip(steps, 0, 2))
    assert playable(clips, ["vp8"])
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(VideoError, match=r"text\.mp4.*cannot be opened"):
        playable(tmp_path / "text.mp4", everything)
