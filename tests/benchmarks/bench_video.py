"""From a file to features: decoding to 224 x 224 against a pipe from the program ffmpeg, S3D folded against eager,
which of disk, decoder and encoder bounds the extraction, and one frame a second against three.

Videos are H.264 at 30 frames a second, a pattern that moves under noise that is new in every frame; weights are random,
which changes no time.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import vclip
from vclip.data.extraction import encode_file
from vclip.data.video import read_seconds
from vclip.datasets import youcook2
from vclip.encoders.networks import EfficientNetLite0, Projection, S3DEncoder
from vclip.encoders.s3d import S3D, fold
from vclip.tasks import retrieval

from processor import has_bf16

SECONDS = 4  # of video that are encoded; a longer one repeats them
SIZES = {360: (640, 1_000_000), 720: (1280, 2_500_000)}  # height: width, bits a second
GFLOP = 70.5  # of S3D for one second of video


def write_video(path: Path, height: int, seconds: int) -> Path:
    rng = np.random.default_rng(0)
    width, bits = SIZES[height]
    y, x = np.mgrid[:height, :width]
    wave = (110 + 90 * np.sin(x / 40) * np.cos(y / 30)).astype(np.uint8)[..., None]
    noise = rng.integers(0, 24, (height, width, 3), np.uint8)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, "yuv420p", bits
        for i in range(30 * seconds):
            picture = np.roll(wave, (2 * i, -4 * i), (0, 1)) + np.roll(noise, rng.integers(0, width, 2), (0, 1))
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(stream.encode(None))
    return path


def repeat(source: Path, target: Path, times: int) -> Path:
    """The same packets again and again, not encoded anew: they begin with a picture that needs no other."""
    with av.open(str(source)) as first, av.open(str(target), "w") as out:
        stream = out.add_stream_from_template(first.streams.video[0])
        for i in range(times):
            with av.open(str(source)) as again:
                for packet in again.demux(video=0):
                    if packet.pts is not None and packet.dts is not None:
                        later = round(i * SECONDS / packet.time_base)
                        packet.pts, packet.dts, packet.stream = packet.pts + later, packet.dts + later, stream
                        out.mux(packet)
    return target


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Callable[[int, int], Path]:
    """`videos(height, seconds)`: a file so long, or a little longer."""
    folder = tmp_path_factory.mktemp("videos")
    short = {height: write_video(folder / f"{height}.mp4", height, SECONDS) for height in SIZES}
    return lambda height, seconds: repeat(short[height], folder / f"{height}-{seconds}.mp4", -(-seconds // SECONDS))


@pytest.fixture(scope="module")
def s3d() -> S3D:
    torch.manual_seed(0)
    return S3D().eval().requires_grad_(False)


def piped(path: Path, height: int) -> np.ndarray:
    """Every frame as float32, as the released extractors read them."""
    other = int(SIZES[height][0] * 224 / height)
    command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(path), "-vf", f"fps=30,scale={other}:224,crop=224:224"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:"]
    frames = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    return np.frombuffer(frames, np.uint8).reshape(-1, 224, 224, 3).astype(np.float32)


def decoded(path: Path) -> int:
    with av.open(str(path)) as container:
        container.streams.video[0].thread_type = "AUTO"
        return sum(1 for _ in container.decode(video=0))


def timed(work: Callable[[], object], rounds: int = 3) -> float:
    """Median seconds."""
    times = []
    for _ in range(rounds):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return float(np.median(times))


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the plain way needs the program ffmpeg")
@pytest.mark.parametrize(("height", "target"), [(360, 3.0), (720, 2.0)])
def bench_decoding(compare, videos, height, target):
    """Of 16 s, so that the start of the program ffmpeg does not count; the limit is decoding alone, on all cores."""
    path, seconds = videos(height, 16), 16
    plain, ours = (lambda: piped(path, height)), (lambda: list(read_seconds(path, 30, 224)))
    frames = np.concatenate(ours())
    difference = np.abs(frames - plain()).mean()
    megabits = path.stat().st_size * 8e-6 / seconds
    conditions = {"frames": len(frames), "Mbit/s": round(megabits, 2), "mean difference": round(float(difference), 3)}
    conditions["ffmpeg"] = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True).stdout.split()[2]
    name = f"decoding to 224 x 224, {height}p, resize on the CPU"
    compare(name, plain, ours, rounds=7, target=target, limit=lambda: decoded(path), **conditions)


def products() -> Callable[[], object]:
    """As many operations as S3D has for a second, as four matrix products in float32."""
    size = round((GFLOP * 1e9 / 8) ** (1 / 3) / 16) * 16
    a, b = torch.rand(2, size, size)
    out = torch.empty_like(a)
    return lambda: [torch.mm(a, b, out=out) for _ in range(4)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def bench_s3d(compare, s3d, dtype):
    if dtype == torch.bfloat16 and not has_bf16():
        pytest.skip("this processor has no instructions for bfloat16")
    x = torch.rand(1, 30, 224, 224, 3).permute(0, 4, 1, 2, 3)  # as an encoder hands it on
    fast = fold(s3d).to(dtype)
    cosine = F.cosine_similarity(fast(x).video_embedding.float(), s3d(x).video_embedding).item()
    plain, limit = x.contiguous(), products() if dtype == torch.float32 else None
    name = f"S3D, one second, {str(dtype).removeprefix('torch.')}, not compiled, against fp32 eager"
    compare(name, lambda: s3d(plain), lambda: fast(x), rounds=9, limit=limit, target=3.3, cosine=round(cosine, 7))


def read_from_disk(path: Path) -> None:
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while file.read(2**20):
            pass


@pytest.mark.parametrize("name, seconds", [("S3D", 6), ("EfficientNet-Lite0", 168)])
def bench_stages(report, videos, s3d, name, seconds):
    """The whole extraction over its slowest stage alone. 1: the slowest hides the others.

    Decoder and encoder each keep all cores busy, so on a CPU their times add up ("one after the other").
    """
    encoder = S3DEncoder(s3d) if name == "S3D" else EfficientNetLite0()
    spec, path = encoder.spec, videos(360, seconds)
    frames = np.stack(list(read_seconds(path, spec.fps, spec.size)))
    encoder(frames[:1])
    times = {
        "disk": timed(lambda: read_from_disk(path)),
        "decoder": timed(lambda: list(read_seconds(path, spec.fps, spec.size))),
        "encoder": timed(lambda: encoder(frames)),
    }
    slowest = max(times, key=lambda stage: times[stage])
    whole = timed(lambda: encode_file(path, encoder))
    stages = times | {"together": whole}
    shown = {f"{stage}, s of video a second": round(len(frames) / time, 1) for stage, time in stages.items()}
    title = f"extraction with {name}, {spec.fps} frames of {spec.size} a second, 360p, bound by the {slowest}"
    added = round(times[slowest] / (times["decoder"] + times["encoder"]), 3)
    report(title, times[slowest] / whole, seconds=len(frames), **shown, **{"one after the other": added})


HELD_OUT = ("val", "test", "unseen")


def held_out_clips(folder: Path) -> list[youcook2.Clip]:
    """Of the videos that ship in MiniHowTo those that the shipped model was not trained on, step by step."""
    there = {path.stem for path in (folder / "videos").glob("*.mp4")}
    return [clip for split in HELD_OUT for clip in youcook2.load(folder / "youcook2" / split) if clip.video_id in there]


@pytest.mark.parametrize("source", ["MiniHowTo", "720p"])
def bench_one_frame_a_second(compare, videos, source):
    """What `fps=1` saves; and how much less the shipped model finds in it, which was trained on three."""
    folder, conditions = vclip.minihowto(), {}
    three = Projection.load(EfficientNetLite0(), folder / "projection.safetensors")
    one = Projection(EfficientNetLite0(fps=1), three.matrix, three.offset)
    clips = held_out_clips(folder)
    paths = sorted({folder / "videos" / f"{clip.video_id}.mp4" for clip in clips})
    paths = paths if source == "MiniHowTo" else [videos(720, 24)]
    found = {
        encoder.spec.fps: {path.stem: np.array(encode_file(path, encoder)[0]) for path in paths}
        for encoder in (three, one)
    }
    seconds = sum(map(len, found[1].values()))
    if source == "MiniHowTo":
        model = vclip.load(folder / "checkpoint")
        z_t = model.encode_texts([clip.sentence for clip in clips])
        for fps, features in found.items():
            z_v = model.encode_clips([features[clip.video_id][clip.start : clip.end] for clip in clips])
            conditions[f"R@1 at {fps} a second"] = round(retrieval.score(z_t @ z_v.T).r1, 3)
        conditions |= {"clips": len(clips), "chance": round(1 / len(clips), 3)}

    def extract(encoder) -> None:
        for path in paths:
            encode_file(path, encoder)

    name = f"extraction with EfficientNet-Lite0, {source}: one frame a second against three"
    compare(name, lambda: extract(three), lambda: extract(one), rounds=5, seconds=seconds, **conditions)
