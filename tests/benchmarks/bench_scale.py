"""What takes long, against what it should take by its parts timed alone: the sums of notebook 11 put to the test.

A ratio is measured over predicted seconds; at 1 nothing is lost between the parts. They are CPU seconds of all threads,
so that what else the machine does hardly counts.
"""

from collections.abc import Callable
from pathlib import Path
from time import process_time

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from transformers import AutoTokenizer

from vclip.data.corpus import Corpus
from vclip.data.extraction import extract
from vclip.data.samplers import AlignedClips
from vclip.data.video import read_seconds
from vclip.datasets.minihowto import minihowto
from vclip.encoders.networks import EfficientNetLite0
from vclip.training.batches import embed_clips
from vclip.training.clusters import VideoIndex, sample_clusters
from vclip.training.config import PretrainConfig
from vclip.training.pretrain import Contrast, new_model, pretrain

from vectors import like_a_trained_models


def seconds_of(work: Callable[[], object]) -> float:
    start = process_time()
    work()
    return process_time() - start


@pytest.fixture
def against(report) -> Callable[..., None]:
    def add(what: str, predicted: float, measured: float, **conditions) -> None:
        report(what, measured / predicted, predicted_s=predicted, measured_s=measured, **conditions)

    return add


def bench_extraction(against, tmp_path):
    """Four videos, from seconds to decode and to encode one second of two others."""
    encoder, videos = EfficientNetLite0(), sorted((minihowto() / "videos").glob("*.mp4"))
    timed, others = videos[:2], videos[2:6]

    def frames(video: Path) -> np.ndarray:
        return np.stack(list(read_seconds(video, encoder.spec.fps, encoder.spec.size)))

    encoder(frames(timed[0]))
    decoding = encoding = n = 0.0
    for video in timed:
        decoding += seconds_of(lambda video=video: frames(video))
        block = frames(video)
        encoding, n = encoding + seconds_of(lambda block=block: encoder(block)), n + len(block)
    taken = seconds_of(lambda: extract(others, tmp_path / "out", encoder))
    total = int(Corpus.open(tmp_path / "out").seconds.sum())
    parts = {"decoding a second": f"{decoding / n:.4f} s", "encoding a second": f"{encoding / n:.4f} s"}
    against("extraction of a folder", (decoding + encoding) / n * total, taken, seconds=total, **parts)


def bench_epoch(against, tmp_path):
    """An epoch of the sample recipe: its updates from 8 timed ones, 592 videos' vectors from 64."""
    config = PretrainConfig.sample(epochs=1, validation=None, output=str(tmp_path / "run"))
    corpus = Corpus.open(config.corpus).tokenize(AutoTokenizer.from_pretrained(config.tokenizer))
    model, rng = new_model(config, corpus), np.random.default_rng(0)
    contrast = Contrast(config, Accelerator(cpu=True), model, corpus, None)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, fused=True)

    def step(inputs: tuple) -> None:
        contrast.loss(model, *inputs).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        optimizer.step()
        optimizer.zero_grad()

    batches, drawing, stepping = [rng.permutation(len(corpus))[: config.videos_per_batch] for _ in range(9)], [], []
    for batch in batches:
        start = process_time()
        inputs = contrast.inputs(batch, rng)
        drawing.append(process_time() - start)
        stepping.append(seconds_of(lambda inputs=inputs: step(inputs)))
    draw_s, step_s = float(np.mean(drawing[1:])), float(np.mean(stepping[1:]))
    videos = np.arange(64)
    clips = AlignedClips(config.text_tokens).sample(corpus, videos, config.retrieval_clips, rng)
    embed_s = min(seconds_of(lambda: embed_clips(model, corpus, videos, clips)) for _ in range(3)) / len(videos)

    times: dict[str, float] = {}
    updates = 0

    def on_row(row: dict) -> None:
        nonlocal updates
        name = "retrieval" if "stage" in row else "index" if "videos_embedded" in row else "update"
        times[name] = process_time()
        updates = row["step"]

    pretrain(config, on_row)
    update_s, vectors_s = updates * (draw_s + step_s), len(corpus) * embed_s
    shown = {"a batch of 256 pairs": f"{1000 * draw_s:.1f} ms", "a step": f"{1000 * step_s:.0f} ms"}
    for name, predicted, taken in (
        (f"{updates} updates", update_s, times["update"] - times["index"]),
        ("video vectors", vectors_s, times["index"] - times["retrieval"]),
    ):
        shown[name] = f"{taken:.2f} s, predicted {predicted:.2f} s"
    measured = times["update"] - times["retrieval"]
    against("epoch of the sample recipe", update_s + vectors_s, measured, **shown)


def bench_retrieval_scale(against):
    """80,000 vectors from 40,000: making the index takes time as N does, the search as N^2.

    Choosing the best is a few per cent of the products and grows as they do. (A linear and a square term fitted to two
    sizes would make six to eight times as much of each one's error.)
    """
    known, n = 40_000, 80_000
    vectors = like_a_trained_models(n)

    def clusters(index: VideoIndex) -> None:
        sample_clusters(index, len(index) // 32, 32, 64, np.random.default_rng(0))

    def best(work: Callable[[], object]) -> float:
        return min(seconds_of(work) for _ in range(3))

    index = VideoIndex(vectors[:known])
    making, search = best(lambda: VideoIndex(vectors[:known])), best(lambda: clusters(index))
    taken = best(lambda: clusters(VideoIndex(vectors)))
    against(
        "retrieval stage of 80,000 vectors",
        making * (n / known) + search * (n / known) ** 2,
        taken,
        **{"making the index of 40,000": f"{making:.3f} s", "GFLOP per CPU second": f"{48e-9 * n**2 / taken:.0f}"},
    )
