"""How the features of a corpus were made."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

PROJECTION = "projection.safetensors"  # the file of the matrix that a spec names, beside features and models


@dataclass(frozen=True)
class FeatureSpec:
    """How the features of a corpus were made; features of two specs never mix.

    Args:
        encoder, weights: name of the network, and hash of its weights.
        fps, size, crop, normalisation: frames a second, pixels a side, and what is done to a frame.
        pooling: what is done to a second's frames: "none" (the network sees the second whole), "mean", "mean+std".
        projection: hash of the matrix that the features were multiplied with, or None.
        dim: numbers that come out.

    Example:
        >>> import vclip
        >>> spec = vclip.Corpus.open(vclip.minihowto() / "val").spec
        >>> spec.encoder, spec.fps, spec.size, spec.dim
        ('efficientnet-lite0', 3, 128, 128)
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
    def read(cls, values: Any, where) -> "FeatureSpec":
        """Make a spec from a dict of all fields, read from `where`."""
        names = [f.name for f in fields(cls)]
        values = values if isinstance(values, dict) else {}
        if wrong := sorted(set(names) ^ values.keys()):
            problems = ", ".join(f"{'lacks' if name in names else 'has an unknown field'} {name!r}" for name in wrong)
            raise ValueError(f"the feature spec of {where} {problems}; a spec has {', '.join(names)}")
        if bad := [f"{f.name} {values[f.name]!r}" for f in fields(cls) if not isinstance(values[f.name], f.type)]:  # pyright: ignore
            raise ValueError(f"the feature spec of {where} has the {bad[0]}, of another type: copy its file again")
        return cls(**values)

    def check(self, other: "FeatureSpec", whose: str) -> None:
        """Raise ValueError that names the fields in which `other` (of `whose`) differs from this spec."""
        if difference := self.difference(other):
            problem = f"these features are not those that {whose} expects ({difference})"
            raise ValueError(f"{problem}: extract them again with clip.encoder, or use the model trained on them")

    def difference(self, other: "FeatureSpec") -> str:
        pairs = [(f.name, getattr(self, f.name), getattr(other, f.name)) for f in fields(self)]
        return "; ".join(f"{name}: {ours!r} against {theirs!r}" for name, ours, theirs in pairs if ours != theirs)


def weights_hash(tensors: Mapping[str, "Tensor"]) -> str:
    """First 16 hex digits of the SHA-256 of a state dict's names, types, shapes and values."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def vocabulary_hash(tokenizer) -> str:
    """First 16 hex digits of the SHA-256 of a tokenizer's vocabulary, whatever its name or folder."""
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()), ensure_ascii=True)
    return hashlib.sha256(vocabulary.encode()).hexdigest()[:16]
