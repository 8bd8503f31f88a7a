"""Batches from disk, one process: the paper's 512 pairs (32 videos, 16 overlapped clips each), drawn and read.

The corpus is that of `howto.py`. Plain is a Python call a clip, the shard opened for it, captions joined and seconds
added one at a time, rows padded with zeros in float32, stacked. The released code does so too, but loads a video once
for its 16 clips: the condition "plain, one open a video" says what that makes of the plain way.

Cold: before every round no page of a shard is in the kernel's cache (`posix_fadvise` DONTNEED, with all maps new),
which the disk's counter in /proc/self/io confirms, and a round's videos are random ones, as they are in an epoch of a
corpus larger than memory. What lies below the kernel, such as a virtual disk's host, may still cache. Our shards are
open: a run opens each once (`corpus.FILES_OPEN`), HowTo100M's 6,500 in its first hundreds of batches, which the
condition "opening a shard" tells the cost of.
"""

import math
import os
import random
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from vclip.data.corpus import Corpus
from vclip.data.samplers import OverlappedClips
from vclip.models.config import VideoCLIPConfig
from vclip.training.batches import pack

import howto

VIDEOS, CLIPS, BATCHES, ROUNDS = 32, 16, 4, 11  # a batch's, and how many batches a round has
CONFIG = VideoCLIPConfig()
SECONDS, TOKENS = 32, 63  # of a padded row, video and text
TARGET = 33_000  # pairs a second feed one H200


class Video(NamedTuple):
    """What the released code holds in memory of one video."""

    shard: Path
    row: int
    seconds: int
    start: list[float]
    end: list[float]
    cap: list[list[int]]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    return howto.make(tmp_path_factory.mktemp("batches") / "corpus")


@pytest.fixture(scope="module")
def in_memory(corpus) -> list[Video]:
    words = [c.tolist() for c in np.split(corpus.token_ids, corpus.token_offsets[1:-1])]
    videos = []
    for i in range(len(corpus)):
        own = slice(*corpus.caption_offsets[i : i + 2])
        times = (corpus.caption_start[own].tolist(), corpus.caption_end[own].tolist())
        shard, row = corpus._blocks[corpus._shard[i]], int(corpus.first_row[i])
        videos.append(Video(shard, row, int(corpus.seconds[i]), *times, words[own]))
    return videos


def read(video: Video, start: int, end: int) -> Tensor:
    """Seconds `start`:`end` (T, 512) float16."""
    with safe_open(video.shard, "np") as shard:
        return torch.from_numpy(shard.get_slice("features")[video.row + start : video.row + end])


def plain_clip(video: Video, whole: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features (32, 512) float32 and their mask, ids (63,) and their mask; `whole` is the video, if it was read."""
    first = last = random.randint(0, len(video.cap) - 1)
    target, pieces = random.randint(8, 64), list(video.cap[first])
    while (
        (first > 0 or last + 1 < len(video.cap)) and len(pieces) < target and video.end[last] - video.start[first] < 256
    ):
        if last + 1 < len(video.cap) and (random.random() > 0.5 or first == 0):
            last += 1
            pieces = pieces + video.cap[last]
        else:
            first -= 1
            pieces = video.cap[first] + pieces
    centre = min(random.randint(math.floor(video.start[first]), math.ceil(video.end[last])), video.seconds - 1)
    start = end = centre
    length = min(random.randint(3, SECONDS), video.seconds)
    while end - start < length:
        if start <= 0 or (end < video.seconds and random.random() > 0.5):
            end += 1
        else:
            start -= 1
    rows = read(video, start, end) if whole is None else whole[start:end]
    features, video_mask = torch.zeros(SECONDS, howto.WIDTH), torch.zeros(SECONDS, dtype=torch.bool)
    features[: len(rows)], video_mask[: len(rows)] = rows.float(), True
    words = torch.tensor([101, *pieces[: TOKENS - 2], 102])
    ids, mask = torch.zeros(TOKENS, dtype=torch.int64), torch.zeros(TOKENS, dtype=torch.bool)
    ids[: len(words)], mask[: len(words)] = words, True
    return features, video_mask, ids, mask


def plain_batch(in_memory: list[Video], videos: np.ndarray, open_once: bool = False) -> tuple[Tensor, ...]:
    clips = []
    for video in (in_memory[i] for i in videos):
        whole = read(video, 0, video.seconds) if open_once else None
        clips += [plain_clip(video, whole) for _ in range(CLIPS)]
    return tuple(torch.stack(part) for part in zip(*clips, strict=True))


def our_batch(corpus: Corpus, videos: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, ...]:
    batch = pack(corpus, videos, OverlappedClips().sample(corpus, videos, CLIPS, rng), CONFIG)
    return tuple(torch.from_numpy(array) for array in batch[:4])


def empty_cache(corpus: Corpus) -> None:
    """Leave no page of the shards in the kernel's cache, and every shard open, as a run has them after a while.

    The kernel keeps the pages that a map has touched, so the maps are new: of each only the header has been read.
    """
    corpus._read.cache_clear()
    for shard in corpus._blocks:
        corpus._block(shard)
    drop_pages(corpus)


def drop_pages(corpus: Corpus) -> None:
    for path in corpus._blocks.values():
        file = os.open(path, os.O_RDONLY)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(file)


def opening(corpus: Corpus) -> float:
    """Seconds to open a shard of which no page is in the cache."""
    corpus._read.cache_clear()
    drop_pages(corpus)
    start = perf_counter()
    for shard in corpus._blocks:
        corpus._block(shard)
    return (perf_counter() - start) / len(corpus._blocks)


def bytes_read() -> int:
    """By this process, from a disk."""
    counters = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counters["read_bytes"])


def disk_speed(corpus: Corpus) -> float:
    """MB a second of one shard after another, read in order from a cold cache."""
    empty_cache(corpus)
    start = perf_counter()
    size = sum(len(shard.read_bytes()) for shard in set(corpus._blocks.values()))
    return size / (perf_counter() - start) / 1e6


@pytest.mark.parametrize("cache", ["warm", "cold"])
def bench_batches(report, corpus, in_memory, cache):
    if cache == "cold" and not (hasattr(os, "posix_fadvise") and Path("/proc/self/io").exists()):
        pytest.skip("only Linux empties its cache and counts what the disk reads")
    disk = disk_speed(corpus)  # which fills the cache
    rng = np.random.default_rng(0)
    random.seed(0)
    ways: dict[str, Callable] = {
        "plain": lambda videos: plain_batch(in_memory, videos),
        "plain, one open a video": lambda videos: plain_batch(in_memory, videos, open_once=True),
        "our": lambda videos: our_batch(corpus, videos, rng),
    }
    seconds, disk_mb = ({name: [] for name in ways} for _ in range(2))
    for _ in range(ROUNDS + 1):
        chosen = rng.permutation(howto.VIDEOS)[: BATCHES * VIDEOS].reshape(BATCHES, VIDEOS)
        for name, way in ways.items():
            if cache == "cold":
                empty_cache(corpus)
            before, start = bytes_read() if cache == "cold" else 0, perf_counter()
            for videos in chosen:
                way(videos)
            seconds[name].append((perf_counter() - start) / BATCHES)
            disk_mb[name].append((bytes_read() - before) / BATCHES / 1e6 if cache == "cold" else 0.0)
    medians = {name: float(np.median(seconds[name][1:])) for name in ways}
    plain_s, ours_s = medians["plain"], medians["our"]
    conditions = {"plain_s": plain_s, "ours_s": ours_s, "rounds": ROUNDS, "our shards": "open"}
    for name, took in medians.items():
        conditions[f"{name}: pairs/s"] = f"{VIDEOS * CLIPS / took:,.0f}"
    if cache == "cold":
        # a round's clips lie in 8 % of the corpus, so what is there already cannot be what they need
        assert min(disk_mb["our"]) > 4, f"{min(disk_mb['our'])} MB a batch came from the disk: the cache was not cold"
        conditions |= {f"{name}: MB a batch from the disk": f"{np.median(mb):.1f}" for name, mb in disk_mb.items()}
        conditions["opening a shard"] = f"{1000 * opening(corpus):.2f} ms"
        conditions["the disk in order"] = f"{disk:.0f} MB/s"
    conditions["asked for"] = f"{TARGET:,} pairs/s"
    report(f"batches from disk, one process, {cache} cache", plain_s / ours_s, target=20, **conditions)


def bench_bytes(report, corpus, in_memory):
    """Counted, not timed."""
    videos = np.arange(VIDEOS)
    batches = plain_batch(in_memory, videos), our_batch(corpus, videos, np.random.default_rng(0))
    plain, ours = (sum(part.nbytes for part in batch) for batch in batches)
    sizes = {"plain": f"{plain / 2**20:.1f} MiB", "ours": f"{ours / 2**20:.1f} MiB"}
    report("bytes to the device, a batch of 512", plain / ours, target=3.5, **sizes)
