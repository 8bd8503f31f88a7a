"""Frozen video encoders by name or by `FeatureSpec`."""

from pathlib import Path

from vclip.data.spec import PROJECTION, FeatureSpec
from vclip.encoders import networks
from vclip.encoders.networks import EFFICIENTNET_LITE0, OFFLINE, S3D_G, NetworkEncoder, Projection
from vclip.encoders.s3d import S3D_FILE, load_s3d

S3D_FILES = (S3D_FILE, "s3d_howto100m.pth")


def load_encoder(name: str, weights=None, fps: int | None = None, size: int | None = None) -> NetworkEncoder:
    """Load a frozen video encoder by name: it has `.spec` and turns frames (n, fps, size, size, 3) uint8 into (n, F).

    Args:
        name: "efficientnet-lite0", "s3d-g", "offline" (`ConSE`), or a hub id or folder for `AutoModelEncoder`.
        weights: file or folder of the weights; S3D needs it.
        fps, size: frames a second and pixels a side; None: the network's own.

    Raises:
        FileNotFoundError: neither a known name, a folder nor a model of the hub.
        ValueError: `fps` or `size` is not the network's own, or S3D lacks its weights.

    Example:
        >>> load_encoder("efficientnet-lite0").spec.dim
        2560
    """
    if name == EFFICIENTNET_LITE0:
        return networks.EfficientNetLite0(fps or 3, size or 128)
    if name == OFFLINE:
        return networks.ConSE(fps or 1, size or 224)
    if name == S3D_G:
        if weights is None:
            raise ValueError("S3D-G needs a weights file: pass weights='s3d_howto100m.pth'")
        encoder = networks.S3DEncoder(load_s3d(weights))
    else:
        try:
            encoder = networks.AutoModelEncoder(name, fps, weights)
        except OSError as error:
            known = f"{EFFICIENTNET_LITE0}, {S3D_G}, {OFFLINE}, a folder, nor a model that the hub gives"
            raise FileNotFoundError(f"the encoder {name!r} is neither {known} ({error})") from error
    for key, value in (("fps", fps), ("size", size)):
        if value not in (None, own := getattr(encoder.spec, key)):
            raise ValueError(f"{name} needs {key}={own}, got {value}")
    return encoder


def from_spec(spec: FeatureSpec | dict, folder) -> NetworkEncoder | Projection:
    """Load the encoder that made features of a spec.

    Args:
        spec: a FeatureSpec, or a dict of its fields as in a model's config.
        folder: a corpus or checkpoint; it, or the folder above, holds `projection.safetensors` where the spec has a
            projection, and for S3D `s3d.safetensors` or the released `s3d_howto100m.pth`.

    Raises:
        ValueError: names each field of the spec that the loaded encoder does not match.
        FileNotFoundError: a file of the encoder is missing.

    Example:
        >>> import vclip
        >>> spec = vclip.Corpus.open(vclip.minihowto() / "val").spec
        >>> from_spec(spec, vclip.minihowto()).spec == spec
        True
    """
    spec = FeatureSpec.read(spec, "the model") if isinstance(spec, dict) else spec
    weights = _needed(folder, *S3D_FILES) if spec.encoder == S3D_G else None
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
