"""The tiny data sets that the original was run on, with the model it used."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from transformers import BertTokenizerFast

import reference

# a plugin is imported before conftest.py can ask that shapes are checked: vclip waits until it is used
if TYPE_CHECKING:
    import vclip
    from vclip.models.videoclip_encoder import VideoCLIP


@dataclass
class ZeroShot:
    """`folder` holds a data set each, `features` an <id>.npy a video."""

    folder: Path
    model: vclip.VideoCLIPModel
    processor: vclip.VideoCLIPProcessor
    features: Path

    @property
    def clip(self) -> VideoCLIP:
        from vclip.models.videoclip_encoder import VideoCLIP

        return VideoCLIP(self.model, self.processor)


@pytest.fixture(scope="session")
def zero_shot(shared, tmp_path_factory) -> ZeroShot:
    from vclip import VideoCLIPProcessor, load_videoclip

    golden = shared / "golden"
    model = load_videoclip(golden / "model_separate" / "checkpoint.pt", reference.config(golden / "model_separate"))
    tokenizer = BertTokenizerFast(vocab=str(golden / "zero_shot" / "vocab.txt"))
    processor = VideoCLIPProcessor(tokenizer, model.config.max_text_tokens, model.config.max_video_tokens)
    features = tmp_path_factory.mktemp("features")
    for video_id, rows in np.load(golden / "zero_shot" / "features.npz", allow_pickle=False).items():
        np.save(features / f"{video_id}.npy", rows)
    return ZeroShot(golden / "zero_shot", model, processor, features)
