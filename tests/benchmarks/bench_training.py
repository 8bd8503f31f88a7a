"""A training step on packed rows against the released way, which pads every clip to 34 rows and every text to 63.

The paper's sampler draws 64 pairs (4 videos, 16 clips each) from the corpus that ships; dropout 0.1, BERT's words. The
towers are shallower than the paper's 6 and 12 layers, so that words weigh more in the optimiser's time than there.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vclip.data.corpus import Corpus
from vclip.data.samplers import OverlappedClips
from vclip.datasets.minihowto import minihowto
from vclip.losses import info_nce
from vclip.models.config import VideoCLIPConfig
from vclip.models.packing import Packing, by_length
from vclip.models.videoclip import VideoCLIPModel
from vclip.training.batches import Batch, pack

from processor import has_bf16

VIDEOS, CLIPS = 4, 16
SECONDS, TOKENS = 32, 63  # of a padded row, video and text
LAYERS = {768: (1, 2), 256: (2, 4)}  # of the video and the text tower, by width
ROUNDS = {768: 5, 256: 11}


@pytest.fixture(scope="module")
def batch() -> Batch:
    corpus, videos = Corpus.open(minihowto() / "train"), np.arange(VIDEOS)
    clips = OverlappedClips().sample(corpus, videos, CLIPS, np.random.default_rng(0))
    return pack(corpus, videos, clips, VideoCLIPConfig())


def made(width: int, attention: str) -> VideoCLIPModel:
    torch.manual_seed(0)
    tower = {"hidden_size": width, "num_attention_heads": width // 64, "intermediate_size": 4 * width}
    video, text = ({**tower, "num_hidden_layers": n} for n in LAYERS[width])
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

    features, video_mask = rows(batch.features, batch.video_lengths, SECONDS)
    return *rows(batch.ids, batch.text_lengths, TOKENS), features.float(), video_mask


def step(model: VideoCLIPModel, loss: Callable[[], Tensor], fused: bool, bf16: bool = False) -> Callable[[], None]:
    """Forward, backward, clipping and Adam's step, which unfused goes from parameter to parameter."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, betas=(0.9, 0.98), fused=fused, foreach=False)

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            value = loss()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimizer.step()
        optimizer.zero_grad()

    return run


def plain_step(batch: Batch, width: int) -> Callable[[], None]:
    model = made(width, "eager")
    rows = padded(batch)

    def loss() -> Tensor:
        ids, mask, features, video_mask = rows
        z_v, z_t = model.get_video_features(features, video_mask), model.get_text_features(ids, mask)
        assert z_v.pooler_output is not None and z_t.pooler_output is not None
        return info_nce(z_v.pooler_output, z_t.pooler_output)

    return step(model, loss, fused=False)


def packed_step(batch: Batch, width: int, fused: bool, bf16: bool = False) -> Callable[[], None]:
    model = made(width, "sdpa")
    rows = [torch.from_numpy(array) for array in batch[:4]]
    return step(model, lambda: info_nce(*model.embed_packed(*rows)), fused, bf16)


def limit(batch: Batch) -> float:
    """Padded rows over rows, each weighted by its tower's layers.

    Linear layers take time in proportion to rows. Attention takes it in proportion to their squares, so that at small
    widths, where it weighs more, packing saves a little more than this.
    """
    video, text = batch.video_lengths + 2, batch.text_lengths
    return len(video) * ((SECONDS + 2) + 2 * TOKENS) / float(video.sum() + 2 * text.sum())


def described(batch: Batch, width: int) -> dict[str, object]:
    return {
        "dropout": 0.1,
        "layers": "{} + {}".format(*LAYERS[width]),
        "seconds": f"{batch.video_lengths.mean():.1f} of {SECONDS}",
        "tokens": f"{batch.text_lengths.mean():.1f} of {TOKENS}",
    }


@pytest.mark.parametrize("width", LAYERS)
def bench_step(compare, batch, width):
    most = limit(batch)
    name = f"training step, fp32, {width} wide, {VIDEOS * CLIPS} pairs"
    plain, ours = plain_step(batch, width), packed_step(batch, width, fused=False)
    compare(name, plain, ours, rounds=ROUNDS[width], limit=most, target=0.9 * most, **described(batch, width))


@pytest.mark.parametrize("width", LAYERS)
def bench_step_in_bf16(compare, batch, width):
    """With what pays on this machine."""
    bf16 = has_bf16()
    way = "bf16, fused Adam" if bf16 else "fp32 for want of bf16 instructions, fused Adam"
    plain, ours = plain_step(batch, width), packed_step(batch, width, fused=True, bf16=bf16)
    name = f"the same step, {way}, {width} wide"
    compare(name, plain, ours, rounds=ROUNDS[width], target=2.2 if bf16 else None, **described(batch, width))


def bench_attention(compare, batch):
    """One layer's attention of the texts, 768 wide, forward and backward: masked over padded rows, or by length."""
    packing, dropout = Packing(torch.from_numpy(batch.text_lengths), torch.device("cpu")), 0.1
    query, key, value = rows = [torch.randn(len(packing.clip), 12, 64, requires_grad=True) for _ in range(3)]
    place = packing.clip, packing.within
    mask = torch.zeros(len(batch.text_lengths), TOKENS, dtype=torch.bool).index_put(place, torch.tensor(True))
    bias = torch.zeros(mask.shape).masked_fill(~mask, -torch.inf)[:, None, None]

    def plain() -> None:
        empty = torch.zeros(*mask.shape, 12, 64)
        q, k, v = (empty.index_put(place, r).transpose(1, 2) for r in rows)
        weights = F.dropout((q @ k.transpose(-1, -2) / 8 + bias).softmax(-1), dropout)
        (weights @ v).transpose(1, 2)[place].sum().backward()

    def ours() -> None:
        by_length(query, key, value, packing, 1 / 8, dropout).sum().backward()

    tokens = f"{batch.text_lengths.mean():.1f} of {TOKENS}"
    compare("attention of 64 texts on a CPU", plain, ours, rounds=11, dropout=dropout, tokens=tokens)


def bench_update(compare):
    """Adam alone, on the parameters of both towers 768 wide."""

    def update(fused: bool) -> Callable[[], None]:
        parameters = list(made(768, "sdpa").parameters())
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, 1e-3)
        return torch.optim.Adam(parameters, lr=1e-4, betas=(0.9, 0.98), fused=fused, foreach=False).step

    count = sum(p.numel() for p in made(768, "sdpa").parameters())
    compare(f"Adam's update of {count / 1e6:.0f} million parameters, fused", update(False), update(True))
