"""Texts and features of clips -> padded tensors for VideoCLIPModel."""

import numpy as np
import torch
from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin


class VideoCLIPProcessor(ProcessorMixin):
    """Turn texts and clips' features into the padded tensors that VideoCLIPModel takes.

    Texts become rows [CLS] words [SEP] [PAD] of at most max_text_tokens + 2 ids. Clips are cut to their first
    max_video_tokens seconds, as in the released code.

    Args:
        tokenizer: a Hugging Face tokenizer with [CLS] and [SEP].
        max_text_tokens: tokens of the longest text, without [CLS] and [SEP].
        max_video_tokens: seconds of the longest clip.

    Example:
        >>> import vclip
        >>> processor = VideoCLIPProcessor.from_pretrained(vclip.minihowto() / "checkpoint")
        >>> batch = processor(text=["peel the carrot", "wait"], videos=[np.zeros((3, 128)), np.zeros((5, 128))])
        >>> tuple(batch["video_features"].shape), batch["video_mask"].tolist()
        ((2, 5, 128), [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_text_tokens: int = 61, max_video_tokens: int = 32):
        super().__init__(tokenizer)
        self.max_text_tokens = max_text_tokens
        self.max_video_tokens = max_video_tokens

    def __call__(self, text: str | list[str] | None = None, videos=None, return_tensors: str = "pt", **kwargs):
        """Make `input_ids` and `attention_mask` (B, L) of texts, `video_features` (B, T, F) and `video_mask` of clips.

        Args:
            text: one text or a list.
            videos: one array (T, F) or a list of arrays of one width F.
            return_tensors: "pt" or "np".

        Raises:
            ValueError: if neither is given, a list is empty, or a clip is not (T, F).
        """
        if text is None and videos is None or isinstance(text, list) and not text:
            raise ValueError("give text, videos or both, at least one of each")
        values: dict = {}
        if text is not None:
            limits = {"padding": True, "truncation": True, "max_length": self.max_text_tokens + 2}
            rows = self.tokenizer(
                [text] if isinstance(text, str) else text, return_token_type_ids=False, **(limits | kwargs)
            )
            values |= {name: rows[name] for name in ("input_ids", "attention_mask")}
        if videos is not None:
            values |= self._pad(videos)
        return BatchFeature(values, tensor_type=return_tensors)

    def _pad(self, videos) -> dict:
        clips = [np.asarray(video)[: self.max_video_tokens] for video in ([videos] if _is_clip(videos) else videos)]
        widths = {clip.shape[1:] for clip in clips}
        if len(widths) != 1 or len(next(iter(widths))) != 1:
            raise ValueError(f"videos are (seconds, features) of one width, not {[clip.shape for clip in clips][:8]}")
        seconds = max(1, *(len(clip) for clip in clips))
        features = np.zeros((len(clips), seconds, *widths.pop()), np.float32)
        mask = np.zeros((len(clips), seconds), np.int64)
        for row, clip in enumerate(clips):
            features[row, : len(clip)], mask[row, : len(clip)] = clip, 1
        return {"video_features": features, "video_mask": mask}

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", "attention_mask", "video_features", "video_mask"]


def _is_clip(videos) -> bool:
    return isinstance(videos, np.ndarray | torch.Tensor) and videos.ndim == 2
