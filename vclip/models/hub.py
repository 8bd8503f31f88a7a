"""Dual encoders of other libraries as `MeanPooled`: of transformers, of sentence-transformers, and the offline one."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor

from vclip.data.corpus import vocabulary_hash
from vclip.data.extraction import processes
from vclip.data.spec import FeatureSpec, weights_hash
from vclip.encoders.loading import load_encoder
from vclip.encoders.networks import EMBEDDING_CALLS, OFFLINE
from vclip.encoders.offline import ConSE
from vclip.models.mean_pooled import MeanPooled

TEXTS_AT_ONCE = 256
UNMASKED = ("siglip", "siglip2")  # trained on texts of full length whose padding is attended to
FULL_LENGTH = (*UNMASKED, "videoprism")


def from_transformers(name: str, fps: int | None = None, size: int | None = None) -> MeanPooled:
    """A model with `get_text_features` and `get_image_features` or `get_video_features` (CLIP, SigLIP, X-CLIP, ...).

    X-CLIP's texts are embedded by themselves, without the prompt that it makes of each video.

    Args:
        name: a hub id or a folder.
        fps, size: frames a second that are averaged, 3 by default (a video model has its own); pixels a side, if given.

    Raises:
        ValueError: the model has no text side, or none of pictures; what is done to frames or texts is not known.

    Example:
        >>> from_transformers("google/siglip2-base-patch16-224")  # doctest: +SKIP
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


def is_dual_encoder(config: Any) -> bool:
    """Whether transformers' model of a config embeds both texts, and pictures or videos."""
    from transformers import MODEL_MAPPING

    model = MODEL_MAPPING.get(type(config), None)
    return hasattr(model, "get_text_features") and any(hasattr(model, call) for call in EMBEDDING_CALLS)


def from_sentence_transformers(name: str, fps: int | None = None, size: int | None = None) -> MeanPooled:
    """A model of sentence-transformers that takes pictures, with its own prompts for queries and documents.

    A model that takes videos sees a second's frames as one; for others the frames' vectors are averaged.

    Args:
        name: a hub id or a folder.
        fps, size: frames a second, 3 by default; pixels a side, what the model's processor makes by default.

    Raises:
        ImportError: the library is missing.
        ValueError: the model takes no pictures, or pictures of any size, and `size` is not given.

    Example:
        >>> from_sentence_transformers("sentence-transformers/clip-ViT-B-32")  # doctest: +SKIP
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


def load_offline(fps: int | None = None, size: int | None = None) -> MeanPooled:
    """EfficientNet-Lite0 and MiniLM joined by `ConSE`: real videos without a network.

    It knows what ImageNet's classes name, things and animals rather than actions, and is weak beside CLIP.

    Args:
        fps, size: frames a second (1 unless given) and pixels a side (224).

    Example:
        >>> load_offline()
        MeanPooled('offline', 384 wide, windows of 1 s)
    """
    encoder = ConSE(fps or 1, size or 224)
    return MeanPooled(OFFLINE, encoder, encoder.embed_texts, {}, encoder.sentences, encoder.sentences.tokenizer)
