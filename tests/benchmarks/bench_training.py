"""A training step on packed rows against the released way, which pads every clip to 34 rows and every text to 63.

The paper's sampler draws 64 pairs (4 videos, 16 clips each) from the corpus that ships; dropout 0.1.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from vclip.corpus import Corpus
from vclip.losses import info_nce
from vclip.model import VideoCLIPConfig, VideoCLIPModel
from vclip.samplers import Batch, OverlappedClips, pack
from vclip.samples import minihowto

VIDEOS, CLIPS = 4, 16
SECONDS, PIECES = 32, 63  # of a padded row, video and text


@pytest.fixture(scope="module")
def batch() -> Batch:
    corpus, videos = Corpus.open(minihowto() / "train"), np.arange(VIDEOS)
    return pack(corpus, videos, OverlappedClips().sample(corpus, videos, CLIPS, np.random.default_rng(0)))


def made(width: int, layers: tuple[int, int], attention: str) -> VideoCLIPModel:
    torch.manual_seed(0)
    tower = {"hidden_size": width, "num_attention_heads": width // 64, "intermediate_size": 4 * width}
    video, text = ({**tower, "num_hidden_layers": n} for n in layers)
    config = VideoCLIPConfig(video_config=video, text_config=text, video_feature_dim=128)
    config._attn_implementation = attention
    return VideoCLIPModel(config).train()


def padded(batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """input_ids, attention_mask, features and mask, rows as long as the released code makes them."""

    def rows(flat: np.ndarray, lengths: np.ndarray, size: int) -> tuple[Tensor, Tensor]:
        mask = np.arange(size) < lengths[:, None]
        out = np.zeros((*mask.shape, *flat.shape[1:]), flat.dtype)
        out[mask] = flat
        return torch.from_numpy(out), torch.from_numpy(mask)

    features, video_mask = rows(batch.features, batch.seconds, SECONDS)
    return *rows(batch.ids, batch.pieces, PIECES), features.float(), video_mask


def step(model: VideoCLIPModel, loss: Callable[[], Tensor], fused: bool, dtype: torch.dtype) -> Callable[[], None]:
    """Forward, backward, clipping and update."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=fused, foreach=False)

    def run() -> None:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        optimizer.zero_grad()

    return run


def plain_step(batch: Batch, width: int, layers: tuple[int, int]) -> Callable[[], None]:
    model = made(width, layers, "eager")
    rows = padded(batch)

    def loss() -> Tensor:
        ids, mask, features, video_mask = rows
        z_v = model.get_video_features(features, video_mask).pooler_output
        return info_nce(z_v, model.get_text_features(ids, mask).pooler_output)

    return step(model, loss, fused=False, dtype=torch.float32)


def packed_step(batch: Batch, width: int, layers: tuple[int, int], dtype=torch.float32) -> Callable[[], None]:
    model = made(width, layers, "sdpa")
    rows = [torch.from_numpy(array) for array in batch[:4]]
    return step(model, lambda: info_nce(*model.embed_packed(*rows)), fused=True, dtype=dtype)


def limit(batch: Batch) -> float:
    """Padded rows over rows: the tower's work a token is the same, and the text tower has twice the layers."""
    video, text = batch.seconds + 2, batch.pieces
    return (len(video) * ((SECONDS + 2) + 2 * PIECES)) / float(video.sum() + 2 * text.sum())


@pytest.mark.parametrize(("width", "layers"), [(768, (6, 12)), (256, (2, 4))])
def bench_step(compare, batch, width, layers):
    plain, ours = plain_step(batch, width, layers), packed_step(batch, width, layers)
    most = limit(batch)
    conditions = {
        "dropout": 0.1,
        "layers": layers,
        "seconds": f"{batch.seconds.mean():.1f} of {SECONDS}",
        "pieces": f"{batch.pieces.mean():.1f} of {PIECES}",
    }
    name = f"training step, fp32, {width} wide, {VIDEOS * CLIPS} pairs"
    compare(name, plain, ours, rounds=3 if width > 512 else 9, limit=most, target=0.9 * most, **conditions)
