"""Features made smaller, F to D, by a matrix that travels beside them; n seconds of f frames of s x s pixels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vclip.data import storage
from vclip.data.spec import weights_hash


class Projection:
    """An encoder whose features are another encoder's features x made smaller: x @ matrix + offset.

    Args:
        encoder: makes F features.
        matrix, offset: shape (F, D), for instance of a PCA, and shape (D,).

    Example:
        >>> from vclip.encoders.networks import EfficientNetLite0
        >>> small = Projection(EfficientNetLite0(fps=1, size=64), np.zeros((2560, 8)), np.ones(8))
        >>> small(np.zeros((1, 1, 64, 64, 3), np.uint8)).tolist()
        [[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]]
    """

    def __init__(self, encoder, matrix: Float[np.ndarray, "F D"], offset: Float[np.ndarray, " D"]):
        spec = encoder.spec
        if spec.projection is not None:
            raise ValueError(f"{spec.encoder} is projected already: multiply the two matrices instead")
        if matrix.shape != (spec.dim, *offset.shape):
            raise ValueError(
                f"the matrix is {matrix.shape}, the offset {offset.shape}, but {spec.encoder} makes {spec.dim} features"
            )
        self.encoder = encoder
        self.matrix, self.offset = (np.ascontiguousarray(a, np.float32) for a in (matrix, offset))
        self.spec = replace(spec, projection=weights_hash(self._tensors()), dim=matrix.shape[1])

    @staticmethod
    def load(encoder, path) -> "Projection":
        """Read the matrix from a safetensors file that `save` wrote. Raises ValueError that names a damaged file."""
        try:
            tensors = load_file(path)
            return Projection(encoder, tensors["matrix"].numpy(), tensors["offset"].numpy())
        except (SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"{path} does not fit or is damaged ({error}): copy it from beside the features") from None

    def save(self, path) -> None:
        """Write the matrix; `from_spec` looks for `projection.safetensors` beside corpus and checkpoint."""
        storage.replace(Path(path), lambda temporary: save_file(self._tensors(), temporary))

    def __call__(self, frames: UInt8[np.ndarray, "n f s s 3"]) -> Float32[np.ndarray, "n D"]:
        return self.encoder(frames) @ self.matrix + self.offset

    def _tensors(self) -> dict[str, Tensor]:
        return {"matrix": torch.from_numpy(self.matrix), "offset": torch.from_numpy(self.offset)}
