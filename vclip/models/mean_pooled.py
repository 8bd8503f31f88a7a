"""Models of today as dual encoders: a second's feature is its embedding, and a clip is the mean of its seconds."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from vclip.models.dual_encoder import DualEncoder
from vclip.models.windows import SIZE


class MeanPooled(DualEncoder):
    """An image-text or video-text model whose seconds are embedded one by one; the similarity is the cosine.

    A clip of any length is the mean of its seconds' unit vectors, as in CLIP4Clip's meanP (Luo et al. 2022). An index
    holds every second: a mean over half a minute would say little of a moment.

    Args:
        name: what reports call it.
        encoder: the frozen encoder; its features are the embeddings.
        embed_texts: sentences -> (n, D), in the same space.
        text_identity: what decides the vectors of texts, beside the weights that the encoder's spec names.
        model, processor: the network that both sides share, and what prepares its texts.

    Example:
        >>> import vclip
        >>> clip = vclip.load("offline")
        >>> z_v = clip.encode_clips([np.eye(384)[:5], np.eye(384)[7:8]])
        >>> (clip.encode_texts(["a cup of coffee"]) @ z_v.T).shape
        (1, 2)
    """

    encoder: Any = None  # pyright: ignore[reportIncompatibleMethodOverride, reportAssignmentType]

    def __init__(
        self,
        name: str,
        encoder: Any,
        embed_texts: Callable[[list[str]], np.ndarray],
        text_identity: dict[str, Any],
        model: Any = None,
        processor: Any = None,
    ):
        self.name, self.spec, self.dim, self.longest_clip = name, encoder.spec, encoder.spec.dim, 1
        self.model, self.processor, self.tokenizer = model, processor, getattr(processor, "tokenizer", processor)
        self.encoder, self._embed_texts, self._text_identity = encoder, embed_texts, text_identity

    def encode_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n D"]:
        if isinstance(texts, str):
            raise TypeError(f"encode_texts takes a list of sentences: pass [{texts!r}]")
        return unit(self._embed_texts(list(texts))) if len(texts) else np.zeros((0, self.dim), np.float32)

    def encode_clips(self, clips: Sequence[np.ndarray]) -> Float32[np.ndarray, "n D"]:
        """Embed clips (T, F) of any length: z_v (n, D), zeros for a clip without a second."""
        return np.array([unit(unit(clip).sum(axis=0)) for clip in clips], np.float32).reshape(-1, self.dim)

    def encode_seconds(
        self, clips: Sequence[np.ndarray], protocol: str = "windows"
    ) -> list[Float32[np.ndarray, "T D"]]:
        if protocol not in ("windows", "moments"):
            raise ValueError(f"protocol must be 'windows' or 'moments', got {protocol!r}")
        return [unit(clip[:SIZE] if protocol == "moments" else clip) for clip in clips]

    @property
    def identity(self) -> dict[str, Any]:
        return {"weights": self.encoder.spec.weights, "clips": "mean of unit vectors"} | self._text_identity


def unit(rows: np.ndarray) -> Float32[np.ndarray, "*n D"]:
    """Rows of length 1; a row of zeros stays."""
    rows = np.asarray(rows, np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
