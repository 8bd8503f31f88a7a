"""The authors' files read as our classes, strictly: VideoCLIP's trainer checkpoints and S3D's weights."""

import copy
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from vclip.model import VideoCLIPConfig, VideoCLIPModel
from vclip.pickles import load_torch
from vclip.s3d import S3D
from vclip.segmenter import VideoCLIPForSegmentation

# the released trunks carry poolers that never touch the result, and a buffer that transformers no longer stores
UNUSED = (".pooler.dense.weight", ".pooler.dense.bias", ".embeddings.position_ids")
RENAMED = {
    "video_encoder.videomlp.LayerNorm.": "video_mlp.layer_norm.",
    "video_encoder.videomlp.": "video_mlp.",
    "video_encoder.bert.": "video_model.",
    "video_encoder.classifier.": "classifier.",
    "text_encoder.": "text_model.",
    "mm_encoder.videomlp.LayerNorm.": "video_mlp.layer_norm.",
    "mm_encoder.videomlp.": "video_mlp.",
    "mm_encoder.bert.": "video_model.",
}
S3D_FILE = "s3d.safetensors"


def load_videoclip(path, config: VideoCLIPConfig | None = None) -> VideoCLIPModel:
    """The released VideoCLIP checkpoint (a fairseq trainer file) as a float32 model in eval mode.

    One fine-tuned on COIN, which holds a classifier, becomes a `VideoCLIPForSegmentation` of as many labels.
    `config` gives the sizes of another checkpoint of this layout; None means the released ones (shared towers are
    recognised by their keys). Only tensors are read (`vclip.pickles`); nothing in the file is executed.
    Raises ValueError that lists missing, unexpected and misshapen keys, and keys of both layouts in one file.
    """
    return videoclip_model(load_torch(path), path, config)


def load_s3d(path) -> S3D:
    """The released S3D weights (`s3d_howto100m.pth`), or what `convert` made of them, as a float32 `S3D` in eval mode.

    `path` may be the folder that `convert` wrote. The file's text model (`text_module.*`) is ignored.
    Raises ValueError that lists missing, unexpected and misshapen keys.
    """
    path = Path(path)
    path = path / S3D_FILE if path.is_dir() else path
    if path.suffix != ".safetensors":
        return s3d_network(load_torch(path), path)
    try:
        return s3d_network(load_file(path), path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}): convert the released file again") from None


def is_s3d(content: Any) -> bool:
    """Whether what `load_torch` read are the weights of S3D."""
    return isinstance(content, dict) and isinstance(content.get("fc.weight"), Tensor)


def videoclip_model(content: Any, path, config: VideoCLIPConfig | None) -> VideoCLIPModel:
    """`load_videoclip` of what `load_torch` read from `path`."""
    weights = _model_weights(content, path)
    shared = _has_shared_towers(weights, path)
    config = copy.deepcopy(config) or VideoCLIPConfig(share_towers=shared)
    if config.share_towers != shared:
        raise ValueError(f"{path} holds {'shared' if shared else 'separate'} towers, but share_towers is {not shared}")
    renamed = _distinct({key: our_name(key) for key in weights if not key.endswith(UNUSED)}, weights, path)
    table, special = "video_model.embeddings.word_embeddings.weight", [config.cls_token_id, config.sep_token_id]
    if not shared and table in renamed and len(renamed[table]) > max(special):
        renamed[table] = renamed[table][special]
    model_class = VideoCLIPModel
    if "classifier.weight" in renamed:
        model_class, config.num_labels = VideoCLIPForSegmentation, len(renamed["classifier.weight"])
    model = model_class(config)
    _load_strictly(model, renamed, path)
    return model


def s3d_network(content: Any, path) -> S3D:
    """`load_s3d` of what `load_torch` read from `path`."""
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path} is not a dictionary of S3D's tensors")
    model = S3D()
    _load_strictly(model, {k: v for k, v in content.items() if not str(k).startswith("text_module.")}, path)
    return model


def _model_weights(checkpoint, path) -> dict[str, Tensor]:
    """`state_dict`, or the trainer's `model`, without the wrapper's prefix (mmpt/tasks/task.py)."""
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{path} holds a {type(checkpoint).__name__}, not a checkpoint dictionary")
    weights = checkpoint.get("state_dict") or checkpoint.get("model")
    if not isinstance(weights, dict) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise ValueError(f"{path} has no 'model' or 'state_dict' of tensors; it has {sorted(map(str, checkpoint))}")
    weights = {str(key): value for key, value in weights.items()}
    return _distinct({key: key.removeprefix("mmmodel.") for key in weights}, weights, path)


def _distinct(names: dict[str, str], weights: dict[str, Tensor], path) -> dict[str, Tensor]:
    """The weights under their new names; ValueError that lists the keys which would get one and the same."""
    renamed: dict[str, str] = {}
    for key, name in names.items():
        if name in renamed:
            raise ValueError(f"{path} holds {renamed[name]!r} and {key!r}, which name one tensor: remove one")
        renamed[name] = key
    return {name: weights[key] for name, key in renamed.items()}


def _has_shared_towers(weights: dict[str, Tensor], path) -> bool:
    shared = sorted(key for key in weights if key.startswith("mm_encoder."))
    separate = sorted(key for key in weights if key.startswith(("video_encoder.", "text_encoder.")))
    if shared and separate:
        raise ValueError(f"{path} mixes two layouts, shared towers {shared} and separate ones {separate}: remove one")
    return bool(shared)


def our_name(key: str) -> str:
    """The name in our models of a key of the released file, without its `mmmodel.`."""
    for theirs, ours in RENAMED.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return key


def _load_strictly(model: nn.Module, weights: dict[str, Tensor], path) -> None:
    expected = model.state_dict()
    missing, unexpected = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    misshapen = [
        f"{key} is {tuple(weights[key].shape)}, expected {tuple(expected[key].shape)}"
        for key in sorted(expected.keys() & weights.keys())
        if weights[key].shape != expected[key].shape
    ]
    if missing or unexpected or misshapen:
        raise ValueError(f"{path} does not fit: missing {missing}, unexpected {unexpected}, misshapen {misshapen}")
    model.load_state_dict(weights)
    model.float().eval()
