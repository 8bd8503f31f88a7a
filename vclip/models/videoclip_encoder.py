"""VideoCLIP as a dual encoder: n clips or texts, T seconds of a clip, F feature size, D hidden size."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from vclip.data.spec import FeatureSpec, vocabulary_hash, weights_hash
from vclip.encoders.loading import from_spec
from vclip.models.dual_encoder import DualEncoder
from vclip.models.packing import on_device
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.segmenter import VideoCLIPForSegmentation
from vclip.models.videoclip import VideoCLIPModel
from vclip.models.windows import SIZE, merge_windows, sliding_windows

CLIPS_AT_ONCE = 512
WINDOWS_AT_ONCE = 128


class VideoCLIP(DualEncoder):
    """VideoCLIP with its processor as a dual encoder; `vclip.load` makes one from a folder or a hub id.

    Args:
        model, processor: the towers (a `VideoCLIPForSegmentation` also classifies seconds); their tokenizer and limits.

    Example:
        >>> import vclip
        >>> clip = vclip.load(vclip.minihowto() / "checkpoint")
        >>> z_v = clip.encode_clips([np.zeros((5, 128)), np.ones((9, 128))])
        >>> (clip.encode_texts(["chop the carrot"]) @ z_v.T).shape
        (1, 2)
    """

    def __init__(self, model: VideoCLIPModel, processor: VideoCLIPProcessor):
        self.model, self.processor = model, processor
        folder = Path(model.config._name_or_path)
        self.name = f"{folder.parent.name}/{folder.name}" if folder.name in ("best", "last") else folder.name
        spec = model.config.feature_spec
        self.spec = None if spec is None else FeatureSpec.read(spec, "the model")
        self.dim, self.longest_clip = model.config.text_config.hidden_size, model.config.max_video_tokens
        self.tokenizer = processor.tokenizer
        processor.check(model.config)

    def encode_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "n D"]:
        if isinstance(texts, str):
            raise TypeError(f"encode_texts takes a list of sentences: pass [{texts!r}]")
        return self._embed(self.model.embed_texts, self.pack_texts, texts)

    def encode_clips(self, clips: Sequence[np.ndarray]) -> Float32[np.ndarray, "n D"]:
        longest, window = max(SIZE, self.longest_clip), (self.longest_clip, max(1, self.longest_clip // 2))
        spans = [sliding_windows(min(len(clip), longest), *window) or [(0, 0)] for clip in clips]
        cut = [clip[slice(*span)] for clip, of_clip in zip(clips, spans, strict=True) for span in of_clip]
        z_v, counts = self._embed(self.model.embed_videos, self.pack_clips, cut), [len(of_clip) for of_clip in spans]
        if len(cut) == len(clips):
            return z_v
        return np.stack([of_clip.mean(axis=0) for of_clip in np.split(z_v, np.cumsum(counts)[:-1])])

    def _embed(self, embed: Callable, pack: Callable, given: Sequence) -> Float32[np.ndarray, "n D"]:
        out = [torch.zeros(0, self.dim)]
        with evaluating(self.model):
            for first in range(0, len(given), CLIPS_AT_ONCE):
                out.append(embed(*pack(given[first : first + CLIPS_AT_ONCE])).float().cpu())
        return torch.cat(out).numpy()

    def pack_texts(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """`ids` and `text_lengths` for `embed_texts`."""
        rows = self.processor(text=list(texts))
        mask = rows["attention_mask"].bool()
        return rows["input_ids"][mask].to(self.model.device), mask.sum(dim=1)

    def pack_clips(self, clips: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
        """`features` and `video_lengths` for `embed_videos`."""
        cut = [np.asarray(clip[: self.longest_clip]) for clip in clips]
        features = torch.from_numpy(np.concatenate(cut))  # a copy: torch warns of maps it cannot write to
        return features.to(self.model.device), torch.tensor([len(clip) for clip in cut])

    def encode_seconds(self, clips: Sequence[np.ndarray], moments: bool = False) -> list[Float32[np.ndarray, "T D"]]:
        if moments and self.longest_clip >= SIZE:
            cut = [clip[: self.longest_clip] for clip in clips]
            return self._states(cut, attend_cls=True, padding="max_length")
        clips = [clip[:SIZE] for clip in clips] if moments else clips
        windows = [sliding_windows(len(clip), *self.window) for clip in clips]
        cut = [clip[slice(*span)] for clip, spans in zip(clips, windows, strict=True) for span in spans]
        states = iter(self._states(cut, attend_cls=False))
        nothing = np.zeros((0, self.dim), np.float32)
        return [merge_windows([next(states) for _ in spans], spans) if spans else nothing for spans in windows]

    def _states(self, clips: list[np.ndarray], attend_cls: bool, padding: str = "longest") -> list[np.ndarray]:
        """h_v of clips within `longest_clip`, and padding behind them."""
        states = []
        with evaluating(self.model):
            for first in range(0, len(clips), WINDOWS_AT_ONCE):
                rows = self.processor(videos=clips[first : first + WINDOWS_AT_ONCE], padding=padding)
                rows = {name: on_device(row, self.model.device) for name, row in rows.items()}
                h_v: Any = self.model.get_video_features(**rows, attend_cls=attend_cls).last_hidden_state
                states.extend(h_v.float().cpu().numpy())
        return states

    @property
    def identity(self) -> dict[str, Any]:
        config = self.model.config
        names = ("pooling", "max_video_tokens", "max_text_tokens", "cls_token_id", "sep_token_id")
        towers = {"video tower": config.video_config, "text tower": config.text_config}
        shape = ("num_attention_heads", "hidden_act", "layer_norm_eps")
        return {
            "weights": weights_hash(self.model.state_dict()),
            "vocabulary": vocabulary_hash(self.processor.tokenizer),
            **{name: getattr(config, name) for name in names},
            **{which: [getattr(tower, name) for name in shape] for which, tower in towers.items()},
        }

    @cached_property
    def encoder(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The frozen encoder that the model's config names; its files lie in the model's folder or the one above."""
        if self.spec is None:
            raise ValueError("the model's config names no feature_spec: set `encoder` to the one it was trained on")
        return from_spec(self.spec, self.model.name_or_path)

    @property
    def classes(self) -> list[str] | None:
        if not isinstance(self.model, VideoCLIPForSegmentation):
            return None
        names: Any = self.model.config.id2label
        return [names[i] for i in range(len(names))]

    def class_logits(self, h_v: Float32[np.ndarray, "T D"]) -> np.ndarray:
        """Logits (T, classes) of seconds, in float64; h_v may be means over windows, since logits are linear in it."""
        model: Any = self.model
        if self.classes is None:
            raise NotImplementedError(f"{self.name} has no classifier of seconds")
        with evaluating(model):
            rows = torch.from_numpy(h_v).to(model.device, model.dtype)
            return model.classifier(rows).double().cpu().numpy()


@contextmanager
def evaluating(model: VideoCLIPModel) -> Iterator[None]:
    """Without dropout and gradients; the model's mode is put back."""
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(training)
