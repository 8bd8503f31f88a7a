"""Released weights as a folder of ours: VideoCLIP for `from_pretrained`, S3D beside it or alone.

`python -m vclip.models.convert FILE FOLDER --s3d FILE` writes what searching your own videos takes; what it wrote loads
without this module.
"""

import argparse
import os
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from vclip.data.pickles import load_torch
from vclip.data.spec import FeatureSpec
from vclip.encoders.networks import s3d_spec
from vclip.encoders.s3d import S3D, S3D_FILE, is_s3d, load_s3d, s3d_network
from vclip.models.config import VideoCLIPConfig
from vclip.models.dual_encoder import VideoCLIP, evaluating
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.released import videoclip_model
from vclip.models.videoclip import VideoCLIPModel


def convert(path, folder, tokenizer=None, config: VideoCLIPConfig | None = None, s3d=None) -> dict[str, float]:
    """Write a released file as a folder: a VideoCLIP model for `vclip.load`, or S3D for `load_s3d`.

    Args:
        path: the released VideoCLIP or S3D file.
        folder: what to write, new or empty.
        tokenizer: a folder or hub id; adds the processor that `vclip.load` needs.
        config: sizes, as `load_videoclip` takes them.
        s3d: the released S3D file, which goes into the same folder as the encoder that the model's config names.

    Returns:
        `smoke_scores` of what was written.

    Raises:
        FileExistsError: if `folder` holds anything.
        ValueError: as the loaders do, and if the parts do not fit.

    Example:
        >>> convert("checkpoint_best.pt", "videoclip", "bert-base-uncased", s3d="s3d_howto100m.pth")  # doctest: +SKIP
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


CLIPS, SECONDS = 64, 12
NOISE = 0.1  # standard deviation of the copies, a tenth of the signal's
PARAPHRASES = (
    ("chop the onion into small pieces", "dice up an onion finely"),
    ("bring the water to a boil", "heat the pot until it is bubbling"),
    ("hammer a nail into the wood", "drive the nail through a board with a mallet"),
    ("paint the wall with a roller", "put a coat of colour on the living room walls"),
    ("change the tire of the car", "take off the wheel and put on the spare"),
    ("plant the seeds in the soil", "sow them in the garden bed"),
    ("knead the dough with your hands", "work the bread mix until it is elastic"),
    ("tie your shoe laces", "make a bow on the sneakers"),
    ("comb the hair and braid it", "brush it out and weave it into a plait"),
    ("play a chord on the guitar", "strum the strings of the instrument"),
    ("fold the paper in half", "crease the sheet down the middle for origami"),
    ("brew a cup of coffee", "pour hot water over ground beans for an espresso"),
    ("wash the dog in the bathtub", "give your puppy a bath with shampoo"),
    ("sew a button on the shirt", "stitch it to the fabric with needle and thread"),
    ("beat the eggs with a whisk", "stir yolks and whites until fluffy"),
    ("mow the grass in the yard", "cut the lawn with a machine"),
)


def smoke_scores(model: Any, again: Any, processor: VideoCLIPProcessor | None = None) -> dict[str, float]:
    """Check that a converted network works, without data.

    R@1 of made inputs searched by copies with a little noise or one word changed (a collapsed network finds few), and,
    with a processor, of how-to sentences searched by a paraphrase (weights in the wrong places find few).

    Args:
        model: a VideoCLIPModel or S3D.
        again: the same read back from disk.
        processor: VideoCLIP's, for the sentences.

    Raises:
        ValueError: if an output is not finite or `again` does not reproduce it.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        outputs = _videoclip if isinstance(model, VideoCLIPModel) else _s3d
        vectors, copies, repeated = outputs(model, again)
    if not np.isfinite(vectors).all() or (difference := float(np.abs(vectors - repeated).max())) > 1e-5:
        raise ValueError("what was written does not reproduce the outputs of what was read: they differ or are NaN")
    scores = {
        "largest difference once reloaded": difference,
        f"made inputs found by noisy copies (R@1, chance {1 / len(vectors):.2g})": _found(vectors, copies),
    }
    if processor is not None:
        sides = [VideoCLIP(model, processor).encode_texts(texts) for texts in zip(*PARAPHRASES, strict=True)]
        scores[f"sentences found by a paraphrase (R@1, chance {1 / len(PARAPHRASES):.2g})"] = _found(*sides)
    return scores


def _videoclip(model: VideoCLIPModel, again: VideoCLIPModel) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    config = model.config
    clips = F.normalize(torch.randn(CLIPS, SECONDS, config.video_feature_dim), dim=-1)
    noisy = F.normalize(clips + NOISE * torch.randn_like(clips) / config.video_feature_dim**0.5, dim=-1)
    ids = torch.randint(config.text_config.vocab_size, (CLIPS, 8))
    ids[:, 0], ids[:, -1] = config.cls_token_id, config.sep_token_id
    other = ids.clone()
    other[:, 3] = torch.randint(config.text_config.vocab_size, (CLIPS,))

    def z(m: VideoCLIPModel, clips: torch.Tensor, ids: torch.Tensor) -> np.ndarray:
        with evaluating(m):
            rows: list = [m.get_video_features(clips).pooler_output, m.get_text_features(ids).pooler_output]
        return torch.cat(rows).numpy()

    return z(model, clips, ids), z(model, noisy, other), z(again, clips, ids)


def _s3d(model: Any, again: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    seconds = F.interpolate(torch.rand(8, 3, 4, 8, 8), (8, 64, 64), mode="trilinear")
    noisy = (seconds + NOISE * seconds.std() * torch.randn_like(seconds)).clamp(0, 1)
    with torch.inference_mode():
        rows = [net(x).video_embedding.numpy() for net, x in ((model, seconds), (model, noisy), (again, seconds))]
    return rows[0], rows[1], rows[2]


def _found(vectors: np.ndarray, copies: np.ndarray) -> float:
    """R@1 by cosine: how many copies have their own vector first."""
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True).clip(1e-12) for v in (vectors, copies)]
    return float(np.mean((unit[1] @ unit[0].T).argmax(axis=1) == np.arange(len(vectors))))


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
        scores = convert(arguments.file, arguments.folder, arguments.tokenizer, config, arguments.s3d)
    except (OSError, ValueError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    print(f"{arguments.file} -> {arguments.folder}")
    for name, value in scores.items():
        print(f"{name}: {value:.4g}")


if __name__ == "__main__":
    main()
