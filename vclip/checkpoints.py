"""Released weights as a folder of ours: VideoCLIP for `from_pretrained`, S3D beside it or alone.

`python -m vclip.checkpoints FILE FOLDER --s3d FILE` writes what searching your own videos takes; what it wrote loads
without this module.
"""

import argparse
import os
import tempfile
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file

from vclip.encoders import s3d_spec
from vclip.model import VideoCLIPConfig, VideoCLIPModel
from vclip.pickles import load_torch
from vclip.processing import VideoCLIPProcessor
from vclip.released import S3D_FILE, is_s3d, load_s3d, load_videoclip, s3d_network, videoclip_model
from vclip.s3d import S3D
from vclip.smoke import smoke_scores
from vclip.spec import FeatureSpec

__all__ = ["convert", "load_s3d", "load_videoclip"]


def convert(path, folder, tokenizer=None, config: VideoCLIPConfig | None = None, s3d=None) -> dict[str, float]:
    """Write a released file as a folder: a VideoCLIP model for `from_pretrained`, or S3D for `load_s3d`.

    `tokenizer`, a folder or a name on the hub, adds the processor; `config` is as `load_videoclip` takes it. `s3d`,
    the released S3D file, goes into the folder of the VideoCLIP model as the encoder that its config names, so that
    `MomentIndex.build` finds it. Returns `vclip.smoke.smoke_scores`, of both networks if there are two.
    Raises FileExistsError if `folder` holds anything, ValueError as the loaders do and if the parts do not fit.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not empty: name another folder, or remove it first")
    content = load_torch(path)
    model, encoder, processor = None, None, None
    if is_s3d(content):
        if s3d is not None:
            raise ValueError(f"{path} is S3D's file: give VideoCLIP's first, and S3D's as the other")
        if tokenizer is not None or config is not None:
            raise ValueError(f"{path} is S3D's file, which takes no tokenizer and no config: leave them out")
        encoder = s3d_network(content, path)
    else:
        model = videoclip_model(content, path, config)
        processor = None if tokenizer is None else _processor(tokenizer, model.config)  # pyright: ignore
        if s3d is not None:
            encoder = load_s3d(s3d)
            _name_encoder(model.config, s3d_spec(encoder))  # pyright: ignore
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as unfinished:
        written = Path(unfinished) / "model"
        scores = _write_videoclip(written, model, processor) if model is not None else {}
        if encoder is not None:
            scores |= _write_s3d(written, encoder)
        os.replace(written, folder)
    return scores


def _name_encoder(config: VideoCLIPConfig, spec: FeatureSpec) -> None:
    """Say in a model's config which encoder makes its features; ValueError if they are another's."""
    if config.video_feature_dim != spec.dim:
        raise ValueError(f"the model takes features of {config.video_feature_dim}, {spec.encoder} makes {spec.dim}")
    if config.feature_spec is not None:
        FeatureSpec.read(config.feature_spec, "the config").check(spec, "the S3D file")
    config.feature_spec = asdict(spec)


def _write_videoclip(folder: Path, model: VideoCLIPModel, processor: VideoCLIPProcessor | None) -> dict[str, float]:
    model.save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)
    return smoke_scores(model, type(model).from_pretrained(folder), processor)


def _write_s3d(folder: Path, network: S3D) -> dict[str, float]:
    folder.mkdir(exist_ok=True)
    save_file(network.state_dict(), folder / S3D_FILE)
    return {f"S3D, {name}": score for name, score in smoke_scores(network, load_s3d(folder)).items()}


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


def main() -> None:
    parser = argparse.ArgumentParser("vclip.checkpoints", description="Convert a released VideoCLIP or S3D file.")
    parser.add_argument("file", help="VideoCLIP's checkpoint_best.pt, or s3d_howto100m.pth")
    parser.add_argument("folder", help="the folder to write, new or empty")
    parser.add_argument("--tokenizer", help="folder or hub name, bert-base-uncased for the released model")
    parser.add_argument("--s3d", help="s3d_howto100m.pth, the released model's encoder, to go into the same folder")
    parser.add_argument("--config", help="folder of a config.json, for a model of other sizes than the released ones")
    arguments = parser.parse_args()
    try:
        config = VideoCLIPConfig.from_pretrained(arguments.config) if arguments.config else None
        scores = convert(arguments.file, arguments.folder, arguments.tokenizer, config, arguments.s3d)
    except (OSError, ValueError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    print(f"{arguments.file} -> {arguments.folder}")
    for name, value in scores.items():
        print(f"{name}: {value:.4g}")


if __name__ == "__main__":
    main()
