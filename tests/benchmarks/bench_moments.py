"""What a `MomentIndex` of ten thousand hours takes, computed from constants that are measured here on small sizes.

`python tests/benchmarks/bench_moments.py` prints the table of CONTRIBUTING in a few minutes. Weights are random, which
changes no time; sizes are the paper's. Times are CPU seconds of one thread: what else the machine does hardly counts.
"""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import process_time

import av
import numpy as np
import torch

from vclip.data.captions import read_captions
from vclip.data.corpus import Corpus
from vclip.data.video import read_seconds
from vclip.datasets.minihowto import minihowto
from vclip.encoders.networks import EfficientNetLite0, Projection, S3DEncoder
from vclip.encoders.s3d import S3D
from vclip.models.config import VideoCLIPConfig
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.videoclip import VideoCLIPModel
from vclip.models.videoclip_encoder import VideoCLIP
from vclip.models.windows import STRIDE, sliding_windows
from vclip.search.index import MomentIndex
from vclip.search.vectors import EXACT_UP_TO, TRAINED_ON, index_rows, nearest

HOURS = 10_000
SECONDS = HOURS * 3600
WINDOWS = SECONDS // STRIDE
DIM = 768
ROWS = 20_000  # of the FAISS index that is timed
LONG = 640  # seconds of each of the two videos in the index that is timed
DAY = 86_400


def cpu(work: Callable[[], object]) -> float:
    start = process_time()
    work()
    return process_time() - start


def write_video(path: Path, seconds: int) -> Path:
    """H.264, 640 x 360, 30 frames a second: a pattern that moves, and noise."""
    rng, y, x = np.random.default_rng(0), *np.mgrid[:360, :640]
    noise = rng.integers(0, 24, (360, 640, 3))
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for i in range(30 * seconds):
            wave = 110 + 90 * np.sin((x + 4 * i) / 40) * np.cos((y - 2 * i) / 30)
            picture = (wave[..., None] + np.roll(noise, 3 * i, 1)).clip(0, 255).astype(np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        out.mux(stream.encode(None))
    return path


def write_captions(path: Path) -> Path:
    """An hour of rolling captions as of YouTube: every 2 s the last 6 words again and 6 new ones."""
    words = np.random.default_rng(0).integers(0, 2000, (1801, 6)).tolist()
    stamp = [f"{t // 3600:02d}:{t // 60 % 60:02d}:{t % 60:02d}.000" for t in range(0, 3604, 2)]
    cues = [
        f"{stamp[i]} --> {stamp[i + 1]}\n" + " ".join(f"word{w}" for w in words[i] + words[i + 1]) for i in range(1800)
    ]
    path.write_text("\n\n".join(["WEBVTT", *cues]) + "\n", encoding="utf-8")
    return path


def encoding(video: Path, encoder, seconds: int) -> tuple[float, float]:
    """CPU seconds of decoding and of encoding, for each second of video."""
    frames: list[np.ndarray] = []
    decode = cpu(lambda: frames.extend(read_seconds(video, encoder.spec.fps, encoder.spec.size))) / len(frames)
    block = np.stack(frames[:seconds])
    encoder(block[:1])
    return decode, cpu(lambda: encoder(block)) / len(block)


def make_index(folder: Path, encoder) -> tuple[MomentIndex, float]:
    """An index of two videos of random features, and the CPU seconds that embedding a window takes."""
    model = VideoCLIPModel(VideoCLIPConfig(video_feature_dim=encoder.spec.dim)).eval()
    tokenizer = VideoCLIPProcessor.from_pretrained(minihowto() / "checkpoint").tokenizer
    clip = VideoCLIP(model, VideoCLIPProcessor(tokenizer))  # of 32 s
    features = list(np.random.default_rng(0).standard_normal((2, LONG, encoder.spec.dim)).astype(np.float16))
    videos = [(f"{i}", rows, read_captions(write_captions(folder / f"{i}.vtt"))) for i, rows in enumerate(features)]
    corpus = Corpus.create(folder / "corpus", encoder.spec, videos)
    clips = [rows[a:b] for rows in features for a, b in sliding_windows(LONG)]
    clip.encode_clips(clips[:1])
    time = cpu(lambda: clip.encode_clips(clips))
    return MomentIndex.build(clip, corpus), time / len(clips)


def measure(video: Path, folder: Path) -> dict[str, float]:
    """Constants: bytes and CPU seconds of one second of video, one window, one row of FAISS, one query."""
    s3d, found = S3DEncoder(S3D()), {}
    found["s3d decode"], found["s3d encode"] = encoding(video, s3d, 3)
    lite = Projection(EfficientNetLite0(), np.zeros((2560, 128), np.float32), np.zeros(128, np.float32))
    found["lite decode"], found["lite encode"] = encoding(video, lite, 24)

    index, found["embed"] = make_index(folder, s3d)
    (vectors,) = index.path.rglob("vectors-*")
    found["z_v bytes"] = vectors.stat().st_size / (2 * len(sliding_windows(LONG)))
    index.search("warm", 10)
    found["text"] = cpu(lambda: index.clip.encode_texts(["fry the onion"]))
    found["hits"] = cpu(lambda: index.search("fry the onion", 10)) - found["text"]

    rows = np.random.default_rng(0).standard_normal((ROWS, DIM)).astype(np.float32)
    made: list = []
    found["build"] = cpu(lambda: made.append(index_rows(np.split(rows, 20), cells=True)))
    exact = index_rows([rows])
    for name, faiss in (("cells", made[0]), ("exact", exact)):
        nearest(faiss, rows[:1], 64)
        found[name] = cpu(lambda faiss=faiss: [nearest(faiss, rows[i : i + 1], 64) for i in range(50)]) / 50
    import faiss

    faiss.write_index(made[0], str(folder / "rows.faiss"))
    found["faiss bytes"] = (folder / "rows.faiss").stat().st_size / ROWS
    return found


def table(found: dict[str, float]) -> str:
    """Markdown. Searching cells takes time in proportion to the rows, building them at most to their number ** 1.5."""

    def video(name: str, title: str, dim: int) -> str:
        decode, encode = found[f"{name} decode"], found[f"{name} encode"]
        days = (decode + encode) * SECONDS / DAY
        return (
            f"| {title} | {2 * dim * SECONDS / 1e9:.1f} GB | read by window | {days:,.0f} core-days "
            f"({decode:.3f} s to decode and {encode:.3f} s to encode one second) |"
        )

    rows = WINDOWS / ROWS
    building = (found["faiss bytes"] * WINDOWS + 4 * DIM * (TRAINED_ON * WINDOWS**0.5 + 2 * 65_536)) / 1e9
    return "\n".join(
        [
            "| | disk | memory | time, on one core |",
            "|---|---|---|---|",
            video("s3d", "features of S3D-G, 512 a second", 512),
            video("lite", "or of EfficientNet-Lite0, projected to 128 as in the shipped model", 128),
            f"| window vectors z_v | {found['z_v bytes'] * WINDOWS / 1e9:.1f} GB | mapped | "
            f"{found['embed'] * WINDOWS / DAY:.1f} core-days ({1000 * found['embed']:.0f} ms a window) |",
            f"| FAISS index | {found['faiss bytes'] * WINDOWS / 1e9:.1f} GB | mapped; {building:.1f} GB to build it | "
            f"at most {found['build'] * rows**1.5 / 60:.0f} minutes, when a sixteenth of them has come or gone |",
            f"| a search | | | {found['text'] + found['cells'] * rows:.2f} s, then {found['hits']:.1f} s for the "
            "seconds and captions of ten hits |",
            "",
            f"Exact up to {EXACT_UP_TO:,} windows ({EXACT_UP_TO * STRIDE / 3600:.0f} hours): "
            f"{4 * DIM * EXACT_UP_TO / 1e9:.1f} GB of memory, {found['exact'] * EXACT_UP_TO / ROWS:.2f} s a query.",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="What an index of 10,000 hours takes.")
    parser.add_argument("--video", type=Path, help="measure decoding on this file, not on one made here")
    video = parser.parse_args().video
    torch.set_num_threads(1)
    import faiss

    faiss.omp_set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = video or write_video(Path(folder) / "made.mp4", 24)
        (Path(folder) / "videos").mkdir()
        found = measure(path, Path(folder) / "videos")
    print(f"{HOURS:,} hours of video, {WINDOWS:,} windows; torch {torch.__version__} on a CPU, one thread")
    print(table(found))
    print({name: round(value, 5) for name, value in found.items()})


if __name__ == "__main__":
    main()
