"""Small labelled data in the formats of the four tasks, on `corpora`'s videos, and a checkpoint to fine-tune."""

from pathlib import Path

import numpy as np
import torch

from vclip.data.corpus import Corpus
from vclip.datasets import coin, crosstask, msrvtt
from vclip.datasets._records import Dataset
from vclip.models.config import VideoCLIPConfig
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.videoclip import VideoCLIPModel
from vclip.training.config import FinetuneConfig

import corpora

STEPS = ("w1 w2", "w3", "w4 w5 w6")
N = 20


def checkpoint(folder: Path, **changes) -> Path:
    """A folder with a model of random weights and the processor of `corpora`'s words."""
    tower = corpora.TOWER | {"num_hidden_layers": 1}
    torch.manual_seed(1)
    values = {"video_config": tower, "text_config": tower, "video_feature_dim": corpora.DIM}
    VideoCLIPModel(VideoCLIPConfig(**values | {"feature_spec": corpora.spec()} | changes)).save_pretrained(folder)
    VideoCLIPProcessor(corpora.tokenizer()).save_pretrained(folder)
    return folder


def dataset(task: str, first: int = 0, n: int = N) -> Dataset:
    """Labels of the videos `first` to `first + n`, by number and not by what is seen."""
    names = [f"video {i}" for i in range(first, first + n)]
    if task == "segmentation":
        segments = [(coin.Segment(2.0, 9.5, 1 + i % 3), coin.Segment(12.0, 18.0, 2)) for i in range(n)]
        videos = [
            coin.Video(v, None, f"task {i % 2}", i, s) for i, (v, s) in enumerate(zip(names, segments, strict=True))
        ]
        return coin.COIN("training", videos, STEPS)
    if task == "localization":
        spans = [((0, 1.0, 5.0), (1 + i % 2, 8.0, 12.5)) for i in range(n)]
        records = [
            crosstask.Video(v, str(i % 2), "a task", STEPS, s)
            for i, (v, s) in enumerate(zip(names, spans, strict=True))
        ]
        return Dataset("CrossTask", "train", records, ("localization",))
    clips = [msrvtt.Clip(v, f"w{i} w{k}") for i, v in enumerate(names) for k in (20, 30, 40)]
    return Dataset("MSR-VTT", "train", clips)


def data(folder: Path) -> Path:
    """`corpus`, the features of N videos and as many for another set, and `checkpoint`."""
    corpora.make(folder / "corpus", 2 * N)
    return checkpoint(folder / "checkpoint").parent


def config(task: str, data: Path, output: Path, **changes) -> FinetuneConfig:
    """Two epochs of a few steps, a state after every second."""
    values = {"task": task, "checkpoint": data / "checkpoint", "output": output}
    values |= {"epochs": 2, "batch_size": 4, "save_every": 2}
    return FinetuneConfig(**values | {"learning_rate": 1e-3, "warmup_steps": 3, "stride": 8} | changes)


def corpus(data: Path) -> Corpus:
    return Corpus.open(data / "corpus")


def assert_equal_in_value_and_gradient(model, ours, plain) -> None:
    gradients = []
    for loss in (ours, plain):
        model.zero_grad()
        loss.backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
    torch.testing.assert_close(ours, plain, atol=1e-6, rtol=1e-5)
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-6, rtol=1e-4, msg=name)


def rows_of(corpus, video_id) -> torch.Tensor:
    return torch.from_numpy(corpus.features(corpus.index(video_id)).astype(np.float32))
