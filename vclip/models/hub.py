"""Dual encoders of other libraries: a second's feature is its embedding, and a clip is the mean of its seconds."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from vclip.data.spec import FeatureSpec, vocabulary_hash, weights_hash
from vclip.encoders.loading import load_encoder
from vclip.encoders.networks import processes
from vclip.models.dual_encoder import DualEncoder
from vclip.models.windows import SIZE

TEXTS_AT_ONCE = 256
UNMASKED = ("siglip", "siglip2")  # trained on texts of full length whose padding is attended to
FULL_LENGTH = (*UNMASKED, "videoprism")


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
    """

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

    def encode_seconds(self, clips: Sequence[np.ndarray], moments: bool = False) -> list[Float32[np.ndarray, "T D"]]:
        return [unit(clip[:SIZE] if moments else clip) for clip in clips]

    @property
    def identity(self) -> dict[str, Any]:
        return {"weights": self.encoder.spec.weights, "clips": "mean of unit vectors"} | self._text_identity


def unit(rows: np.ndarray) -> Float32[np.ndarray, "*n D"]:
    """Rows of length 1; a row of zeros stays."""
    rows = np.asarray(rows, np.float32)
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def from_transformers(name: str, fps: int | None = None, size: int | None = None) -> MeanPooled:
    """A model with `get_text_features` and `get_image_features` or `get_video_features` (CLIP, SigLIP, X-CLIP, ...).

    X-CLIP's texts are embedded by themselves, without the prompt that it makes of each video.

    Args:
        name: a hub id or a folder.
        fps, size: frames a second that are averaged, 3 by default (a video model has its own); pixels a side, if given.
    """
    from transformers import AutoTokenizer

    encoder: Any = load_encoder(name, None, fps, size)
    model, tokenizer = encoder.network, AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    kind, positions = model.config.model_type, getattr(model.config.text_config, "max_position_embeddings", 512)
    limits: dict[str, Any] = {"truncation": True, "max_length": min(tokenizer.model_max_length, positions)}
    limits["padding"] = "max_length" if kind in FULL_LENGTH else True

    @torch.inference_mode()
    def embed_texts(texts: list[str]) -> Float32[np.ndarray, "n D"]:
        rows = []
        for first in range(0, len(texts), TEXTS_AT_ONCE):
            batch = tokenizer(texts[first : first + TEXTS_AT_ONCE], return_tensors="pt", **limits)
            for name in ("token_type_ids", *(("attention_mask",) if kind in UNMASKED else ())):
                batch.pop(name, None)
            output = model.get_text_features(**batch.to(model.device))
            z_t: Tensor = output if isinstance(output, Tensor) else output.pooler_output
            rows.append(z_t.float().cpu().numpy())
        return np.concatenate(rows)

    identity = {"vocabulary": vocabulary_hash(tokenizer), **limits}
    return MeanPooled(name, encoder, embed_texts, identity, model, tokenizer)


def from_sentence_transformers(name: str, fps: int | None = None, size: int | None = None) -> MeanPooled:
    """A model of sentence-transformers that takes pictures, with its own prompts for queries and documents.

    A model that takes videos sees a second's frames as one; for others the frames' vectors are averaged.

    Args:
        name: a hub id or a folder.
        fps, size: frames a second, 3 by default; pixels a side, what the model's processor makes by default.

    Raises:
        ImportError: the library is missing.
        ValueError: the model takes no pictures, or pictures of any size, and `size` is not given.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise ImportError(f"{name} needs a package: pip install 'vclip[sentence-transformers]'") from error
    model = SentenceTransformer(name, device=str(processes().device), trust_remote_code=False)
    if not (model.supports("image") and model.supports("text")):
        raise ValueError(f"{name} takes {', '.join(map(str, model.modalities))}: a search needs pictures and text")
    encoder = SentenceEncoder(model, name, fps or 3, size or _side(model, name))

    def embed_texts(texts: list[str]) -> np.ndarray:
        # as a dict: a bare string that reads like a path or an address would be opened
        return model.encode_query([{"text": text} for text in texts], show_progress_bar=False)

    return MeanPooled(name, encoder, embed_texts, {"prompts": model.prompts}, model, model.processor)


class SentenceEncoder:
    """The picture side of a sentence-transformers model as a frozen encoder."""

    def __init__(self, model: Any, name: str, fps: int, size: int):
        self.model, self.is_video = model, model.supports("video")
        pooling = "none" if self.is_video else "mean"
        weights, dim = weights_hash(model.state_dict()), len(model.encode_query("a", show_progress_bar=False))
        self.spec = FeatureSpec(name, weights, fps, size, "centre", "its processor's", pooling, None, dim)

    def __call__(self, frames: UInt8[np.ndarray, "n f s s 3"]) -> Float32[np.ndarray, "n F"]:
        from PIL import Image

        pictures = [[Image.fromarray(frame) for frame in second] for second in frames]
        encode: Callable = self.model.encode_document
        if self.is_video:
            about = {"fps": self.spec.fps, "total_num_frames": self.spec.fps}
            videos = [{"video": {"array": second, "video_metadata": about}} for second in pictures]
            return encode(videos, show_progress_bar=False)
        z_v = encode([{"image": picture} for second in pictures for picture in second], show_progress_bar=False)
        return z_v.reshape(*frames.shape[:2], -1).mean(axis=1)


def _side(model: Any, name: str) -> int:
    """Pixels a side of what a model's image processor makes."""
    processor = getattr(model.processor, "image_processor", model.processor)
    size = getattr(processor, "crop_size", None) or getattr(processor, "size", None) or {}
    side = size.get("height") or size.get("shortest_edge") if hasattr(size, "get") else None
    if not side or size.get("longest_edge"):
        raise ValueError(f"{name} takes pictures of any size: say how large by vclip.load({name!r}, size=224)")
    return int(side)
