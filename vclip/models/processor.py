"""Texts and features of clips -> padded tensors for VideoCLIPModel."""

import numpy as np
import torch
from transformers import BatchFeature, PreTrainedTokenizerBase, ProcessorMixin

from vclip.models.config import VideoCLIPConfig


class VideoCLIPProcessor(ProcessorMixin):
    """Turn texts and clips' features into the padded tensors that VideoCLIPModel takes.

    Args:
        tokenizer: a Hugging Face tokenizer with [CLS] and [SEP].
        max_text_tokens: tokens of the longest text, without [CLS] and [SEP]; longer ones are cut.
        max_video_tokens: seconds of the longest clip; of a longer one the first are taken, as in the released code.

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
            text, videos: one or a list; a video is an array (T, F), with the same F for all.
            return_tensors: "pt" or "np".
            kwargs: of the tokenizer; `padding="max_length"` pads clips too, to max_video_tokens.
        """
        values: dict = {}
        if text is not None:
            text = [text] if isinstance(text, str) else text
            limits = {"padding": True, "truncation": True, "max_length": self.max_text_tokens + 2}
            rows = self.tokenizer(text, return_token_type_ids=False, **(limits | kwargs))
            values |= {name: rows[name] for name in ("input_ids", "attention_mask")}
        if videos is not None:
            one = isinstance(videos, np.ndarray | torch.Tensor) and videos.ndim == 2
            clips = [np.asarray(clip)[: self.max_video_tokens] for clip in ([videos] if one else videos)]
            if len(widths := {clip.shape[1:] for clip in clips}) != 1:
                raise ValueError(f"clips must be (seconds, features) of one width, got {widths}")
            longest = max(1, *(len(clip) for clip in clips))
            seconds = self.max_video_tokens if kwargs.get("padding") == "max_length" else longest
            features = np.zeros((len(clips), seconds, *widths.pop()), np.float32)
            mask = np.zeros((len(clips), seconds), np.int64)
            for row, clip in enumerate(clips):
                features[row, : len(clip)], mask[row, : len(clip)] = clip, 1
            values |= {"video_features": features, "video_mask": mask}
        return BatchFeature(values, tensor_type=return_tensors)

    def check(self, config: VideoCLIPConfig) -> None:
        """Refuse tokens that a model of `config` has no rows for, and other special ids than its own."""
        if config.text == "locked":  # texts are a dual encoder's
            return
        words, known = len(self.tokenizer), config.text_config.vocab_size
        theirs, ours = ((of.cls_token_id, of.sep_token_id) for of in (self.tokenizer, config))
        if words > known or theirs != ours:
            has = f"the tokenizer has {words} tokens and (cls_token_id, sep_token_id) {theirs}"
            raise ValueError(f"{has}, but the model's vocab_size is {known} and its ids are {ours}: take its tokenizer")
