"""What each task adds to fine-tuning: its model, examples, loss, and validation (MMPT projects/retri/videoclip/*.yaml).

W windows, S seconds of one, F feature size, K steps of all the batch's videos one after another.
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, get_args

import numpy as np
import torch
from scipy.linalg import block_diag
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from vclip.data.corpus import Corpus
from vclip.datasets import crosstask
from vclip.datasets._records import Dataset, subset
from vclip.datasets.coin import COIN
from vclip.datasets.msrvtt import Question
from vclip.losses import info_nce
from vclip.models.segmenter import VideoCLIPForSegmentation
from vclip.models.videoclip import VideoCLIPModel
from vclip.models.videoclip_encoder import VideoCLIP
from vclip.models.windows import sliding_windows
from vclip.tasks.localization import true_seconds
from vclip.tasks.report import covered
from vclip.tasks.retrieval import clip_features, span
from vclip.tasks.segmentation import targets
from vclip.training.config import FinetuneConfig

IGNORED = -100


class Base:
    """What tasks share. Each adds `items`, what batches are made of, and `inputs`, the arguments of its `loss`."""

    def __init__(self, config: FinetuneConfig):
        self.config = config

    def new_model(self, checkpoint: str, dataset: Dataset) -> VideoCLIPModel:
        return VideoCLIPModel.from_pretrained(checkpoint)

    def scored(self, dataset: Dataset, corpus: Corpus, rng: np.random.Generator) -> Dataset:
        """The records that validation scores."""
        return dataset

    def options(self) -> dict[str, Any]:
        """Keyword arguments of the scoring module's `examine`."""
        return {}

    def traits(self, record: Any) -> tuple[Hashable, Iterable[Hashable]]:
        """The stratum of a record, from which videos are held out in proportion, and labels that training must show."""
        return getattr(record, "recipe_type", None), ()


class Retrieval(Base):
    """A sentence against the batch's clips (losses/nce.py). An item is a clip's first record and all its sentences."""

    direction = "t2v"

    def items(self, dataset: Dataset, corpus: Corpus) -> list[tuple[Any, list[str]]]:
        """The clips that have features; of a question, the right answer is its sentence."""
        clips, size = by_clip(dataset, corpus), self.config.batch_size
        if min(size, len(clips)) < 2:
            raise ValueError(f"a batch needs at least two; batch_size is {size}, with {len(clips)} clips in {dataset}")
        return [(records[0], [sentence(record) for record in records]) for records in clips]

    def inputs(self, clip: VideoCLIP, corpus: Corpus, items: list, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """For `embed_packed`: each clip's first seconds, and a sentence drawn from the clip's."""
        drawn = [sentences[rng.integers(len(sentences))] for _, sentences in items]
        return *clip.pack_clips([clip_features(record, corpus) for record, _ in items]), *clip.pack_texts(drawn)

    def loss(self, model: VideoCLIPModel, *inputs: Tensor) -> Tensor:
        return info_nce(*model.embed_packed(*inputs), direction=self.direction)

    def scored(self, dataset: Dataset, corpus: Corpus, rng: np.random.Generator) -> Dataset:
        """One record of each clip, drawn: two sentences of one clip would tie in any ranking."""
        return subset(dataset, [records[rng.integers(len(records))] for records in by_clip(dataset, corpus)])


class VideoQA(Retrieval):
    """A video against the batch's sentences (losses/nce.py); as in the released recipe no question is trained on."""

    direction = "v2t"

    def items(self, dataset: Dataset, corpus: Corpus) -> list[tuple[Any, list[str]]]:
        if any(getattr(record, "end", None) is not None for record in dataset):
            raise TypeError(f"{dataset} has clips of longer videos, but VideoQA asks about whole ones: use MSR-VTT")
        return super().items(dataset, corpus)

    def scored(self, dataset: Dataset, corpus: Corpus, rng: np.random.Generator) -> Dataset:
        """A question for each video: one of its sentences among `candidates`, the others drawn from other videos.

        A video's own sentences are never a wrong answer. Questions that are there already stay as they are.
        """
        if all(isinstance(record, Question) for record in dataset):
            return dataset
        own = defaultdict(set)
        for record in dataset:
            own[record.video_id].add(sentence(record))
        others = sorted(set().union(*own.values()))
        questions = []
        for record in super().scored(dataset, corpus, rng):
            wrong = [text for text in others if text not in own[record.video_id]]
            drawn = rng.choice(len(wrong), min(self.config.candidates - 1, len(wrong)), replace=False)
            candidates = [wrong[i] for i in drawn]
            answer = int(rng.integers(len(candidates) + 1))
            candidates.insert(answer, sentence(record))
            questions.append(Question(record.video_id, tuple(candidates), answer))
        return subset(dataset, questions, f"{dataset.split}, as questions")


class Windowed(Base):
    """An item is a video, seen in windows of `config.window` seconds, one every `config.stride`."""

    def windows(self, videos: Sequence[np.ndarray], device: torch.device, padding: float = 0) -> Tensor:
        """Values of each second, (T, ...) for each video, as padded windows (W, S, ...)."""
        windows = [
            torch.from_numpy(video[start:end])
            for video in videos
            for start, end in sliding_windows(len(video), self.config.window, self.config.stride)
        ]
        return pad_sequence(windows, batch_first=True, padding_value=padding).to(device)


class Segmentation(Windowed):
    """A linear layer over each second's state says step or Outside (coin_videoclip.yaml)."""

    def new_model(self, checkpoint: str, dataset: Dataset) -> VideoCLIPForSegmentation:
        """The checkpoint with a fresh classifier of Outside and the data set's steps, its text tower frozen."""
        assert isinstance(dataset, COIN)
        classes = ["Outside", *dataset.texts]
        model = VideoCLIPForSegmentation.from_pretrained(checkpoint, num_labels=len(classes))
        model.config.id2label = dict(enumerate(classes))
        if model.text_model is not None:
            model.text_model.requires_grad_(False)
        return model

    def items(self, dataset: Dataset, corpus: Corpus) -> list:
        if not isinstance(dataset, COIN):
            raise TypeError(f"segmentation learns from COIN or a data set of its format, not from {dataset}")
        return [dataset[i] for i in covered(dataset, corpus)]

    def inputs(self, clip: VideoCLIP, corpus: Corpus, items: list, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """Features and the class of every second of every window; IGNORED behind a window's end."""
        features = features_of(corpus, items)
        truth = [targets(video.segments, len(rows)) for video, rows in zip(items, features, strict=True)]
        return self.windows(features, clip.model.device), self.windows(truth, clip.model.device, IGNORED)

    def loss(self, model: VideoCLIPModel, *inputs: Tensor) -> Tensor:
        """Cross-entropy, the mean over all windows' seconds; a second in two windows counts twice."""
        features, truth = inputs
        return model(features, truth != IGNORED, truth).loss

    def traits(self, record: Any) -> tuple[Hashable, Iterable[Hashable]]:
        return record.task, {segment.label for segment in record.segments}


class Localization(Windowed):
    """Step localization: binary cross-entropy for each second and step of its task (crosstask_videoclip.yaml)."""

    def items(self, dataset: Dataset, corpus: Corpus) -> list:
        """The annotated videos that have features."""
        videos = [dataset[i] for i in covered(dataset, corpus)]
        if videos and not isinstance(videos[0], crosstask.Video):
            raise TypeError(f"localization learns from CrossTask or a data set of its format, not from {dataset}")
        return [video for video in videos if video.segments]

    def inputs(self, clip: VideoCLIP, corpus: Corpus, items: list, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """Features of every window, tokens of all steps; truth, and which steps are of a second's video's task."""
        features = features_of(corpus, items)
        blocks = [true_seconds(v.segments, len(rows), len(v.steps)) for v, rows in zip(items, features, strict=True)]
        ends = np.cumsum([len(rows) for rows in features])[:-1]
        true = np.split(np.asarray(block_diag(*blocks), np.float32), ends)
        own = np.split(np.asarray(block_diag(*map(np.ones_like, blocks)), bool), ends)
        texts = clip.pack_texts([step for video in items for step in video.steps])
        rows, truth, counted = (self.windows(values, clip.model.device) for values in (features, true, own))
        return rows, *texts, truth, counted

    def loss(self, model: VideoCLIPModel, *inputs: Tensor) -> Tensor:
        """Binary cross-entropy of each second with each of its own video's steps, the mean over all windows.

        In float32; [CLS] is hidden as a key.
        """
        features, *texts, truth, own = inputs
        h_v = model.get_video_features(features, own.any(dim=-1), attend_cls=False).last_hidden_state
        assert h_v is not None
        z_t = model.embed_texts(*texts)
        with torch.autocast(h_v.device.type, enabled=False):
            found = h_v.float() @ z_t.float().T
        return F.binary_cross_entropy_with_logits(found[own], truth[own])

    def options(self) -> dict[str, Any]:
        return {"probability": self.config.probability}

    def traits(self, record: Any) -> tuple[Hashable, Iterable[Hashable]]:
        return record.task, {(record.task, step) for step, _, _ in record.segments}


Task = Retrieval | VideoQA | Segmentation | Localization
TASKS: dict[str, type[Task]] = {task.__name__.lower(): task for task in get_args(Task)}


def by_clip(dataset: Dataset, corpus: Corpus) -> list[list]:
    """The records of each clip that has features."""
    clips = defaultdict(list)
    for i in covered(dataset, corpus):
        clips[span(dataset[i])].append(dataset[i])
    return list(clips.values())


def sentence(record: Any) -> str:
    """A record's sentence, or the right answer of a question."""
    if hasattr(record, "sentence"):
        return record.sentence
    if isinstance(record, Question):
        return record.candidates[record.answer]
    what = "use YouCook2, or MSR-VTT with MSRVTT_data.json beside its lists of ids"
    raise TypeError(f"records without a sentence, {type(record).__name__}: {what}")


def features_of(corpus: Corpus, videos: Sequence) -> list[np.ndarray]:
    """Features (T, F) of each video."""
    return [np.asarray(corpus.features(corpus.index(video.video_id)), np.float32) for video in videos]
