"""`load`: a folder or a hub id becomes a dual encoder with all that it needs."""

from os import PathLike, fspath
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from transformers import AutoConfig

from vclip.data.extraction import processes
from vclip.models.config import VideoCLIPConfig
from vclip.models.dual_encoder import VideoCLIP
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.segmenter import VideoCLIPForSegmentation
from vclip.models.videoclip import VideoCLIPModel


def load(source: str | PathLike[str]) -> VideoCLIP:
    """Load a dual encoder, on the GPU if there is one; its frozen video encoder is loaded when videos are first read.

    Args:
        source: a folder (a finished run's `best/`, what `convert` wrote, the shipped checkpoint) or a hub id.

    Example:
        >>> import vclip
        >>> clip = vclip.load(vclip.minihowto() / "checkpoint")
        >>> clip.encode_texts(["chop the carrot"]).shape
        (1, 128)
    """
    folder = name = fspath(source)
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise FileNotFoundError(f"{name} holds no config.json: name the folder of a model, a run's best/ for instance")
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except OSError as error:
        raise FileNotFoundError(f"{name!r} is no folder here, and the hub gives no such model ({error})") from error
    if not isinstance(config, VideoCLIPConfig):
        raise ValueError(f"{name} is a {config.model_type!r} model: only VideoCLIP models can be loaded")
    if not Path(name).is_dir():  # fetched whole, with what the frozen encoder needs
        folder = snapshot_download(name, allow_patterns=["*.json", "*.txt", "*.safetensors"])
    segments = VideoCLIPForSegmentation.__name__ in (config.architectures or ())
    model: Any = (VideoCLIPForSegmentation if segments else VideoCLIPModel).from_pretrained(folder)
    clip = VideoCLIP(model.to(processes().device), VideoCLIPProcessor.from_pretrained(folder))
    if folder != name:
        clip.name = name
    return clip
