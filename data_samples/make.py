"""Rebuild MiniHowTo from nothing: `python data_samples/make.py`. Stopped and started again, it goes on.

`--missing` builds only what the folder lacks: the world, one of the further test sets (msrvtt, didemo, coin,
crosstask), or the training sets that are cut from the world's videos. A projection and a tokenizer that are there are
kept, because checkpoints depend on them and made anew both come out a little different (rounding of the PCA, ties
between tokens).
Needs `pip install -e '.[rebuild]'` and npm (for the icons). Half an hour to three quarters on two cores.
"""

import argparse
import shutil
from multiprocessing import get_context
from pathlib import Path

import formats
import numpy as np
import sheets
import tables
import testsets
import trainsets
import work
from narration import captions, narrate, write_vtt
from safetensors.numpy import save_file
from tqdm.auto import tqdm
from transformers import BertTokenizerFast
from vocabulary import TOPICS
from world import SIZES, Plan, plans

from vclip.data.corpus import Corpus
from vclip.encoders.networks import Projection

OUT = Path(__file__).parent / "minihowto"
DIM = 128
DEVIATION_SCALE = 2.0  # weight of the standard deviations against the means in the PCA: motion is small but tells
WHITENING = 0.5  # 0 is a plain PCA, 1 gives every direction the same variance
THUMBNAIL_QUALITY = 40  # of the 2,300 jpegs of the further test sets, for 3 MB in all
WORLD = ("projection.safetensors", *SIZES, "tokenizer", "truth.parquet", "thumbnails.parquet", "contact_sheets")
SHIPPED = {"train": 3, "val": 1, "test": 4, "unseen": 4}
LICENCE = "drawn from Noto Emoji (Apache-2.0) and Fluent Emoji (MIT); features and texts Apache-2.0"


def projection(features: np.ndarray) -> Projection:
    """PCA of (n, 2560) training features, partly whitened, scaled to mean square 1 over all numbers."""
    weight = np.r_[np.ones(1280), np.full(1280, DEVIATION_SCALE)].astype(np.float32)
    directions = np.linalg.eigh(np.cov(features * weight, rowvar=False))[1][:, : -DIM - 1 : -1]
    # a direction's sign is arbitrary: make its largest entry positive, so that equal features give equal matrices
    directions = directions * np.sign(directions[np.abs(directions).argmax(0), np.arange(DIM)])
    matrix = weight[:, None] * directions
    mean = features.mean(0, dtype=np.float64)
    spread = (features @ matrix).std(0)
    matrix /= spread**WHITENING
    matrix /= np.sqrt(np.mean(spread ** (2 - 2 * WHITENING)))
    return Projection(work.encoder(), matrix.astype(np.float32), (-mean @ matrix).astype(np.float32))


def encode(videos: list[Plan], processes: int) -> None:
    with get_context("spawn").Pool(processes) as pool:
        done = pool.imap_unordered(work.build, videos, chunksize=2)
        for _ in tqdm(done, total=len(videos), desc="draw and encode", unit="video"):
            pass


def write_corpora(splits: dict[str, list[Plan]], out: Path) -> None:
    """Project, write the four corpora and the sample of still frames."""
    if not (out / "projection.safetensors").exists():
        train = np.concatenate([work.load(plan).features for plan in splits["train"]]).astype(np.float32)
        projection(train).save(out / "projection.safetensors")
    project = Projection.load(work.encoder(), out / "projection.safetensors")
    still = {}
    for split, videos in splits.items():
        shutil.rmtree(out / split, ignore_errors=True)
        loaded = ((plan, work.load(plan)) for plan in tqdm(videos, desc=f"project {split}", unit="video"))
        rows = (
            (p.video_id, e.features.astype(np.float32) @ project.matrix + project.offset, captions(narrate(p)))
            for p, e in loaded
        )
        Corpus.create(out / split, project.spec, rows, split=split, licence=LICENCE)
        # a still is a second in which nothing moves: its standard deviations are zero
        frames = np.concatenate([work.load(plan).still for plan in videos]).astype(np.float32)
        still[split] = (frames @ project.matrix[:1280] + project.offset).astype(np.float16)
    save_file(still, out / "still.safetensors")


def ship_videos(splits: dict[str, list[Plan]], out: Path) -> None:
    shutil.rmtree(out / "videos", ignore_errors=True)
    (out / "videos").mkdir()
    for split, number in SHIPPED.items():
        for plan in splits[split][:number]:
            shutil.copyfile(work.kept(plan, "mp4"), out / "videos" / f"{plan.video_id}.mp4")
            write_vtt(out / "videos" / f"{plan.video_id}.vtt", narrate(plan))


def build_world(out: Path, processes: int) -> None:
    splits = {split: plans(split) for split in SIZES}
    encode([plan for videos in splits.values() for plan in videos], processes)
    write_corpora(splits, out)
    if not (out / "tokenizer").exists():
        tables.write_tokenizer(splits["train"], out / "tokenizer")
    tokenizer = BertTokenizerFast.from_pretrained(out / "tokenizer")
    for split in splits:
        Corpus.open(out / split).tokenize(tokenizer)
    tables.write_truth(splits, out / "truth.parquet")
    for split in ("val", "test", "unseen"):
        tables.write_youcook2(splits[split], out / "youcook2" / split)
    tables.write_thumbnails([*splits["test"], *splits["unseen"]], out / "thumbnails.parquet")
    ship_videos(splits, out)
    for topic in tqdm(TOPICS, desc="contact sheets", unit="topic"):
        sheets.write_sheet(topic, splits, out / "contact_sheets")


def build_testset(dataset: str, out: Path, processes: int) -> None:
    """Official files, features and thumbnails of one data set in both styles, by the projection that is in `out`."""
    styles = {style: testsets.plans(dataset, style) for style in testsets.STYLES}
    videos = [plan for chosen in styles.values() for plan in chosen]
    encode(videos, processes)
    project = Projection.load(work.encoder(), out / "projection.safetensors")
    shutil.rmtree(out / dataset, ignore_errors=True)
    for style, chosen in styles.items():
        rows = (
            (p.video_id, work.load(p).features.astype(np.float32) @ project.matrix + project.offset, None)
            for p in chosen
        )
        Corpus.create(out / dataset / style / "features", project.spec, rows, split=style, licence=LICENCE)
        for name, text in formats.files(dataset, style).items():
            path = out / dataset / style / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    tables.write_thumbnails(videos, out / dataset / "thumbnails.parquet", formats.thumbnail_seconds, THUMBNAIL_QUALITY)


def main() -> None:
    parser = argparse.ArgumentParser(description="Rebuild MiniHowTo.")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--missing", action="store_true", help="build only what the folder lacks")
    arguments = parser.parse_args()
    out, processes = arguments.out, arguments.processes
    out.mkdir(parents=True, exist_ok=True)
    if not arguments.missing or not all((out / name).exists() for name in WORLD):
        build_world(out, processes)
    for dataset in testsets.DATASETS:
        if not arguments.missing or not (out / dataset / "thumbnails.parquet").exists():  # what is written last
            build_testset(dataset, out, processes)
    # after the test sets, for these clear their folders
    if not arguments.missing or not (out / "msrvtt" / "train" / "MSRVTT_data.json").exists():  # what is written last
        trainsets.write(out, LICENCE)


if __name__ == "__main__":
    main()
