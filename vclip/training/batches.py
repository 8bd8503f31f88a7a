"""Pairs drawn from a corpus as packed batches on the model's device.

Shapes: V videos, B clips, M text rows, T seconds of a clip, F feature size, D hidden size.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float16, Int
from torch import Tensor

from vclip.data.corpus import Corpus
from vclip.data.samplers import Clips, PerClip, Videos, _ranges
from vclip.models.embedding import evaluating
from vclip.models.packing import on_device
from vclip.models.videoclip import VideoCLIPModel


class Batch(NamedTuple):
    """B video clips and M text rows without padding, laid end to end: what `VideoCLIPModel.embed_packed` takes.

    `features` (sum of seconds, F) float16, `seconds` (B,); `ids` (sum of pieces,) int64, rows [CLS] words [SEP],
    `pieces` (M,); text row j belongs to clip `owner[j]` (M,), or None where M = B and row j belongs to clip j.
    """

    features: Float16[np.ndarray, "sum_T F"]
    seconds: PerClip
    ids: Int[np.ndarray, " sum_L"]
    pieces: Int[np.ndarray, " M"]
    owner: Int[np.ndarray, " M"] | None


def pack(
    corpus: Corpus,
    videos: Videos,
    clips: Clips,
    *,
    max_video_tokens: int = 32,
    max_text_tokens: int = 61,
    cls_token_id: int = 101,
    sep_token_id: int = 102,
    separate_captions: bool = False,
) -> Batch:
    """The packed batch of `clips`, drawn from `videos` (V,): the first seconds and the first words up to the limits.

    `videos` is what was given to `sample`. With `separate_captions` every caption of a clip is a text row of its own,
    else a clip's captions are one row. Raises ValueError if the clips are not a whole number for each video.
    """
    given, count = np.atleast_1d(videos), len(clips.video_start)
    if count % max(len(given), 1):
        raise ValueError(f"{count} clips do not come from {len(given)} videos: pass the videos given to `sample`")
    video = np.repeat(given, count // max(len(given), 1))
    ends = np.minimum(clips.video_end, clips.video_start + max_video_tokens)
    features, seconds = corpus.gather_features(video, clips.video_start, ends)
    first, last = (corpus.caption_offsets[video] + c for c in (clips.caption_first, clips.caption_last))
    owner = None
    if separate_captions:
        owner = np.repeat(np.arange(len(video)), last - first)
        first = _ranges(first, last - first)
        last = first + 1
    ids, pieces = _text_rows(corpus, first, last, max_text_tokens, cls_token_id, sep_token_id)
    return Batch(features, seconds, ids, pieces, owner)


def _text_rows(
    corpus: Corpus, first: PerClip, last: PerClip, limit: int, cls_token_id: int, sep_token_id: int
) -> tuple[Int[np.ndarray, " sum_L"], PerClip]:
    """Rows [CLS] words [SEP] of captions `first`:`last` of the corpus, and their lengths."""
    # captions of one video lie end to end, so the words of a text clip are one range
    begin = corpus.piece_offsets[first]
    words = np.minimum(corpus.piece_offsets[last] - begin, limit)
    pieces = words + 2
    row_end = np.cumsum(pieces)
    ids = np.empty(pieces.sum(), dtype=np.int64)
    is_word = np.ones(len(ids), dtype=bool)
    for at, token in ((row_end - pieces, cls_token_id), (row_end - 1, sep_token_id)):
        ids[at], is_word[at] = token, False
    ids[is_word] = corpus.piece_ids[_ranges(begin, words)]
    return ids, pieces


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
    owner = None if batch.owner is None else on_device(torch.from_numpy(batch.owner), model.device)
    return on_device(features, model.device), seconds, on_device(ids, model.device), pieces, owner


def embed_clips(
    model: VideoCLIPModel, corpus: Corpus, videos: np.ndarray, clips: Clips
) -> tuple[np.ndarray, np.ndarray]:
    """z_v and z_t (B, D) float32 of clips that a sampler drew from `videos`."""
    with evaluating(model):
        z_v, z_t = model.embed_packed(*packed_tensors(model, corpus, videos, clips)[:4])
    return z_v.float().cpu().numpy(), z_t.float().cpu().numpy()
