"""Supervised action segmentation (COIN): B clips, T seconds, F feature size, K labels from 1; 0 = Outside."""

from typing import Unpack

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForTokenClassification
from transformers.modeling_outputs import TokenClassifierOutput
from transformers.utils.generic import TransformersKwargs, can_return_tuple

from vclip.models.config import VideoCLIPConfig
from vclip.models.videoclip import VideoCLIPModel


class VideoCLIPForSegmentation(VideoCLIPModel):
    """VideoCLIP with a linear layer over each second's state (MMPT mmfusion.py:791, transformermodel.py).

    Args:
        config: as for VideoCLIPModel, the text tower, which is not used here, included; `num_labels` is K + 1.

    Example:
        >>> import torch
        >>> tower = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
        >>> config = VideoCLIPConfig(video_config=tower, text_config=tower, video_feature_dim=4, num_labels=3)
        >>> VideoCLIPForSegmentation(config)(torch.zeros(1, 5, 4)).logits.shape
        torch.Size([1, 5, 3])
    """

    main_input_name = "video_features"
    _keys_to_ignore_on_load_missing = [r"classifier\."]  # a pre-trained model has none: fine-tuning begins so

    def __init__(self, config: VideoCLIPConfig):
        super().__init__(config)
        self.classifier = nn.Linear(config.video_config.hidden_size, config.num_labels)  # pyright: ignore[reportArgumentType]
        self.post_init()

    @can_return_tuple
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        video_features: Float[Tensor, "B T F"],
        video_mask: Int[Tensor, "B T"] | Bool[Tensor, "B T"] | None = None,
        labels: Int[Tensor, "B T"] | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> TokenClassifierOutput:
        """Return `logits` (B, T, K + 1) and `loss`, the mean cross-entropy over seconds whose label is not -100.

        [CLS] is hidden as a key, as in the released code.
        """
        video = self.get_video_features(video_features, video_mask, attend_cls=False, return_dict=True, **kwargs)
        logits = self.classifier(video.last_hidden_state)
        return TokenClassifierOutput(
            loss=None if labels is None else F.cross_entropy(logits.flatten(0, 1), labels.flatten().long()),
            logits=logits,
            hidden_states=video.hidden_states,
            attentions=video.attentions,
        )


AutoModelForTokenClassification.register(VideoCLIPConfig, VideoCLIPForSegmentation)
