"""The video MLP, and BERT without pooler: B clips, L packed or padded rows of a clip, F feature size, D hidden size."""

import copy
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import BertConfig
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.bert.modeling_bert import BertEmbeddings, BertEncoder, BertLayer, BertPreTrainedModel
from transformers.utils.output_capturing import capture_outputs

from vclip.models.config import VideoCLIPConfig
from vclip.models.packing import PackedSelfAttention, Packing


class VideoMLP(nn.Module):
    """A second's feature (F) -> (D), the layers and eps 1e-5 as in mmpt/modules/mm.py; the paper has a single layer."""

    def __init__(self, config: VideoCLIPConfig):
        super().__init__()
        hidden_size = config.video_config.hidden_size
        self.linear1 = nn.Linear(config.video_feature_dim, hidden_size)
        self.activation = nn.GELU()
        self.layer_norm = nn.LayerNorm(hidden_size, eps=1e-5)
        self.linear2 = nn.Linear(hidden_size, hidden_size)

    def forward(self, video_features: Float[Tensor, "*clips F"]) -> Float[Tensor, "*clips D"]:
        width, expected = video_features.shape[-1], self.linear1.in_features
        if width != expected:
            raise ValueError(f"features are {width} wide, but video_feature_dim is {expected}")
        return self.linear2(self.layer_norm(self.activation(self.linear1(video_features))))


class Tower(BertPreTrainedModel):
    """BERT without pooler; `words` is the number of rows of its word table."""

    _no_split_modules = ["Tower"]
    _can_record_outputs: ClassVar[Any] = {"hidden_states": BertLayer, "attentions": PackedSelfAttention}

    def __init__(self, config: BertConfig, words: int):
        super().__init__(config)
        table = copy.deepcopy(config)
        # row 0 is [PAD] only in a full table; in the two-row table of the video tower it is [CLS] and must learn
        table.vocab_size, table.pad_token_id = words, config.pad_token_id if words == config.vocab_size else None
        self.embeddings = BertEmbeddings(table)
        self.encoder = BertEncoder(config)
        for layer in self.encoder.layer:
            attention: Any = layer.attention
            attention.self = PackedSelfAttention(config)
        self.post_init()

    @capture_outputs
    def forward(
        self,
        position_ids: Int[Tensor, "b L"],
        token_type_ids: Int[Tensor, "b L"],
        attention_mask: Int[Tensor, "B L"] | Bool[Tensor, "B L"] | None = None,
        input_ids: Int[Tensor, "B _"] | None = None,
        inputs_embeds: Float[Tensor, "B _ D"] | None = None,
        packing: Packing | None = None,
        **kwargs,
    ) -> BaseModelOutput:
        """Rows are the words `input_ids`, or `inputs_embeds`; with both, the latter behind the first word."""
        rows = inputs_embeds
        if input_ids is not None:
            words = self.embeddings.word_embeddings(input_ids)
            # the tower looks up its words itself, for its weights may lie on another device than what it is given
            rows = words if rows is None else torch.cat([words[:, :1], rows.to(words.dtype), words[:, 1:]], dim=1)
        rows = self.embeddings(inputs_embeds=rows, position_ids=position_ids, token_type_ids=token_type_ids)
        if packing is None:
            kwargs["attention_mask"] = create_bidirectional_mask(self.config, rows, attention_mask)
        else:
            kwargs["packing"] = packing
        return BaseModelOutput(last_hidden_state=self.encoder(rows, **kwargs).last_hidden_state)
