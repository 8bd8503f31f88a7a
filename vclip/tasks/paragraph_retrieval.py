"""Paragraph-to-video retrieval: what the paper says of DiDeMo (Table 2); the released code seeks moments instead.

All descriptions of a video, joined in the order of the file, are one text; it seeks the whole video.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vclip.corpus import Corpus
from vclip.datasets import Dataset
from vclip.model import VideoCLIPModel
from vclip.processing import VideoCLIPProcessor
from vclip.tasks import retrieval


@dataclass(frozen=True)
class Paragraph:
    """The `descriptions` sentences about one video as one."""

    video_id: str
    sentence: str
    descriptions: int


def paragraphs(records: Sequence) -> list[Paragraph]:
    """One a video, in the order in which `records` (with `video_id` and `description`) first name the videos."""
    said = defaultdict(list)
    for record in records:
        said[record.video_id].append(record.description)
    return [Paragraph(video_id, " ".join(texts), len(texts)) for video_id, texts in said.items()]


def examine(
    model: VideoCLIPModel,
    processor: VideoCLIPProcessor,
    dataset: Dataset,
    corpus: Corpus,
    *,
    ties: retrieval.Ties = "against",
) -> dict[str, Any]:
    """As `retrieval.examine`, a paragraph an example.

    The model's limits cut a paragraph to max_text_tokens word pieces and a video to its first max_video_tokens seconds.
    """
    whole = Dataset(dataset.name, dataset.split, paragraphs(dataset))
    return retrieval.examine(model, processor, whole, corpus, ties=ties) | {"unit": "paragraphs"}
