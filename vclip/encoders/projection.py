"""Features made smaller by a matrix that travels beside them.

Shapes: n rows, F features in, D features out; f frames a second of s x s pixels.
"""

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
        matrix: shape (F, D), for instance from `fit_projection`.
        offset: shape (D,).

    Raises:
        ValueError: if the matrix takes another number of features, or the encoder is a projection itself.

    Example:
        >>> from vclip.encoders.networks import EfficientNetLite0
        >>> small = Projection(EfficientNetLite0(fps=1, size=64), np.zeros((2560, 8)), np.ones(8))
        >>> small(np.zeros((1, 1, 64, 64, 3), np.uint8)).tolist()
        [[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]]
    """

    def __init__(self, encoder, matrix: Float[np.ndarray, "F D"], offset: Float[np.ndarray, " D"]):
        if encoder.spec.projection is not None:
            raise ValueError(f"{encoder.spec.encoder} is projected already: multiply the two matrices instead")
        if matrix.shape[0] != encoder.spec.dim:
            raise ValueError(
                f"the matrix takes {matrix.shape[0]} features, {encoder.spec.encoder} makes {encoder.spec.dim}"
            )
        self.encoder = encoder
        self.matrix, self.offset = (np.ascontiguousarray(a, np.float32) for a in (matrix, offset))
        self.spec = replace(encoder.spec, projection=weights_hash(self._tensors()), dim=matrix.shape[1])

    @staticmethod
    def load(encoder, path) -> "Projection":
        """The matrix from a safetensors file as written by `save`.

        Raises ValueError that names the file if it is damaged, another kind of file, or does not fit the encoder.
        """
        try:
            tensors = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged ({error}): copy it again from where the features came from") from None
        if tensors.keys() != {"matrix", "offset"}:
            raise ValueError(f"{path} holds {sorted(tensors)}, a projection is the tensors 'matrix' and 'offset'")
        shapes = [tuple(tensors[name].shape) for name in ("matrix", "offset")]
        if len(shapes[0]) != 2 or shapes[0][0] != encoder.spec.dim or shapes[1] != shapes[0][1:]:
            raise ValueError(
                f"{path} holds a matrix {shapes[0]} and an offset {shapes[1]}, but {encoder.spec.encoder} makes "
                f"{encoder.spec.dim} features: it is another encoder's"
            )
        return Projection(encoder, tensors["matrix"].numpy(), tensors["offset"].numpy())

    def save(self, path) -> None:
        """Write the matrix, by custom as `projection.safetensors` beside corpus and checkpoint."""
        storage.replace(Path(path), lambda temporary: save_file(self._tensors(), temporary))

    def __call__(self, frames: UInt8[np.ndarray, "n f s s 3"]) -> Float32[np.ndarray, "n D"]:
        """Raises ValueError as the encoder does."""
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
