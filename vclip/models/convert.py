"""Released weights as a folder of ours: VideoCLIP for `vclip.load`, S3D beside it or alone.

`python -m vclip.models.convert FILE FOLDER --tokenizer NAME --s3d FILE` writes what searching your own videos takes.
"""

import argparse
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from transformers import AutoTokenizer

from vclip.data.pickles import load_torch
from vclip.encoders.networks import S3DEncoder
from vclip.encoders.s3d import S3D_FILE, load_s3d
from vclip.models.config import VideoCLIPConfig
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.released import load_videoclip


def convert(path, folder, tokenizer=None, config: VideoCLIPConfig | None = None, s3d=None) -> None:
    """Write a released file as a folder: a VideoCLIP model for `vclip.load`, or S3D for `load_s3d`.

    Args:
        path: the released VideoCLIP or S3D file.
        folder: what to write; FileExistsError if it holds anything.
        tokenizer: a folder or hub id; adds the processor that `vclip.load` needs.
        config: sizes, as `load_videoclip` takes them.
        s3d: the released S3D file, which goes into the same folder as the encoder that the model's config names.

    Example:
        >>> convert("checkpoint_best.pt", "videoclip", "bert-base-uncased", s3d="s3d_howto100m.pth")  # doctest: +SKIP
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} is not empty: name another folder, or remove it first")
    content, model, processor = load_torch(path), None, None
    if isinstance(content, dict) and "fc.weight" in content:
        if s3d is not None or tokenizer is not None or config is not None:
            raise ValueError(f"{path} is S3D: pass VideoCLIP's file first, or S3D's alone")
        s3d = path
    else:
        model: Any = load_videoclip(path, config)
        if tokenizer is not None:
            limits = model.config.max_text_tokens, model.config.max_video_tokens
            processor = VideoCLIPProcessor(AutoTokenizer.from_pretrained(tokenizer), *limits)
            processor.check(model.config)
    network = None if s3d is None else load_s3d(s3d)
    if network is not None and model is not None:
        spec = S3DEncoder(network).spec
        if model.config.video_feature_dim != spec.dim:
            raise ValueError(f"the model takes features of {model.config.video_feature_dim}, S3D makes {spec.dim}")
        model.config.feature_spec = asdict(spec)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as unfinished:
        written = Path(unfinished) / "model"
        written.mkdir()
        for part in (model, processor):
            if part is not None:
                part.save_pretrained(written)
        if network is not None:
            save_file(network.state_dict(), written / S3D_FILE)
        os.replace(written, folder)


def main() -> None:
    parser = argparse.ArgumentParser("vclip.models.convert", description="Convert a released VideoCLIP or S3D file.")
    parser.add_argument("file", help="VideoCLIP's checkpoint_best.pt, or s3d_howto100m.pth")
    parser.add_argument("folder", help="the folder to write, new or empty")
    parser.add_argument("--tokenizer", help="folder or hub name, bert-base-uncased for the released model")
    parser.add_argument("--s3d", help="s3d_howto100m.pth, the released model's encoder, to go into the same folder")
    parser.add_argument("--config", help="folder of a config.json, for a model of other sizes than the released ones")
    arguments = parser.parse_args()
    try:
        config = VideoCLIPConfig.from_pretrained(arguments.config) if arguments.config else None
        convert(arguments.file, arguments.folder, arguments.tokenizer, config, arguments.s3d)
    except (OSError, ValueError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    print(f"{arguments.file} -> {arguments.folder}")


if __name__ == "__main__":
    main()
