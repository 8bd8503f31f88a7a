"""A small folder of videos, an encoder that counts its calls and a model of random weights, to search with."""

from pathlib import Path

import numpy as np
import torch
from videos import write_video

from vclip.data.spec import FeatureSpec
from vclip.models.config import VideoCLIPConfig
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.videoclip import VideoCLIPModel
from vclip.models.videoclip_encoder import VideoCLIP

from corpora import TOWER, tokenizer


class Quadrants:
    """The mean colours of a frame's four quarters, 12 numbers; `calls` counts."""

    def __init__(self, fps: int = 1, size: int = 8, dim: int = 12):
        self.spec = FeatureSpec("quadrants", "0" * 16, fps, size, "centre", "x / 255", "mean", None, dim)
        self.calls = 0

    def __call__(self, frames):
        self.calls += 1
        half = self.spec.size // 2
        quarters = [frames[:, :, y : y + half, x : x + half].mean((1, 2, 3)) for y in (0, half) for x in (0, half)]
        return (np.concatenate(quarters, axis=1) / 255).astype(np.float32)[:, : self.spec.dim]


def model(seed: int = 0, **config) -> VideoCLIPModel:
    torch.manual_seed(seed)
    values = {"video_config": TOWER, "text_config": TOWER, "video_feature_dim": 12, "initializer_range": 0.3}
    return VideoCLIPModel(VideoCLIPConfig(**values | config)).eval()


def processor() -> VideoCLIPProcessor:
    return VideoCLIPProcessor(tokenizer())


def clip(encoder=None, seed: int = 0, **config) -> VideoCLIP:
    made = VideoCLIP(model(seed, **config), processor())
    made.encoder = encoder or Quadrants()
    return made


def write(path: Path, seconds: int, seed: int) -> Path:
    """A video of 8 x 8 pixels, one random picture a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = np.random.default_rng(seed).integers(0, 256, (seconds, 2, 2, 3), dtype=np.uint8)
    big = list(pictures.repeat(4, axis=1).repeat(4, axis=2))
    return write_video(path, range(0, 1000 * seconds, 1000), big)


def folder(path: Path, seconds=(3, 20, 33, 50, 70, 1)) -> Path:
    for i, length in enumerate(seconds):
        write(path / f"video {i}.mov", length, i)
    return path
