"""Clips of a corpus -> tensors -> z_v and z_t.

Shapes: B clips, M text rows (B, or one a candidate caption), D hidden size.
"""

import numpy as np
import torch
from torch import Tensor

from vclip.corpus import Corpus
from vclip.model import VideoCLIPModel
from vclip.samplers import Clips, pack


def packed_tensors(
    model: VideoCLIPModel, corpus: Corpus, videos: np.ndarray, clips: Clips, separate_captions: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """The packed batch of `clips` drawn from `videos`: features, seconds, ids, pieces, owner for `embed_packed`.

    Rows lie on the model's device; lengths stay on the CPU, where the packing is planned.
    """
    config = model.config
    batch = pack(
        corpus,
        videos,
        clips,
        max_video_tokens=config.max_video_tokens,
        max_text_tokens=config.max_text_tokens,
        cls_token_id=config.cls_token_id,
        sep_token_id=config.sep_token_id,
        separate_captions=separate_captions,
    )
    features, seconds, ids, pieces = (torch.from_numpy(array) for array in batch[:4])
    owner = None if batch.owner is None else torch.from_numpy(batch.owner).to(model.device)
    return features.to(model.device), seconds, ids.to(model.device), pieces, owner


@torch.inference_mode()
def embed_clips(
    model: VideoCLIPModel, corpus: Corpus, videos: np.ndarray, clips: Clips
) -> tuple[np.ndarray, np.ndarray]:
    """z_v and z_t (B, D) float32 of clips drawn from `videos`, without dropout."""
    training = model.training
    model.eval()
    z_v, z_t = model.embed_packed(*packed_tensors(model, corpus, videos, clips)[:4])
    model.train(training)
    return z_v.float().cpu().numpy(), z_t.float().cpu().numpy()
