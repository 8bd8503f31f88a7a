"""How the features of a corpus were made."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class FeatureSpec:
    """How the features of a corpus were made; two corpora mix only if every field agrees.

    `weights` and `projection` are hashes of tensors (`projection` None: the encoder's own output is stored).
    `fps` frames a second of `size` x `size` pixels go in, `pooling` says what happens to the second's frames
    ("none": the network sees the second whole; "mean"; "mean+std"), and `dim` numbers come out.
    """

    encoder: str
    weights: str
    fps: int
    size: int
    crop: str
    normalisation: str
    pooling: str
    projection: str | None
    dim: int

    @classmethod
    def read(cls, values: dict, where) -> "FeatureSpec":
        """From a dict of all fields; ValueError that names `where` it stands and the fields missing or unknown."""
        names = {f.name for f in fields(cls)}
        if wrong := sorted(names ^ values.keys()):
            problems = ", ".join(f"{'lacks' if name in names else 'has an unknown field'} {name!r}" for name in wrong)
            raise ValueError(
                f"the feature spec of {where} {problems}; a spec has {', '.join(f.name for f in fields(cls))}"
            )
        return cls(**values)

    def check(self, other: "FeatureSpec", whose: str) -> None:
        """Raises ValueError that names the fields in which `other` (of `whose`) differs from this spec."""
        if self != other:
            raise ValueError(
                f"these features were made otherwise than {whose} expects ({self.difference(other)}); "
                "extract them again with the same encoder, or use the model trained on them"
            )

    def difference(self, other: "FeatureSpec") -> str:
        """The fields that differ, each with both values."""
        pairs = [(f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self)]
        return "; ".join(f"{name}: {ours!r} against {theirs!r}" for name, ours, theirs in pairs if ours != theirs)


def weights_hash(tensors: Mapping[str, "Tensor"]) -> str:
    """Hash weights: equal for equal names, types, shapes and values, wherever the tensors lie.

    Args:
        tensors: a state dict.

    Returns:
        The first 16 hexadecimal digits of the SHA-256.

    Example:
        >>> import torch
        >>> weights_hash({"a": torch.zeros(4)}) == weights_hash({"a": torch.zeros(2, 2)})
        False
    """
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
