import math
import os
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from limits import still_running
from PIL import Image
from videos import cut, grey, write_sound, write_video

from vclip.data import video
from vclip.data.video import VideoError, read_seconds

# when the last frame ends
REAL = {
    "sam2-coffee.mp4": Fraction("9.576"),
    "gnome-launching-applications.webm": Fraction("34.166"),
    "googlework_short.mp4": Fraction("35.102"),
    "rabbit320.mp4": Fraction("7.8"),
}
LOSSLESS_MKV = {"codec": "ffv1", "pixels": "bgr0"}


def levels(path, fps: int, size: int = 16) -> np.ndarray:
    """(seconds, fps): the level of each frame's middle pixel."""
    return np.stack([block[:, size // 2, size // 2, 0] for block in read_seconds(path, fps, size)])


def seconds_before_error(path, fps=3, size=16) -> tuple[int, str]:
    n = 0
    with pytest.raises(VideoError) as caught:
        for _ in read_seconds(path, fps, size):
            n += 1
    return n, str(caught.value)


def slot(time: Fraction, fps: int) -> int:
    return math.floor(time * fps + Fraction(1, 2))


def frame_for(times: list[Fraction], k: int, fps: int) -> int:
    """The definition: the last frame whose timestamp, rounded to the nearest slot, is at most k, or the first."""
    return max([i for i, time in enumerate(times) if slot(time, fps) <= k], default=0)


@pytest.mark.parametrize("name", REAL)
@pytest.mark.parametrize("fps", [3, 30])
def test_real_videos_against_a_loop(shared, name, fps):
    path, size = shared / "videos" / name, 16
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
        times = [frame.pts * frame.time_base - Fraction(container.start_time, av.time_base) for frame in frames]
    height, width = frames[0].height, frames[0].width
    other = int(max(height, width) * size / min(height, width))
    left = int((other - size) / 2)
    blocks = list(read_seconds(path, fps, size))
    end = slot(REAL[name], fps)
    assert len(blocks) == math.ceil(end / fps)
    assert all(block.shape == (fps, size, size, 3) and block.dtype == np.uint8 for block in blocks)
    samples = np.concatenate(blocks)
    for k in range(0, len(samples), 7):
        if k < end:
            small = frames[frame_for(times, k, fps)].reformat(other, size, "rgb24", interpolation="BICUBIC")
            np.testing.assert_array_equal(samples[k], small.to_ndarray()[:, left : left + size])
        else:
            assert not samples[k].any()


def test_frames_are_decoded_a_few_ahead(shared, monkeypatch):
    """While the first of one second is resized, and no more than FRAMES_AHEAD."""
    decoded, resized, waited = [], [], threading.Event()
    shown, resize = video.frames_of, video.resize_and_crop

    def counted(path, begin):
        for item in shown(path, begin):
            decoded.append(item)
            if len(decoded) > video.FRAMES_AHEAD:
                waited.set()
            yield item

    def checked(*arguments):
        assert waited.wait(60) and len(decoded) <= len(resized) + 1 + video.FRAMES_AHEAD + 1
        resized.append(resize(*arguments))
        return resized[-1]

    monkeypatch.setattr(video, "frames_of", counted)
    monkeypatch.setattr(video, "resize_and_crop", checked)
    threads, seconds = set(threading.enumerate()), read_seconds(shared / "videos/rabbit320.mp4", 30, 32)
    next(seconds)
    seconds.close()
    assert not still_running(threads) and len(resized) == 30


def test_the_picture_may_begin_after_the_sound(shared):
    first = next(read_seconds(shared / "videos/googlework_short.mp4", 30, 32))
    # frames begin at 0.834 s: what is shown for the 26 times before is the first of them
    assert all(np.array_equal(first[0], frame) for frame in first[:26])


@settings(max_examples=25, deadline=None)
@given(gaps=st.lists(st.integers(1, 900), min_size=1, max_size=12), start=st.integers(0, 1500), fps=st.integers(1, 30))
def test_any_timestamps_against_a_loop(tmp_path_factory, gaps, start, fps):
    times = np.cumsum([start, *gaps]).tolist()
    path = write_video(
        tmp_path_factory.mktemp("v") / "v.mkv", times, grey(*range(20, 20 + len(times))), sound=(0, 100), **LOSSLESS_MKV
    )
    end = max(1, slot(Fraction(times[-1] + gaps[-1], 1000), fps))
    expected = [20 + frame_for([Fraction(t, 1000) for t in times], k, fps) for k in range(end)]
    assert levels(path, fps).ravel().tolist() == expected + [0] * (-end % fps)


def test_the_last_partial_second_is_black(tmp_path):
    path = write_video(tmp_path / "v.mov", range(0, 1300, 100), grey(*[200] * 13))
    assert levels(path, 10).tolist() == [[200] * 10, [200] * 3 + [0] * 7]


def test_whole_seconds_make_no_extra_one(tmp_path):
    # milliseconds round thirtieths of a second: the last of 60 frames ends at 2.000 or 2.001 s
    times = [round(i * 1000 / 30) for i in range(60)]
    assert len(levels(write_video(tmp_path / "v.mkv", times, grey(*range(60)), **LOSSLESS_MKV), 30)) == 2


def test_a_frame_that_ends_late_lasts(tmp_path):
    path = write_video(tmp_path / "v.mov", [0, 100, 4100], grey(10, 20, 30))
    assert levels(path, 2).tolist() == [[20, 20]] * 4 + [[30, 30]] * 4
    assert levels(path, 10).ravel().tolist() == [10] + [20] * 40 + [30] * 40 + [0] * 9


def picture_with_corners() -> np.ndarray:
    """48 x 64; corners: white, red, green, blue, clockwise from the top left."""
    picture = np.zeros((48, 64, 3), np.uint8)
    corners = ((0, 0), (255, 255, 255)), ((0, -1), (255, 0, 0)), ((-1, -1), (0, 255, 0)), ((-1, 0), (0, 0, 255))
    for (row, column), colour in corners:
        rows = slice(0, 20) if row == 0 else slice(-20, None)
        picture[rows, slice(0, 28) if column == 0 else slice(-28, None)] = colour
    return picture


@pytest.mark.parametrize("flip", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_pictures_are_turned_as_the_file_asks(tmp_path, degrees, flip):
    picture = picture_with_corners()
    path = write_video(tmp_path / "v.mov", [0, 500], [picture] * 2, rotation=(degrees, *flip))
    turned = np.rot90(picture, degrees // 90)
    turned = turned[:: -1 if flip[1] else 1, :: -1 if flip[0] else 1]
    got = next(read_seconds(path, 1, 48))[0]
    for row, column in ((2, 2), (2, -3), (-3, -3), (-3, 2)):
        np.testing.assert_array_equal(got[row, column], turned[row, column])


@pytest.mark.parametrize("height, width", [(48, 64), (64, 48), (33, 57), (5, 3), (1, 2), (300, 16)])
def test_short_side_and_centre_crop(tmp_path, height, width):
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
    short = min(height, width)
    path = write_video(tmp_path / "v.mov", [0, 500], [picture] * 2)
    # at its own size the short side is untouched, so that the crop can be compared pixel by pixel
    top, left = int((height - short) / 2), int((width - short) / 2)
    expected = picture[top : top + short, left : left + short]
    np.testing.assert_array_equal(next(read_seconds(path, 1, short))[0], expected)
    assert next(read_seconds(path, 2, 31)).shape == (2, 31, 31, 3)


def test_bicubic(tmp_path):
    # an edge, enlarged: bicubic overshoots on both sides, linear never
    picture = np.full((8, 8, 3), 50, np.uint8)
    picture[:, 4:] = 200
    row = next(read_seconds(write_video(tmp_path / "v.mov", [0, 500], [picture] * 2), 1, 64))[0, 32, :, 0]
    assert row.min() < 47 and row.max() > 203 and row[0] == 50 and row[-1] == 200


@pytest.mark.parametrize("pixels", ["gray", "yuv420p10le", "yuv444p"])
def test_other_pixel_formats_become_rgb(tmp_path, pixels):
    path = write_video(tmp_path / "v.mkv", [0, 500], grey(90, 90), codec="ffv1", pixels=pixels)
    block = next(read_seconds(path, 1, 16))
    assert block.shape == (1, 16, 16, 3) and np.abs(block.astype(int) - 90).max() <= 2


def test_thirtieths_start_late_in_a_stream_without_drift(tmp_path):
    # the container rounds the start, 1/30 s, to microseconds: a frame of rest must not shift every sample by one
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=30, options={"crf": "0", "bf": "0"})
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv444p"
        for i, picture in enumerate(grey(*range(20, 110))):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.pts, frame.time_base = i + 1, Fraction(1, 30)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    got = levels(path, 30).ravel().astype(int)
    assert len(got) == 90 and np.abs(got - np.arange(20, 110)).max() <= 1


def test_the_stream_marked_default_is_read(tmp_path):
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as out:
        for size in (16, 16):
            stream = out.add_stream("ffv1", rate=2)
            stream.width, stream.height, stream.pix_fmt = size, size, "bgr0"
        out.streams.video[0].disposition = 0
        out.streams.video[1].disposition = av.stream.Disposition.default
        for i in range(4):
            for stream, level in zip(out.streams.video, (50, 150), strict=True):
                frame = av.VideoFrame.from_ndarray(grey(level)[0], "rgb24")
                frame.pts, frame.time_base = i, Fraction(1, 2)
                out.mux(stream.encode(frame))
        for stream in out.streams.video:
            out.mux(stream.encode(None))
    assert levels(path, 2).tolist() == [[150, 150]] * 2


def sound_only(path, cover: bool):
    with av.open(str(path), "w") as out:
        picture = out.add_stream("png", rate=1) if cover else None
        if picture is not None:
            picture.width, picture.height, picture.pix_fmt = 64, 64, "rgb24"
            picture.disposition = av.stream.Disposition.attached_pic
        sound = out.add_stream("aac", rate=8000)
        if picture is not None:
            frame = av.VideoFrame.from_ndarray(grey(99, size=(64, 64))[0], "rgb24")
            frame.pts, frame.time_base = 0, Fraction(1, 1)
            out.mux([*picture.encode(frame), *picture.encode(None)])
        write_sound(out, sound, 0, 2000)
    return path


@pytest.mark.parametrize("cover", [False, True])
def test_sound_without_moving_picture_is_refused(tmp_path, cover):
    n, message = seconds_before_error(sound_only(tmp_path / "song.mp4", cover))
    assert n == 0 and "song.mp4" in message and "sound" in message


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("not a video at all\n" * 100)
    # a playlist may name addresses that nobody asked for
    (tmp_path / "net.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://localhost:9/a.ts\n")
    for name in ("empty.mp4", "text.mp4", "net.mp4"):
        n, message = seconds_before_error(tmp_path / name)
        assert n == 0 and name in message and "copy" in message
    with pytest.raises(FileNotFoundError, match=r"missing\.mp4"):
        next(read_seconds(tmp_path / "missing.mp4", 3, 16))
    with pytest.raises(ValueError, match="fps and size"):
        next(read_seconds(tmp_path / "text.mp4", 0, 16))


def test_a_list_of_other_files_is_refused(shared, tmp_path):
    """Each names a video beside it, or part of one, that FFmpeg would play in its place."""
    (tmp_path / "real.mp4").write_bytes((shared / "videos" / "rabbit320.mp4").read_bytes())
    write_video(tmp_path / "real.ts", range(0, 2000, 40), grey(*range(50), size=(64, 64)), "mpeg4", "yuv420p")
    for i in (1, 2):
        Image.new("RGB", (16, 16)).save(tmp_path / f"p{i}.png")
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nreal.ts\n#EXT-X-ENDLIST\n"
    lists = {
        "concat.mp4": "ffconcat version 1.0\nfile real.mp4\n",
        "hls.m3u8": playlist,
        "talk.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    }
    for name, content in lists.items():
        (tmp_path / name).write_text(content)
    for name in (*lists, "p%d.png"):
        n, message = seconds_before_error(tmp_path / name)
        assert n == 0 and name in message and "name the video itself" in message
    others = {
        "hls.ts": playlist,
        "dash.mp4": '<?xml version="1.0"?><MPD><Period><BaseURL>real.mp4</BaseURL></Period></MPD>',
        "smil.mp4": '<smil><body><video src="real.mp4"/></body></smil>',
        "script.avs": 'DirectShowSource("real.mp4")\n',
    }
    for name, content in others.items():
        (tmp_path / name).write_text(content)
        assert seconds_before_error(tmp_path / name)[0] == 0


def test_names_that_look_like_addresses_are_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("pipe:1.mov", "http:a.mov", "ü 100%.mov", "a\udcff.mov"):
        write_video(tmp_path / "v.mov", [0, 500], grey(70, 70)).rename(name)
        assert levels(name, 1).tolist() == [[70]]


@pytest.mark.parametrize("name", REAL)
def test_cut_files_give_what_decoded_and_then_raise(shared, tmp_path, name):
    path = cut(shared / "videos" / name, tmp_path / f"cut-{name}")
    n, message = seconds_before_error(path)
    assert 0.4 * REAL[name] < n < 0.75 * REAL[name]
    assert path.name in message and "although its header says" in message and "copy the file again" in message
    whole = read_seconds(shared / "videos" / name, 3, 16)
    with pytest.raises(VideoError):
        for second, (ours, theirs) in enumerate(zip(read_seconds(path, 3, 16), whole, strict=False)):
            if second < n - 2:
                np.testing.assert_array_equal(ours, theirs)


def test_a_file_cut_before_its_index_does_not_open(tmp_path):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (64, 64, 3), dtype=np.uint8) for _ in range(20)]
    whole = write_video(tmp_path / "v.mp4", range(0, 2000, 100), pictures, "libx264", "yuv420p")
    for share in (0.6, 0.95):
        n, message = seconds_before_error(cut(whole, tmp_path / "cut.mp4", share))
        assert n == 0 and "cut.mp4" in message and "truncated file" in message


@pytest.mark.parametrize("name, codec, pixels", [("v.mkv", "ffv1", "bgr0"), ("v.avi", "mjpeg", "yuvj420p")])
def test_a_short_file_that_is_cut_is_noticed(tmp_path, name, codec, pixels):
    rng = np.random.default_rng(0)
    path = tmp_path / name
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, pixels
        for _ in range(20):
            picture = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(stream.encode(None))
    assert len(levels(path, 3)) == 2
    assert seconds_before_error(cut(path, path))[0] in (1, 2)


def test_damage_in_the_middle_keeps_the_rest(tmp_path):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (64, 64, 3), dtype=np.uint8) for _ in range(50)]
    path = write_video(tmp_path / "v.mov", range(0, 5000, 100), pictures)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = bytes(300)
    path.write_bytes(data)
    n, message = seconds_before_error(path)
    assert n == 5 and "decoding fails" in message


def test_sound_that_goes_on_after_the_picture_is_no_damage(tmp_path):
    path = write_video(tmp_path / "v.mkv", range(0, 2000, 100), grey(*range(20)), sound=(0, 9000), **LOSSLESS_MKV)
    assert len(levels(path, 3)) == 2


def test_timestamps_that_jump_end_the_reading(tmp_path):
    path = write_video(tmp_path / "v.mkv", [0, 500, 9_000_000, 9_000_500], grey(1, 2, 3, 4), **LOSSLESS_MKV)
    n, message = seconds_before_error(path)
    assert n == 1 and "jump" in message


def test_memory_does_not_grow_with_the_video(tmp_path):
    path = write_video(tmp_path / "v.mkv", range(0, 300_000, 1000), grey(*[9] * 300), **LOSSLESS_MKV)
    script = (
        "import sys; from memory import peak_mb; from vclip.data.video import read_seconds\n"
        "seconds = read_seconds(sys.argv[1], 30, 224); next(seconds)\n"
        "before = peak_mb()\n"
        "n = sum(1 for _ in seconds)\n"
        "print(n, peak_mb() - before)"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], env=environment, capture_output=True, text=True, check=True
    )
    n, grown = map(float, done.stdout.split())
    # the frames together are 1.3 GB
    assert n == 299 and grown < 64


def test_a_theora_picture_that_stands_still_is_no_damage(shared):
    path = shared / "cases" / "30_theora_static_called_damaged" / "a.ogv"
    with av.open(str(path)) as container:
        assert sum(packet.size == 0 for packet in container.demux()) > 80, "empty packets repeat a frame"
    assert len(levels(path, 25)) == 4


def test_an_avi_with_b_frames_is_as_long_as_it_says(shared):
    path = shared / "cases" / "32_xvid_avi_extra_black_second" / "a.avi"
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 100
        assert [next(container.decode(video=0)).pts, container.start_time] == [1, 0]
    for fps in (3, 25, 30):
        blocks = list(read_seconds(path, fps, 32))
        assert len(blocks) == 4 and all(picture.any() for block in blocks for picture in block)


@pytest.mark.parametrize("suffix", [".mkv", ".nut", ".asf", ".mp4", ".ts", ".flv"])
def test_a_clock_that_starts_late_is_no_damage(tmp_path, suffix):
    """A recorder counts from when it was switched on; some formats' durations count from there too, some do not."""
    rng, path = np.random.default_rng(0), tmp_path / f"v{suffix}"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("flv" if suffix == ".flv" else "mpeg4", rate=25, options={"qmin": "2", "qmax": "2"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for i in range(150):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (64, 64, 3), dtype=np.uint8), "rgb24")
            frame.pts, frame.time_base = 30 * 25 + i, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert len(levels(path, 3)) == 6
    if suffix in (".mkv", ".flv"):  # their headers say how long they are
        n, message = seconds_before_error(cut(path, path, 0.6))
        assert n in (3, 4) and ("header says" in message or "decoding fails" in message)
