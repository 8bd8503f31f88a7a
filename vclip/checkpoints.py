"""Released weights into our classes, strictly: VideoCLIP's trainer checkpoints and the S3D file.

`python -m vclip.checkpoints FILE FOLDER` writes them as a folder that loads without this module.
"""

import argparse
import copy
import os
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vclip.model import VideoCLIPConfig, VideoCLIPModel, VideoCLIPProcessor
from vclip.pickles import load_torch
from vclip.s3d import S3D
from vclip.segmenter import VideoCLIPForSegmentation
from vclip.smoke import smoke_scores

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
    Raises ValueError that lists missing, unexpected and misshapen keys.
    """
    return _videoclip(load_torch(path), path, config)


def load_s3d(path) -> S3D:
    """The released S3D weights (`s3d_howto100m.pth`), or what `convert` made of them, as a float32 `S3D` in eval mode.

    The file's text model (`text_module.*`) is ignored. Raises ValueError that lists missing and unexpected keys.
    """
    path = Path(path)
    path = path / S3D_FILE if path.is_dir() else path
    return _s3d(load_file(path) if path.suffix == ".safetensors" else load_torch(path), path)


def convert(path, folder, tokenizer=None, config: VideoCLIPConfig | None = None) -> dict[str, float]:
    """Write a released file as a folder: a VideoCLIP model for `from_pretrained`, or S3D for `load_s3d`.

    `tokenizer`, a folder or a name on the hub, adds the processor. Returns `vclip.smoke.smoke_scores`.
    Raises FileExistsError if `folder` holds anything, ValueError as the loaders do.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not empty: name another folder, or remove it first")
    content = load_torch(path)
    if _is_s3d(content):
        model, processor = _s3d(content, path), None
    else:
        model = _videoclip(content, path, config)
        processor = None if tokenizer is None else _processor(tokenizer, model.config)  # pyright: ignore
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as unfinished:
        written = Path(unfinished) / "model"
        if isinstance(model, S3D):
            written.mkdir()
            save_file(model.state_dict(), written / S3D_FILE)
            scores = smoke_scores(model, load_s3d(written))
        else:
            model.save_pretrained(written)
            if processor is not None:
                processor.save_pretrained(written)
            scores = smoke_scores(model, type(model).from_pretrained(written), processor)
        os.replace(written, folder)
    return scores


def _is_s3d(content: Any) -> bool:
    return isinstance(content, dict) and isinstance(content.get("fc.weight"), Tensor)


def _videoclip(content: Any, path, config: VideoCLIPConfig | None) -> VideoCLIPModel:
    weights = _model_weights(content, path)
    shared = any(key.startswith("mm_encoder.") for key in weights)
    config = copy.deepcopy(config) or VideoCLIPConfig(share_towers=shared)
    if config.share_towers != shared:
        raise ValueError(f"{path} holds {'shared' if shared else 'separate'} towers, but share_towers is {not shared}")
    renamed = {_rename(key): value for key, value in weights.items() if not key.endswith(UNUSED)}
    table, special = "video_model.embeddings.word_embeddings.weight", [config.cls_token_id, config.sep_token_id]
    if not shared and table in renamed and len(renamed[table]) > max(special):
        renamed[table] = renamed[table][special]
    model_class = VideoCLIPModel
    if "classifier.weight" in renamed:
        model_class, config.num_labels = VideoCLIPForSegmentation, len(renamed["classifier.weight"])
    model = model_class(config)
    _load_strictly(model, renamed, path)
    return model


def _s3d(content: Any, path) -> S3D:
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{path} is not a dictionary of S3D's tensors")
    model = S3D()
    _load_strictly(model, {k: v for k, v in content.items() if not str(k).startswith("text_module.")}, path)
    return model


def _processor(tokenizer, config: VideoCLIPConfig) -> VideoCLIPProcessor:
    from transformers import AutoTokenizer

    tokenizer, words = AutoTokenizer.from_pretrained(tokenizer), config.text_config.vocab_size
    ids = [(tokenizer.cls_token_id, config.cls_token_id), (tokenizer.sep_token_id, config.sep_token_id)]
    if len(tokenizer) > words or any(its != ours for its, ours in ids):
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} words with [CLS], [SEP] = {[its for its, _ in ids]}, "
            f"the model {words} with {[ours for _, ours in ids]}: it is another model's"
        )
    return VideoCLIPProcessor(tokenizer, config.max_text_tokens, config.max_video_tokens)


def _model_weights(checkpoint, path) -> dict[str, Tensor]:
    """`state_dict`, or the trainer's `model`, without the wrapper's prefix (mmpt/tasks/task.py)."""
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{path} holds a {type(checkpoint).__name__}, not a checkpoint dictionary")
    weights = checkpoint.get("state_dict") or checkpoint.get("model")
    if not isinstance(weights, dict) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise ValueError(f"{path} has no 'model' or 'state_dict' of tensors; it has {sorted(map(str, checkpoint))}")
    return {str(key).removeprefix("mmmodel."): value for key, value in weights.items()}


def _rename(key: str) -> str:
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


def main() -> None:
    parser = argparse.ArgumentParser("vclip.checkpoints", description="Convert a released VideoCLIP or S3D file.")
    parser.add_argument("file", help="VideoCLIP's checkpoint_best.pt, or s3d_howto100m.pth")
    parser.add_argument("folder", help="the folder to write, new or empty")
    parser.add_argument("--tokenizer", help="folder or hub name, bert-base-uncased for the released model")
    parser.add_argument("--config", help="folder of a config.json, for a model of other sizes than the released ones")
    arguments = parser.parse_args()
    config = VideoCLIPConfig.from_pretrained(arguments.config) if arguments.config else None
    scores = convert(arguments.file, arguments.folder, arguments.tokenizer, config)
    print(f"{arguments.file} -> {arguments.folder}")
    for name, value in scores.items():
        print(f"{name}: {value:.4g}")


if __name__ == "__main__":
    main()
