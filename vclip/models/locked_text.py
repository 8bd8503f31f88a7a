"""VideoCLIP's video tower on a frozen dual encoder, its text side locked: B clips, S seconds of all, D = F."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor
from torch.nn import functional as F

from vclip.data.spec import FeatureSpec
from vclip.encoders.networks import EFFICIENTNET_LITE0, S3D_G
from vclip.models.hub import unit
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.videoclip import VideoCLIPModel
from vclip.models.videoclip_encoder import VideoCLIP


class LockedTextModel(VideoCLIPModel):
    """h_v = x + tower(x), x a second's unit feature; z_v is the mean of a clip's h_v, made a unit vector.

    A tower whose last LayerNorm is 0 adds nothing: the model is then the dual encoder averaged over time. In packed
    calls a text is one row, its vector by `encode_texts`, in place of ids; padded calls are not for this model.
    """

    encode_texts: Callable[[Sequence[str]], np.ndarray]  # the dual encoder's, set by `LockedText`

    def embed_seconds(self, features: Float[Tensor, "S F"], video_lengths: Int[Tensor, " B"]) -> Float[Tensor, "S D"]:
        """The h_v of clips laid end to end."""
        x = F.normalize(features.to(self.dtype), dim=-1)
        states, _, second = self.video_states(x, video_lengths)
        # [CLS] and [SEP] go to the two rows behind all seconds
        return F.pad(x, (0, 0, 0, 2)).index_add(0, second, states.to(x.dtype))[:-2]

    def embed_videos(self, features: Float[Tensor, "S F"], video_lengths: Int[Tensor, " B"]) -> Float[Tensor, "B D"]:
        h_v, lengths = self.embed_seconds(features, video_lengths), video_lengths.to(features.device)
        return F.normalize(torch.segment_reduce(h_v, "sum", lengths=lengths, unsafe=True), dim=-1)

    def embed_texts(self, ids: Float[Tensor, "M D"], text_lengths: Int[Tensor, " M"]) -> Float[Tensor, "M D"]:
        return ids


class LockedText(VideoCLIP):
    """A `LockedTextModel` with the dual encoder, `base`, that its feature_spec names.

    A clip of any length is the mean of its seconds, which see each other in windows of `longest_clip`.
    """

    def __init__(self, model: LockedTextModel):
        import vclip

        given = model.config.feature_spec
        spec = FeatureSpec.read(given, "the model") if given else None
        if spec is None or spec.projection is not None or spec.encoder in (EFFICIENTNET_LITE0, S3D_G):
            raise ValueError(f"a locked text needs the features of a dual encoder's own encoder, not those of {spec}")
        self.base: Any = vclip.load(spec.encoder, spec.fps, spec.size)
        spec.check(self.base.spec, f"the {spec.encoder} found here")
        super().__init__(model, VideoCLIPProcessor(self.base.tokenizer, max_video_tokens=model.config.max_video_tokens))
        self.encoder, self.encode_texts = self.base.encoder, self.base.encode_texts
        model.encode_texts = self.encode_texts

    def encode_clips(self, clips: Sequence[np.ndarray]) -> Float32[np.ndarray, "n D"]:
        z_v = [unit(h_v.sum(axis=0)) for h_v in super().encode_seconds(clips)]
        return np.array(z_v, np.float32).reshape(-1, self.dim)

    def encode_seconds(self, clips: Sequence[np.ndarray], moments: bool = False) -> list[np.ndarray]:
        return [unit(h_v) for h_v in super().encode_seconds(clips, moments)]

    def _states(self, clips: list[np.ndarray], *args, **kwargs) -> list[np.ndarray]:
        h_v = self._embed(self.model.embed_seconds, self.pack_clips, clips)  # pyright: ignore[reportArgumentType]
        return np.split(h_v, np.cumsum([len(clip) for clip in clips])[:-1])

    @property
    def identity(self) -> dict[str, Any]:
        return super().identity | {"base": self.base.identity}
