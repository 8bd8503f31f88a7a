"""What is aimed at on a CUDA device, the first one; skipped without it.

The paper's update, 512 pairs through BERT-base towers of 6 and 12 layers in bf16, as a run does it: the trainer draws
its clips from the disk. And the exact neighbours of 34,375 seeds among 1.1 million videos. Targets, in seconds, are
for an H200, where the update's 12.2 TFLOP would take 15.5 ms at the rate of large matrix products.
"""

from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from vclip.data.corpus import Corpus
from vclip.datasets.minihowto import minihowto
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.videoclip_encoder import VideoCLIP
from vclip.training.clusters import VideoIndex
from vclip.training.config import PretrainConfig
from vclip.training.pretrain import Contrast, new_model
from vclip.training.trainer import Trainer, start_accelerator

import howto
from vectors import FOUND, like_a_trained_models, recall, true_neighbours

STEPS, WARM_UP = 120, 40
VIDEOS = 1_100_000

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Enough(Exception):
    """Ends a run before it writes a checkpoint."""


def seconds_of_steps(corpus: Corpus, config: PretrainConfig) -> np.ndarray:
    """Of the steps after WARM_UP, up to STEPS."""
    ends = []

    def on_row(row: dict) -> None:
        ends.append(perf_counter())
        if len(ends) == STEPS:
            raise Enough

    accelerator = start_accelerator(config)
    model = new_model(config, corpus).to(accelerator.device)
    clip = VideoCLIP(model, VideoCLIPProcessor(AutoTokenizer.from_pretrained(config.tokenizer)))
    objective = Contrast(config, accelerator, model, corpus, None)
    trainer, rng = Trainer(config, accelerator, clip, objective, on_row), np.random.default_rng(0)
    drawn = [rng.choice(len(corpus), config.videos_per_batch, replace=False) for _ in range(STEPS)]
    with pytest.raises(Enough):
        trainer.run_epoch(1, drawn)
    return np.diff(ends)[WARM_UP:]


@needs_cuda
def bench_update_from_disk(report, tmp_path):
    tokenizer = minihowto() / "tokenizer"
    config = PretrainConfig.paper(precision="bf16", bert=None, tokenizer=tokenizer, output=tmp_path / "run")
    Path(config.output).mkdir()
    seconds = seconds_of_steps(howto.make(tmp_path / "corpus"), config)
    median = float(np.median(seconds))
    shown = {"ms": round(1000 * median, 1), "slowest, ms": round(1000 * float(seconds.max()), 1), "dropout": 0.1}
    shown |= {"precision": config.precision, "card": torch.cuda.get_device_name()}
    title = "31 ms over an update of 512 pairs, 768 wide, 6 + 12 layers, fed from disk"
    report(title, 0.031 / median, target=1.0, limit=2.0, updates=len(seconds), **shown)


@needs_cuda
def bench_neighbours_on_cuda(report):
    vectors = like_a_trained_models(VIDEOS)
    index, seeds = VideoIndex(vectors, device="cuda"), np.random.default_rng(1).choice(VIDEOS, VIDEOS // 32, False)
    seconds = []
    for _ in range(4):
        start = perf_counter()
        found = index.neighbours(seeds, FOUND)
        seconds.append(perf_counter() - start)
    median = float(np.median(seconds[1:]))
    shown = {"seconds": round(median, 2), "recall": recall(found[:64], true_neighbours(vectors, seeds[:64]))}
    name = f"2 s over the neighbours of {len(seeds):,} seeds among {VIDEOS:,}"
    report(name, 2 / median, target=1.0, **shown, card=torch.cuda.get_device_name())
