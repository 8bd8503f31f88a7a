"""Frozen video encoders by name or by `FeatureSpec`, and the command that encodes a folder of videos."""

import argparse
from pathlib import Path

from vclip.data.extraction import extract, processes
from vclip.data.spec import PROJECTION, FeatureSpec
from vclip.data.video_files import is_in_shard
from vclip.encoders.networks import (
    EFFICIENTNET_LITE0,
    S3D_G,
    AutoModelEncoder,
    EfficientNetLite0,
    Encoder,
    S3DEncoder,
)
from vclip.encoders.projection import Projection
from vclip.encoders.s3d import S3D_FILE, load_s3d

S3D_FILES = (S3D_FILE, "s3d_howto100m.pth")


def load_encoder(name: str, weights=None, fps: int | None = None, size: int | None = None) -> Encoder:
    """Load a frozen video encoder by name.

    Args:
        name: "efficientnet-lite0", "s3d-g", or a hub id or folder for `AutoModelEncoder`.
        weights: file or folder of the weights; S3D needs it.
        fps, size: frames a second and pixels a side; None: the network's own.

    Returns:
        An object with `.spec` and `encoder(frames (n, fps, size, size, 3) uint8) -> (n, F)`.

    Example:
        >>> load_encoder("efficientnet-lite0").spec.dim
        2560
    """
    if name == EFFICIENTNET_LITE0:
        return EfficientNetLite0(fps or 3, size or 128)
    if name == S3D_G:
        if weights is None:
            raise ValueError("S3D-G needs a weights file: pass weights='s3d_howto100m.pth'")
        encoder = S3DEncoder(load_s3d(weights))
    else:
        encoder = AutoModelEncoder(name, fps, weights)
    for key, value in (("fps", fps), ("size", size)):
        if value not in (None, own := getattr(encoder.spec, key)):
            raise ValueError(f"{name} needs {key}={own}, got {value}")
    return encoder


def from_spec(spec: FeatureSpec | dict, folder, weights=None) -> Encoder:
    """Load the encoder that made features of a spec.

    Args:
        spec: a FeatureSpec, or a dict of its fields as in a model's config.
        folder: a corpus or checkpoint; it, or the folder above, holds `projection.safetensors` where the spec has a
            projection, and for S3D `s3d.safetensors` or the released `s3d_howto100m.pth`.
        weights: another file or folder to load the network from.

    Raises:
        ValueError: names each field of the spec that the loaded encoder does not match.

    Example:
        >>> import vclip
        >>> spec = vclip.Corpus.open(vclip.minihowto() / "val").spec
        >>> from_spec(spec, vclip.minihowto()).spec == spec
        True
    """
    spec = FeatureSpec.read(spec, "the model") if isinstance(spec, dict) else spec
    if spec.encoder == S3D_G and weights is None:
        weights = _needed(folder, *S3D_FILES)
    encoder = load_encoder(spec.encoder, weights, spec.fps, spec.size)
    if spec.projection is not None:
        encoder = Projection.load(encoder, _needed(folder, PROJECTION))
    spec.check(encoder.spec, f"the encoder {spec.encoder} found here")
    return encoder


def encoder_files(spec: FeatureSpec, folder) -> list[Path]:
    """The files beside a corpus or checkpoint that an encoder of this spec needs: a projection, S3D's weights."""
    projection = _beside(folder, PROJECTION) if spec.projection is not None else []
    return projection[:1] + (_beside(folder, *S3D_FILES)[:1] if spec.encoder == S3D_G else [])


def _beside(folder, *names: str) -> list[Path]:
    """Those of these files that lie in a folder or the one above."""
    places = (Path(folder), Path(folder).parent)
    return [place / name for place in places for name in names if (place / name).is_file()]


def _needed(folder, *names: str) -> Path:
    if not (found := _beside(folder, *names)):
        wanted = " or ".join(names)
        raise FileNotFoundError(f"{folder} holds no {wanted}: put it there, from where features or weights came")
    return found[0]


def shard(text: str) -> tuple[int, int]:
    k, n = map(int, text.split("/"))
    is_in_shard("", (k, n))  # a ValueError becomes the parser's own message
    return k, n


def main() -> None:
    parser = argparse.ArgumentParser(
        "vclip.encoders.loading", description="Extract the features of a folder of videos."
    )
    parser.add_argument("folder", help="videos, each with its captions (.vtt, .srt, .json, .csv) beside it")
    parser.add_argument("out", help="the corpus to write, or to go on with")
    parser.add_argument("--encoder", default=EFFICIENTNET_LITE0, help="%(default)s, s3d-g, or a Hugging Face model")
    parser.add_argument("--weights", help="file of S3D's weights, or folder of the model")
    parser.add_argument("--fps", type=int, help="frames a second")
    parser.add_argument("--size", type=int, help="pixels a side")
    parser.add_argument("--shard", type=shard, default=(1, 1), help="2/8: the second of eight machines' shards")
    parser.add_argument("--projection", help="safetensors file of a matrix, as made by Projection.save")
    arguments = parser.parse_args()
    encoder = load_encoder(arguments.encoder, arguments.weights, arguments.fps, arguments.size)
    if arguments.projection:
        encoder = Projection.load(encoder, arguments.projection)
    report = extract(arguments.folder, arguments.out, encoder, arguments.shard)
    if processes().is_main_process:
        print(report)


if __name__ == "__main__":
    main()
