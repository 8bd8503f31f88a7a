"""Released weights into our classes, strictly: the VideoCLIP trainer checkpoint and the S3D file."""

import torch
from torch import Tensor

from vclip.model import VideoCLIPConfig, VideoCLIPModel
from vclip.pickles import load_torch

# the released trunks carry poolers that never touch the result, and a buffer that transformers no longer stores
UNUSED = (".pooler.dense.weight", ".pooler.dense.bias", ".embeddings.position_ids")


def load_videoclip(path, config: VideoCLIPConfig | None = None) -> VideoCLIPModel:
    """The released VideoCLIP checkpoint (a fairseq trainer file) as a float32 model in eval mode.

    `config` gives the sizes of another checkpoint of this layout; None means the released ones (shared towers are
    recognised by their keys). Only tensors are read (`vclip.pickles`); nothing in the file is executed.
    Raises ValueError that lists missing, unexpected and misshapen keys.
    """
    weights = _model_weights(load_torch(path), path)
    shared = any(key.startswith("mm_encoder.") for key in weights)
    config = config or VideoCLIPConfig(share_towers=shared)
    if config.share_towers != shared:
        raise ValueError(f"{path} holds {'shared' if shared else 'separate'} towers, but share_towers is {not shared}")
    model = VideoCLIPModel(config)
    renamed = {_rename(key): value for key, value in weights.items() if not key.endswith(UNUSED)}
    table = "video_model.embeddings.word_embeddings.weight"
    if not shared and table in renamed:
        renamed[table] = renamed[table][[config.cls_token_id, config.sep_token_id]]
    _load_strictly(model, renamed, path)
    return model


def load_s3d(path):
    """The released S3D weights (`s3d_howto100m.pth`) as a float32 `vclip.s3d.S3D` in eval mode.

    The file's text model (`text_module.*`) is ignored. Raises ValueError that lists missing and unexpected keys.
    """
    from vclip.s3d import S3D

    weights = {key: value for key, value in load_torch(path).items() if not key.startswith("text_module.")}
    model = S3D()
    _load_strictly(model, weights, path)
    return model


def _model_weights(checkpoint, path) -> dict[str, Tensor]:
    """`state_dict`, or the trainer's `model`, without the wrapper's prefix (mmpt/tasks/task.py)."""
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{path} holds a {type(checkpoint).__name__}, not a checkpoint dictionary")
    weights = checkpoint.get("state_dict") or checkpoint.get("model")
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f"{path} has no 'model' or 'state_dict' of tensors; it has {sorted(map(str, checkpoint))}")
    return {key.removeprefix("mmmodel."): value for key, value in weights.items()}


def _rename(key: str) -> str:
    for old, new in (
        ("video_encoder.videomlp.LayerNorm.", "video_mlp.layer_norm."),
        ("video_encoder.videomlp.", "video_mlp."),
        ("video_encoder.bert.", "video_model."),
        ("text_encoder.", "text_model."),
        ("mm_encoder.videomlp.LayerNorm.", "video_mlp.layer_norm."),
        ("mm_encoder.videomlp.", "video_mlp."),
        ("mm_encoder.bert.", "video_model."),
    ):
        if key.startswith(old):
            return new + key.removeprefix(old)
    return key


def _load_strictly(model: torch.nn.Module, weights: dict[str, Tensor], path) -> None:
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
