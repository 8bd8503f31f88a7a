"""Segmentation and localization of MiniHowTo's test videos: windows of many videos a batch, and the tower's own time.

Weights are random, which changes no time. The towers are the paper's, 768 wide, 6 and 12 layers deep.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from shipped import evaluation_sets

from vclip.data.corpus import Corpus
from vclip.datasets.coin import COIN
from vclip.datasets.minihowto import minihowto
from vclip.models.config import VideoCLIPConfig
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.videoclip import VideoCLIPModel
from vclip.models.videoclip_encoder import VideoCLIP
from vclip.models.windows import SIZE, sliding_windows
from vclip.tasks import localization, segmentation

TASKS = {"segmentation": ("coin", segmentation.examine), "localization": ("crosstask", localization.examine)}
VIDEOS = 24


@pytest.fixture(scope="module")
def model() -> VideoCLIPModel:
    torch.manual_seed(0)
    tower = {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}
    video, text = ({**tower, "num_hidden_layers": layers} for layers in (6, 12))
    return VideoCLIPModel(VideoCLIPConfig(video_config=video, text_config=text, video_feature_dim=128)).eval()


@pytest.fixture(scope="module")
def processor() -> VideoCLIPProcessor:
    return VideoCLIPProcessor(VideoCLIPProcessor.from_pretrained(minihowto() / "checkpoint").tokenizer)  # 32 s


def some(dataset: str) -> tuple:
    """The first `VIDEOS` records and their features."""
    records, corpus = evaluation_sets(dataset)["test"]
    records.records = records.records[:VIDEOS]
    return records, corpus


@torch.inference_mode()
def logits_one_video_a_forward(model: VideoCLIPModel, z: torch.Tensor, features: np.ndarray) -> torch.Tensor:
    """As the released code does: windows padded, and the products of each second averaged in Python."""
    spans = sliding_windows(len(features))
    rows, mask = torch.zeros(len(spans), SIZE, features.shape[1]), torch.zeros(len(spans), SIZE, dtype=torch.bool)
    for i, (start, end) in enumerate(spans):
        rows[i, : end - start] = torch.from_numpy(features[start:end].astype(np.float32))
        mask[i, : end - start] = True
    states = model.get_video_features(rows, mask, attend_cls=False).last_hidden_state
    assert states is not None
    seconds: list[list] = [[] for _ in features]
    for (start, end), window in zip(spans, states @ z.T, strict=True):
        for t in range(start, end):
            seconds[t].append(window[t - start])
    return torch.stack([torch.stack(rows).mean(dim=0) for rows in seconds])


def plain(model: VideoCLIPModel, processor: VideoCLIPProcessor, records, corpus: Corpus) -> list[np.ndarray]:
    """Each second's best label (COIN) or each step's second (CrossTask)."""
    out = []
    labels = getattr(records, "texts", None)
    z = None if labels is None else VideoCLIP(model, processor).encode_texts(labels)
    for record in records:
        z_t = VideoCLIP(model, processor).encode_texts(record.steps) if z is None else z
        rows = logits_one_video_a_forward(
            model, torch.from_numpy(z_t), corpus.features(corpus.index(record.video_id))
        ).numpy()
        out.append(localization.assign_steps(rows) if z is None else rows.argmax(axis=1))
    return out


def windows(records, corpus: Corpus) -> list[np.ndarray]:
    videos = [corpus.features(corpus.index(record.video_id)) for record in records]
    return [rows[start:end] for rows in videos for start, end in sliding_windows(len(rows))]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("beside", ["one video a forward", "the towers alone"])
def bench_windows(compare, model, processor, task, beside):
    """All that `vclip.evaluate` does against the plain way's labels, or against one call of each tower."""
    dataset, examine = TASKS[task]
    records, corpus = some(dataset)
    clips = windows(records, corpus)
    texts = sorted(set(records.texts if isinstance(records, COIN) else sum((list(r.steps) for r in records), [])))

    def towers() -> None:
        VideoCLIP(model, processor).encode_clips(clips)
        VideoCLIP(model, processor).encode_texts(texts)

    alone = beside == "the towers alone"
    other: Callable[[], object] = towers if alone else partial(plain, model, processor, records, corpus)
    target, limit = (1 / 1.1, 1) if alone else (None, None)
    seconds = np.array([len(clip) for clip in clips])
    conditions = {"videos": VIDEOS, "windows": len(clips), "seconds": f"{seconds.mean():.1f} of {SIZE}"}
    ours = partial(examine, VideoCLIP(model, processor), records, corpus)
    compare(f"{task}, beside {beside}", other, ours, rounds=5, target=target, limit=limit, **conditions)
