"""HowTo100M's size here: `python data_samples/simulate.py FOLDER` makes a corpus of made-up rows, and times it.

1.1 million videos of 391 s, 109 captions each of 8 tokens, features 8 wide (7 GB; real ones are 439 GB at 512 and are
mapped, not read). Then, each in a process of its own, the corpus is opened, a batch of the paper's 32 x 16 pairs is
drawn, and 34,375 clusters are drawn among 1.1 million vectors of 768, computed from some of the seeds. It takes 20 GB
of disk and half an hour of two cores. `--videos` makes it smaller; seconds and bytes grow as it does, clusters as its
square.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import pyarrow as pa

from vclip.data import storage
from vclip.data.corpus import Corpus
from vclip.data.samplers import OverlappedClips
from vclip.data.spec import FeatureSpec

SECONDS, CAPTIONS, TOKENS, DIM = 391, 109, 8, 8  # of a video; of a caption; of a feature
SEEDS = 2048  # of clusters that are computed
TEXTS = [f"word{i} word{j}" for i in range(100) for j in range(100)]
AT_ONCE = 4096  # videos
LIMIT_S, LIMIT_GB = {"open": 180, "sample": 0.1, "cluster": 1800}, {"open": 7, "sample": 14, "cluster": 5}


def make(folder: Path, videos: int) -> None:
    """A corpus with tokens, as `extract` and `tokenize` leave one."""
    folder.mkdir(parents=True)
    spec = FeatureSpec("made up", "0" * 16, 1, 8, "centre", "x / 255", "none", None, DIM)
    ids = [f"v{i:010d}" for i in range(videos)]
    shard, row = np.divmod(np.arange(videos), storage.SHARD_VIDEOS)
    block = np.random.default_rng(0).normal(size=(SECONDS, DIM)).astype(np.float16)
    for i in range(int(shard[-1]) + 1):
        storage.write_shard(folder / storage.shard_name(i), [block] * int((shard == i).sum()))
    columns = [ids, np.full(videos, SECONDS), shard, row, ids]
    storage.write_table(folder / "videos.parquet", storage.VIDEOS, [pa.table(columns, schema=storage.VIDEOS)])

    def rows() -> Iterator[pa.Table]:
        texts, rng = pa.array(TEXTS), np.random.default_rng(1)
        for first in range(0, videos, AT_ONCE):
            some = ids[first : first + AT_ONCE]
            start = np.tile(np.linspace(0, SECONDS - 4, CAPTIONS), len(some))
            said = texts.take(rng.integers(len(TEXTS), size=len(start)))
            tokens = pa.array(rng.integers(1000, 30000, len(start) * TOKENS).astype(np.int32))
            lists = pa.ListArray.from_arrays(np.arange(len(start) + 1, dtype=np.int32) * TOKENS, tokens)
            owner = pa.array(some).take(np.repeat(np.arange(len(some)), CAPTIONS))
            yield pa.table([owner, start, start + 3.5, said, lists], schema=schema)

    named = json.dumps({"name": "made up", "vocabulary": "0" * 16})
    schema = storage.CAPTIONS.append(storage.TOKENS).with_metadata({"tokenizer": named})
    storage.write_table(folder / "captions.parquet", schema, rows())
    meta = {"spec": asdict(spec), "split": None, "licence": None, "tokenizer": None}
    storage.write_json(folder / "corpus.json", meta)


def opened(folder: Path) -> tuple[float, float]:
    start, used = perf_counter(), process_time()
    corpus = Corpus.open(folder)
    assert len(corpus.caption_start) == CAPTIONS * len(corpus)
    return perf_counter() - start, process_time() - used


def sampled(folder: Path) -> tuple[float, float]:
    """A batch, after the first."""
    corpus, rng, times = Corpus.open(folder), np.random.default_rng(0), []
    for _ in range(11):
        start, used = perf_counter(), process_time()
        videos = rng.integers(len(corpus), size=32)
        clips = OverlappedClips().sample(corpus, videos, 16, rng)
        corpus.gather_features(np.repeat(videos, 16), clips.video_start, clips.video_end)
        times.append((perf_counter() - start, process_time() - used))
    wall, cpu = np.mean(times[1:], axis=0)
    return float(wall), float(cpu)


def clustered(folder: Path) -> tuple[float, float]:
    """All clusters of 32 videos, computed from `SEEDS` of their seeds."""
    from vclip.training.clusters import VideoIndex, sample_clusters

    n = storage.open_table(folder / "videos.parquet").metadata.num_rows  # the corpus is not opened: see `opened`
    vectors = np.random.default_rng(0).standard_normal((n, 768), dtype=np.float32)
    start, used = perf_counter(), process_time()
    index = VideoIndex(vectors)
    making = np.array([perf_counter() - start, process_time() - used])
    start, used = perf_counter(), process_time()
    sample_clusters(index, seeds := min(SEEDS, n // 32), 32, 64, np.random.default_rng(0))
    drawing = np.array([perf_counter() - start, process_time() - used])
    wall, cpu = making + drawing * (n // 32 / seeds)
    return float(wall), float(cpu)


PARTS = {"open": opened, "sample": sampled, "cluster": clustered}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the corpus is made, once")
    parser.add_argument("--videos", type=int, default=1_100_000)
    parser.add_argument("--part", choices=PARTS, help="only this, in this process")
    given = parser.parse_args()
    if not (given.folder / "corpus.json").is_file():
        make(given.folder, given.videos)
    if given.part:
        wall, cpu = PARTS[given.part](given.folder)
        peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        gigabytes = int(peak.split()[1]) * 1024 / 1e9
        within = wall <= LIMIT_S[given.part] and gigabytes <= LIMIT_GB[given.part]
        print(
            f"{given.part}: {wall:.3g} s ({cpu:.3g} of CPU, limit {LIMIT_S[given.part]}), peak {gigabytes:.1f} GB "
            f"(limit {LIMIT_GB[given.part]}): {'within' if within else 'ABOVE'}",
            flush=True,
        )
    else:
        for part in PARTS:
            subprocess.run([sys.executable, __file__, str(given.folder), "--part", part], check=True)
