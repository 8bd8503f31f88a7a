"""What an index depends on besides the files: the model, its vocabulary and the encoder.

T seconds and W windows of a video, F feature size, D hidden size, m texts.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from vclip.data.corpus import vocabulary_hash
from vclip.data.spec import FeatureSpec, weights_hash
from vclip.models.dual_encoder import VideoCLIP
from vclip.models.embedding import embed_texts, embed_videos
from vclip.models.windows import SIZE, STRIDE, sliding_windows

PROJECTION = "projection.safetensors"
SAMPLED = 64  # values of a weight, at least, that a fingerprint looks at


def made_by(model, processor, encoder) -> dict:
    """What tells one index from another, by name. Raises ValueError if encoder and model do not fit."""
    config, expected = model.config, _expected(model)
    spec = expected if encoder is None else encoder.spec
    if spec is None:
        raise ValueError("the model's config names no feature_spec: give the encoder that its features were made with")
    if expected is not None:
        spec.check(expected, "the model")
    if spec.dim != config.video_feature_dim:
        raise ValueError(f"the encoder makes features of dim {spec.dim}, the model takes {config.video_feature_dim}")
    names = ("pooling", "max_video_tokens", "max_text_tokens")
    return asdict(spec) | {
        "model weights": weights_hash(model.state_dict()),
        "vocabulary": vocabulary_hash(processor.tokenizer),
        **{f"model {name}": getattr(config, name) for name in names},
    }


def fingerprint(model) -> str:
    """Hash of some values of every weight, spread over it: by it each search notices that the weights have changed.

    The hash of all values, which `made_by` takes, would cost more than the search; PyTorch's counter of changes does
    not see those through `.data`. A change of a few values only may escape.
    """
    weights = [w.detach() for w in model.state_dict().values()]
    some = [w.reshape(-1)[:: max(1, w.numel() // SAMPLED)].to(model.device, torch.float32) for w in weights]
    return hashlib.sha256(torch.cat(some).cpu().numpy().tobytes()).hexdigest()


def named_encoder(model):
    """The encoder that the model's config names.

    A projection's matrix lies in the checkpoint's folder, beside it, or in the repository on the hub that the model
    was loaded from. Raises what `vclip.encoders.loading.from_spec` raises.
    """
    from vclip.encoders.loading import from_spec

    spec, checkpoint = _expected(model), Path(model.name_or_path)
    assert spec is not None  # `made_by` has refused a model without
    places = [folder for folder in (checkpoint, checkpoint.parent) if (folder / PROJECTION).is_file()]
    if spec.projection is not None and not places and not checkpoint.is_dir():
        places = _on_the_hub(model)
    return from_spec(spec, next(iter(places), checkpoint))


def _expected(model) -> FeatureSpec | None:
    spec = model.config.feature_spec
    return FeatureSpec.read(spec, "the model") if isinstance(spec, dict) else spec


def _on_the_hub(model) -> list[Path]:
    """The folder of the hub's cache that holds the matrix of the model's own revision, fetched if need be."""
    from transformers.utils.hub import cached_file

    try:
        file = cached_file(model.name_or_path, PROJECTION, revision=getattr(model.config, "_commit_hash", None))
    except (OSError, ValueError):
        return []
    return [] if file is None else [Path(file).parent]


def index_name(model, processor, folder, encoder=None) -> str:
    """A name for the index of `folder` by this model, for where many are kept together: no other model, encoder or
    folder has the same. Raises what `made_by` raises."""
    of = made_by(model, processor, encoder) | {"folder": str(Path(folder).resolve())}
    return f"index-{hashlib.sha256(repr(of).encode()).hexdigest()[:8]}"


def sizes(model) -> tuple[int, int]:
    """Seconds of a window and between two: the paper's 32 and 16, less for a model that takes less."""
    size = min(SIZE, model.config.max_video_tokens)
    return size, max(1, min(STRIDE, size // 2))


def embed_sentences(model, processor, texts: Sequence[str]) -> np.ndarray:
    """z_t (m, D) float32. Raises ValueError that names the text of which the model makes NaN or infinity."""
    z_t = embed_texts(model, processor, texts)
    if len(bad := np.flatnonzero(~np.isfinite(z_t).all(1))):
        why = "its weights are damaged, or its precision is too low"
        raise ValueError(f"the model makes NaN or infinity of the text {texts[bad[0]]!r}: {why}")
    return z_t


def embed_windows(model, videos: list[np.ndarray]) -> list[np.ndarray]:
    """z_v (W, D) float32 of the windows of each video's features (T, F)."""
    spans = [sliding_windows(len(features), *sizes(model)) for features in videos]
    clips = [features[slice(*span)] for features, windows in zip(videos, spans, strict=True) for span in windows]
    return np.split(embed_videos(model, clips), np.cumsum([len(windows) for windows in spans])[:-1])


def embed_each_second(model, clips: list[np.ndarray]) -> list[np.ndarray]:
    """h_v (T, D) float32 of each clip (T, F)."""
    return VideoCLIP(model, None).encode_seconds([clip.astype(np.float32) for clip in clips])
