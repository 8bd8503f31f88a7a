"""Sizes of a VideoCLIP model."""

from dataclasses import asdict
from typing import Any, ClassVar

from transformers import BertConfig, PreTrainedConfig

from vclip.data.spec import FeatureSpec


class VideoCLIPVideoConfig(BertConfig):
    """Sizes of the video tower: the first half of bert-base (section 5.3).

    Example:
        >>> VideoCLIPVideoConfig().num_hidden_layers
        6
    """

    model_type = "videoclip_video_model"
    base_config_key = "video_config"
    num_hidden_layers: int = 6


class VideoCLIPTextConfig(BertConfig):
    """Sizes of the text tower: bert-base.

    Example:
        >>> VideoCLIPTextConfig().num_hidden_layers
        12
    """

    model_type = "videoclip_text_model"
    base_config_key = "text_config"


class VideoCLIPConfig(PreTrainedConfig):
    """Sizes of a VideoCLIP model; the defaults are the paper's.

    Args:
        video_config, text_config: sizes of the towers: their own class, a plain BertConfig or a dict.
        video_feature_dim: F, the width of the frozen features.
        max_video_tokens: seconds of the longest clip.
        max_text_tokens: tokens of the longest text, without [CLS] and [SEP].
        share_towers: one tower of `video_config`, 12 layers by default, serves both.
        pooling: "mean" or "cls".
        cls_token_id, sep_token_id: the tokenizer's ids.
        text: "free": a text tower; "locked": none, see `LockedTextModel`, whose video tower is as wide as the features.
        feature_spec: the FeatureSpec, or its dict, of the features that the model was trained on.

    Example:
        >>> config = VideoCLIPConfig()
        >>> config.video_config.num_hidden_layers, config.text_config.num_hidden_layers, config.max_video_tokens
        (6, 12, 32)
    """

    model_type = "videoclip"
    sub_configs: ClassVar[Any] = {"video_config": VideoCLIPVideoConfig, "text_config": VideoCLIPTextConfig}

    video_config: Any = None
    text_config: Any = None
    video_feature_dim: int = 512
    max_video_tokens: int = 32
    max_text_tokens: int = 61
    share_towers: bool = False
    pooling: str = "mean"
    cls_token_id: int = 101
    sep_token_id: int = 102
    feature_spec: Any = None
    text: str = "free"

    def __post_init__(self, **kwargs):
        if self.pooling not in ("mean", "cls"):
            raise ValueError(f'pooling is "mean" or "cls", not {self.pooling!r}')
        locked, width, given = self.text == "locked", self.video_feature_dim, self.text_config
        if self.text not in ("free", "locked") or (locked and (self.pooling != "mean" or self.share_towers)):
            raise ValueError(f'text is "free", or "locked" with mean pooling and separate towers, not {self.text!r}')
        sizes = {"num_hidden_layers": 12 if self.share_towers else 6}
        if locked:  # texts are vectors of the features' width
            given = {"hidden_size": width, "num_attention_heads": max(1, width // 64)}
            sizes |= given | {"intermediate_size": 4 * width}
        self.video_config = _tower(VideoCLIPVideoConfig, self.video_config, **sizes)
        self.text_config = _tower(VideoCLIPTextConfig, self.video_config if self.share_towers else given)
        if given is not None and _sizes(_tower(VideoCLIPTextConfig, given)) != _sizes(self.text_config):
            raise ValueError("with share_towers only video_config counts, but text_config differs: leave it out")
        if (video := self.video_config.hidden_size) != (other := self.text_config.hidden_size):
            raise ValueError(f"z_v and z_t need one width, but hidden_size is {video} for videos and {other} for texts")
        text_positions = self.max_text_tokens + 2 + (self.max_video_tokens + 1 if self.share_towers else 0)
        for name, needed in (("video_config", self.max_video_tokens + 2), ("text_config", text_positions)):
            if (have := getattr(self, name).max_position_embeddings) < needed:
                raise ValueError(f"{name} has {have} positions, but {needed} are needed for these token limits")
        if isinstance(self.feature_spec, FeatureSpec):
            self.feature_spec = asdict(self.feature_spec)
        self.initializer_range = kwargs.pop("initializer_range", self.video_config.initializer_range)
        super().__post_init__(**kwargs)


def _tower(config_class, config, **sizes: int):
    return config_class(**sizes | _sizes(config or {}))


def _sizes(config: BertConfig | dict) -> dict:
    values = config.to_dict() if isinstance(config, BertConfig) else dict(config)
    not_sizes = ("model_type", "architectures", "transformers_version", "dtype", "_name_or_path")
    return {name: value for name, value in values.items() if name not in not_sizes}
