"""The authors' trainer checkpoints read as our classes, strictly."""

import copy

from vclip.data.pickles import load_torch
from vclip.encoders.s3d import load_strictly
from vclip.models.config import VideoCLIPConfig
from vclip.models.segmenter import VideoCLIPForSegmentation
from vclip.models.videoclip import VideoCLIPModel

RENAMED = {
    "video_encoder.videomlp.LayerNorm.": "video_mlp.layer_norm.",
    "video_encoder.videomlp.": "video_mlp.",
    "video_encoder.bert.": "video_model.",
    "video_encoder.classifier.": "classifier.",
    "text_encoder.": "text_model.",
}
TABLE = "video_model.embeddings.word_embeddings.weight"
# the released trunks carry poolers that never touch the result, and a buffer that transformers no longer stores
UNUSED = {
    trunk + name
    for trunk in ("video_encoder.bert.", "text_encoder.", "mm_encoder.bert.")
    for name in ("pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids")
}


def load_videoclip(path, config: VideoCLIPConfig | None = None) -> VideoCLIPModel:
    """Load a released VideoCLIP checkpoint as a float32 model in eval mode; only tensors are read, nothing is executed.

    Args:
        path: a fairseq trainer file; one with a classifier gives a `VideoCLIPForSegmentation`.
        config: sizes of another checkpoint of this layout; None means the released ones. Shared towers are recognised
            by their keys.

    Example:
        >>> load_videoclip("checkpoint_best.pt")  # doctest: +SKIP
    """
    content = load_torch(path)
    # as mmpt/tasks/task.py takes them
    theirs = content.get("state_dict") or content.get("model") if isinstance(content, dict) else None
    if not isinstance(theirs, dict):
        raise ValueError(f"{path} is no checkpoint: it holds no weights under 'model' or 'state_dict'")
    theirs = {str(key).removeprefix("mmmodel."): value for key, value in theirs.items()}
    weights = {our_name(key): value for key, value in theirs.items() if key not in UNUSED}
    if len(weights) < len(theirs.keys() - UNUSED):
        raise ValueError(f"{path} mixes two layouts, shared towers (mm_encoder.) and separate ones: remove one")
    shared = any(key.startswith("mm_encoder.") for key in theirs)
    config = copy.deepcopy(config) or VideoCLIPConfig(share_towers=shared)
    if config.share_towers != shared:
        raise ValueError(f"{path} holds {'shared' if shared else 'separate'} towers, but share_towers is {not shared}")
    if not shared and TABLE in weights:
        weights[TABLE] = weights[TABLE][[config.cls_token_id, config.sep_token_id]]
    model_class = VideoCLIPModel
    if "classifier.weight" in weights:
        model_class, config.num_labels = VideoCLIPForSegmentation, len(weights["classifier.weight"])
    model = model_class(config)
    load_strictly(model, weights, path)
    return model


def our_name(key: str) -> str:
    """The name in our models of a key of the released file without its `mmmodel.`; any other key stays as it is."""
    key = key.replace("mm_encoder.", "video_encoder.")
    for theirs, ours in RENAMED.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return key
