"""The authors' files read as our classes, strictly: VideoCLIP's trainer checkpoints and S3D's weights."""

import copy
from typing import Any

from torch import Tensor

from vclip.data.pickles import load_torch
from vclip.encoders.s3d import load_strictly
from vclip.models.config import VideoCLIPConfig
from vclip.models.segmenter import VideoCLIPForSegmentation
from vclip.models.videoclip import VideoCLIPModel

PREFIX = "mmmodel."
RENAMED = {
    "video_encoder.videomlp.LayerNorm.": "video_mlp.layer_norm.",
    "video_encoder.videomlp.linear1.": "video_mlp.linear1.",
    "video_encoder.videomlp.linear2.": "video_mlp.linear2.",
    "video_encoder.bert.": "video_model.",
    "video_encoder.classifier.": "classifier.",
    "text_encoder.": "text_model.",
    "mm_encoder.videomlp.LayerNorm.": "video_mlp.layer_norm.",
    "mm_encoder.videomlp.linear1.": "video_mlp.linear1.",
    "mm_encoder.videomlp.linear2.": "video_mlp.linear2.",
    "mm_encoder.bert.": "video_model.",
}
# the released trunks carry poolers that never touch the result, and a buffer that transformers no longer stores
UNUSED = {
    trunk + name
    for trunk in ("video_encoder.bert.", "text_encoder.", "mm_encoder.bert.")
    for name in ("pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids")
}


def load_videoclip(path, config: VideoCLIPConfig | None = None) -> VideoCLIPModel:
    """Load a released VideoCLIP checkpoint, a fairseq trainer file. Only tensors are read; nothing is executed.

    Args:
        path: the file, `checkpoint_best.pt` for instance.
        config: sizes of another checkpoint of this layout; None means the released ones. Shared towers are recognised
            by their keys.

    Returns:
        A float32 model in eval mode; a `VideoCLIPForSegmentation` if the file holds a classifier.

    Raises:
        ValueError: lists missing, unexpected and misshapen keys, weights that are not finite floats, and keys of both
            layouts in one file.

    Example:
        >>> load_videoclip("checkpoint_best.pt")  # doctest: +SKIP
    """
    return videoclip_model(load_torch(path), path, config)


def videoclip_model(content: Any, path, config: VideoCLIPConfig | None) -> VideoCLIPModel:
    """`load_videoclip` of what `load_torch` read from `path`."""
    weights = _model_weights(content, path)
    shared = _has_shared_towers(weights, path)
    config = copy.deepcopy(config) or VideoCLIPConfig(share_towers=shared)
    if config.share_towers != shared:
        raise ValueError(f"{path} holds {'shared' if shared else 'separate'} towers, but share_towers is {not shared}")
    theirs = [key for key in weights if key.startswith(tuple(RENAMED))]
    renamed = {our_name(key): weights[key] for key in theirs if key not in UNUSED}
    table, special = "video_model.embeddings.word_embeddings.weight", [config.cls_token_id, config.sep_token_id]
    if not shared and table in renamed and renamed[table].ndim == 2 and len(renamed[table]) > max(special):
        renamed[table] = renamed[table][special]
    model_class, head = VideoCLIPModel, renamed.get("classifier.weight")
    if head is not None:
        model_class = VideoCLIPForSegmentation
        if head.ndim == 2 and head.numel() and head.is_contiguous():  # as many rows as the file has bytes for
            config.num_labels = len(head)
    model = model_class(config)
    load_strictly(model, renamed, path, weights.keys() - theirs)
    return model


def _model_weights(checkpoint, path) -> dict[str, Tensor]:
    """`state_dict`, or the trainer's `model`, without the wrapper's prefix (mmpt/tasks/task.py)."""
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{path} holds a {type(checkpoint).__name__}, not a checkpoint dictionary")
    held = [checkpoint.get(name) for name in ("state_dict", "model")]
    held = [w for w in held if isinstance(w, dict) and w and all(isinstance(v, Tensor) for v in w.values())]
    if not held:
        raise ValueError(f"{path} has no 'model' or 'state_dict' of tensors; it has {sorted(map(str, checkpoint))}")
    # a trainer may keep tensors of something else under the other name
    prefixes = (*RENAMED, *(PREFIX + theirs for theirs in RENAMED))
    chosen = next((w for w in held if any(str(key).startswith(prefixes) for key in w)), held[0])
    weights = {str(key): value for key, value in chosen.items()}
    bare = sorted(key for key in weights if not key.startswith(PREFIX))
    if bare and len(bare) < len(weights):
        raise ValueError(f"{path} has keys without the prefix {PREFIX!r} amid keys with it: {bare}")
    return {key.removeprefix(PREFIX): value for key, value in weights.items()}


def _has_shared_towers(weights: dict[str, Tensor], path) -> bool:
    shared = sorted(key for key in weights if key.startswith("mm_encoder."))
    separate = sorted(key for key in weights if key.startswith(("video_encoder.", "text_encoder.")))
    if shared and separate:
        raise ValueError(f"{path} mixes two layouts, shared towers {shared} and separate ones {separate}: remove one")
    return bool(shared)


def our_name(key: str) -> str:
    """The name in our models of a key of the released file without its `mmmodel.`; any other key stays as it is."""
    for theirs, ours in RENAMED.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return key
