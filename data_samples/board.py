"""Dual encoders on the boards of mteb, whose MVEB seeks clips of YouCook2, MSR-VTT and DiDeMo by a sentence."""

from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import numpy as np

from vclip.data.extraction import encode_file
from vclip.models.dual_encoder import DualEncoder

try:
    from datasets import Video
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ModelMeta, ScoringFunction
except ImportError as error:
    raise ImportError("mteb is missing: pip install 'vclip[mteb]'") from error


class BoardModel(AbsEncoder):
    """A dual encoder for `mteb.evaluate(BoardModel(clip), tasks)`; video files are read as `extract` reads them.

    Example:
        >>> import vclip
        >>> BoardModel(vclip.load(vclip.minihowto() / "checkpoint")).mteb_model_meta.name
        'vclip/checkpoint'
    """

    def __init__(self, clip: DualEncoder):
        facts = {"name": f"vclip/{Path(clip.name).name}", "similarity_fn_name": ScoringFunction.DOT_PRODUCT}
        self.clip, self.mteb_model_meta = clip, ModelMeta.create_empty(facts | {"modalities": ["text", "video"]})

    def encode(self, inputs: Any, **task: Any) -> np.ndarray:
        """Embed the rows behind mteb's loader: their videos, or else their texts."""
        rows, clips = inputs.dataset, []
        if "video" not in rows.column_names:
            return self.clip.encode_texts(list(rows["text"]))
        for video in rows.cast_column("video", Video(decode=False))["video"]:
            with NamedTemporaryFile() as copy:  # the hub's videos are bytes in a table
                Path(copy.name).write_bytes(video["bytes"] or b"")
                file = Path(copy.name if video["bytes"] else video["path"])
                features, problem = encode_file(file, self.clip.encoder)
            if features is None:
                raise ValueError(f"video {video['path']}: {problem}")
            clips.append(features)
        return self.clip.encode_clips(clips)
