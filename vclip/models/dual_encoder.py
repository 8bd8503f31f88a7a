"""Dual encoders, as tasks and search use them: n clips or texts, T seconds of a clip, F feature size, D hidden size."""

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from vclip.data.corpus import Corpus
from vclip.data.extraction import encode_file
from vclip.data.spec import FeatureSpec
from vclip.datasets.minihowto import FOLDER, PROJECTION_HASH
from vclip.models.windows import SIZE, STRIDE


class DualEncoder(ABC):
    """A model that embeds clips and sentences in one space; their similarity is the dot product.

    A clip is an array (T, F) of features that `encoder` made, one row a second. A model whose own similarity is the
    cosine returns vectors of length 1.

    Attributes:
        name: what reports call it.
        spec: the `FeatureSpec` of the features it takes; None accepts any.
        encoder: the frozen encoder that makes a second's features from its frames.
        dim, longest_clip: D, the size of its vectors; seconds it reads at once.
        tokenizer: of its texts; None where it is not known.
        classes: names of those that a fine-tuned classifier gives a second, Outside first; None without one.

    Example:
        >>> import vclip
        >>> clip = vclip.load(vclip.minihowto() / "checkpoint")
        >>> isinstance(clip, DualEncoder), clip.dim, clip.longest_clip
        (True, 128, 10)
    """

    name: str
    spec: FeatureSpec | None
    encoder: Any
    dim: int
    longest_clip: int
    tokenizer: Any = None
    classes: Any = None
    class_logits: Any = None
    warned = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, {self.dim} wide, windows of {self.window[0]} s)"

    @abstractmethod
    def encode_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n D"]:
        """Embed sentences: z_t (n, D)."""

    @abstractmethod
    def encode_clips(self, clips: Sequence[np.ndarray]) -> Float32[np.ndarray, "n D"]:
        """Embed clips (T, F): z_v (n, D).

        A clip is cut to its first `longest_clip` seconds, or, where that is less than the paper's 32 s, to 32 s whose
        overlapping windows are embedded and averaged.
        """

    @abstractmethod
    def encode_seconds(self, clips: Sequence[np.ndarray], moments: bool = False) -> list[Float32[np.ndarray, "T D"]]:
        """Embed every second of clips (T, F) of any length: a list of h_v (T, D).

        As in the released segmentation and localization: windows of `window`, averaged where they overlap, with [CLS]
        hidden as a key.

        Args:
            moments: as in the released DiDeMo code: the first `longest_clip` seconds with [CLS], padded with zeros to
                (longest_clip, D), padded rows included; a model whose `longest_clip` is below 32 s takes the windows of
                the first 32 s instead.
        """

    @property
    @abstractmethod
    def identity(self) -> dict[str, Any]:
        """All that decides the vectors: two encoders of equal identity embed alike."""

    @property
    def window(self) -> tuple[int, int]:
        """Seconds of a window and between two windows' starts: the paper's 32 and 16, or what `longest_clip` allows."""
        size = min(SIZE, self.longest_clip)
        return size, max(1, min(STRIDE, size // 2))

    def warn_out_of_domain(self, source: str | Path) -> None:
        """Say once, before other videos are encoded, that a model of MiniHowTo's features knows its cartoons alone."""
        known = self.spec is not None and self.spec.projection == PROJECTION_HASH
        if known and not self.warned and FOLDER not in Path(source).resolve().parents:
            self.warned = True
            hint = "knows MiniHowTo's cartoons alone: for others take vclip.load('offline')"
            warnings.warn(f"{self.name} {hint}", stacklevel=4)

    def check(self, corpus: Corpus) -> None:
        """Raise a ValueError that names the fields in which a corpus's FeatureSpec differs from `spec`."""
        if self.spec is not None and corpus.spec is not None:
            corpus.spec.check(self.spec, "the model")

    def encode_video(self, path: str | Path, start: float = 0, end: float | None = None) -> Float32[np.ndarray, "T D"]:
        """Embed every second of a video file, or those from `start` to `end`: h_v (T, D), to be compared with z_t.

        A damaged file gives the seconds that can be decoded, with a warning; ValueError if there are none.
        """
        if not 0 <= start < (start + 1 if end is None else end) < math.inf:
            raise ValueError(f"{path}: {start} to {end} s is no clip: pass 0 <= start < end")
        self.warn_out_of_domain(path)
        features, error = encode_file(Path(path), self.encoder, int(start), None if end is None else math.ceil(end))
        if features is None:
            raise ValueError(f"{path}: {error}")
        if error:
            warnings.warn(f"{path}: {error}", stacklevel=2)
        return self.encode_seconds([features])[0]

    def index(self, source: Any, path: str | Path | None = None) -> Any:
        """Index folders of videos, or a corpus, for search: see `MomentIndex.build`."""
        import vclip

        return vclip.MomentIndex.build(self, source, path=path)
