"""VideoCLIP's two BERTs: B clips of T seconds (F features), M texts of L tokens with [CLS] and [SEP], hidden size D."""

import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Unpack

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, AutoProcessor, BertConfig, PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPooling
from transformers.models.bert.modeling_bert import BertEmbeddings, BertEncoder, BertLayer, BertPreTrainedModel
from transformers.utils.generic import ModelOutput, TransformersKwargs, can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from vclip.losses import info_nce
from vclip.models.config import VideoCLIPConfig
from vclip.models.packing import PackedSelfAttention, Packing
from vclip.models.processor import VideoCLIPProcessor


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


@dataclass
class VideoCLIPOutput(ModelOutput):
    """Embeddings of B pairs; the logits are the plain dot products of z_v and z_t (section 3.1).

    Example:
        >>> VideoCLIPOutput(video_embeds=torch.zeros(1, 2)).to_tuple()
        (tensor([[0., 0.]]),)
    """

    loss: Tensor | None = None
    logits_per_video: Tensor | None = None
    logits_per_text: Tensor | None = None
    video_embeds: Tensor | None = None
    text_embeds: Tensor | None = None
    video_model_output: BaseModelOutputWithPooling | None = None
    text_model_output: BaseModelOutputWithPooling | None = None

    def to_tuple(self) -> tuple:
        return tuple(value.to_tuple() if isinstance(value, ModelOutput) else value for value in self.values())


class VideoCLIPModel(BertPreTrainedModel):
    """Two BERT towers whose averaged states are z_v and z_t (section 3.1, eq. 1 to 3; mmpt/models/mmfusion.py).

    The video tower reads [CLS] v_1 .. v_T [SEP], with [SEP] at position max_video_tokens + 1 whatever T is; the text
    tower reads [CLS] w_1 .. w_m [SEP]. Mean pooling leaves out [CLS] and keeps [SEP]; "cls" pooling takes [CLS] alone.
    With shared towers, text positions follow the video's and text token types are 1 (MMFusionShare).

    Args:
        config: sizes; `VideoCLIPConfig()` is the paper's model.

    Example:
        >>> tower = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
        >>> model = VideoCLIPModel(VideoCLIPConfig(video_config=tower, text_config=tower, video_feature_dim=4)).eval()
        >>> out = model(torch.tensor([[101, 7, 102]]), torch.zeros(1, 5, 4), return_loss=True)
        >>> out.video_embeds.shape, out.loss.item()  # one pair has no negatives
        (torch.Size([1, 8]), 0.0)
    """

    config: VideoCLIPConfig
    base_model_prefix = "videoclip"
    input_modalities = ["video", "text"]
    # a tower is at most 440 MB, and looks up [CLS] and [SEP] in its own table
    _no_split_modules = ["Tower", "VideoMLP"]

    def __init__(self, config: VideoCLIPConfig):
        super().__init__(config)
        self.video_mlp = VideoMLP(config)
        shared, locked = config.share_towers, config.text == "locked"
        self.video_model = Tower(config.video_config, words=config.video_config.vocab_size if shared else 2)
        self.text_model = None if shared or locked else Tower(config.text_config, words=config.text_config.vocab_size)
        self.post_init()

    @classmethod
    def from_bert(cls, name_or_path, **config) -> "VideoCLIPModel":
        """Start both towers from a BERT (section 5.3), the video MLP from scratch.

        Args:
            name_or_path: a hub id, a folder, or a BertModel; the video tower takes its first layers (6 unless
                `video_config` says otherwise; all when shared) and the [CLS] and [SEP] rows of its word table.
            config: arguments of VideoCLIPConfig that differ from its defaults.
        """
        bert = name_or_path
        if not isinstance(bert, PreTrainedModel):
            bert = AutoModel.from_pretrained(name_or_path, trust_remote_code=False)
        if bert.config.model_type != "bert":
            raise ValueError(f"{name_or_path} is a {bert.config.model_type!r} model, not a BERT")
        layers = bert.config.num_hidden_layers if config.get("share_towers") else min(6, bert.config.num_hidden_layers)
        video_config = bert.config.to_dict() | {"num_hidden_layers": layers}
        model = cls(VideoCLIPConfig(**{"video_config": video_config, "text_config": bert.config} | config))
        for tower in model.towers:
            weights = {k: v for k, v in bert.state_dict().items() if k in tower.state_dict()}
            if missing := sorted(tower.state_dict().keys() - weights.keys()):
                raise ValueError(f"the BERT lacks {missing[0]} and more: choose a tower no deeper than it")
            if tower is model.video_model and not model.config.share_towers:
                special = [model.config.cls_token_id, model.config.sep_token_id]
                weights["embeddings.word_embeddings.weight"] = weights["embeddings.word_embeddings.weight"][special]
            tower.load_state_dict(weights)
        return model

    @property
    def towers(self) -> list[Tower]:
        """The video tower and, unless shared, the text tower."""
        return [self.video_model] if self.text_model is None else [self.video_model, self.text_model]

    def get_input_embeddings(self) -> nn.Embedding:
        return self.towers[-1].embeddings.word_embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.towers[-1].embeddings.word_embeddings = value

    def resize_token_embeddings(self, *args, **kwargs) -> nn.Embedding:
        table = super().resize_token_embeddings(*args, **kwargs)
        if self.config.share_towers:
            self.config.video_config.vocab_size = self.config.text_config.vocab_size
        return table

    @can_return_tuple
    def get_video_features(
        self,
        video_features: Float[Tensor, "B T F"],
        video_mask: Int[Tensor, "B T"] | Bool[Tensor, "B T"] | None = None,
        attend_cls: bool = True,
        **kwargs,
    ) -> BaseModelOutputWithPooling:
        """Embed clips: `pooler_output` z_v (B, D), and `last_hidden_state` h_v (B, T, D) without [CLS] and [SEP].

        Args:
            video_features: frozen features, one row a second.
            video_mask: 0 or False at padded seconds, which are no keys and count in no mean; their rows of h_v hold the
                state of a zero feature that attends to the valid keys.
            attend_cls: False hides [CLS] as a key, as the released segmentation and localization do.
        """
        b, t, _ = video_features.shape
        if t > self.config.max_video_tokens:
            raise ValueError(f"{t} seconds a clip exceed max_video_tokens ({self.config.max_video_tokens}): cut them")
        if video_mask is None:
            video_mask = torch.ones(b, t, device=video_features.device)
        seconds = self.video_mlp(video_features.to(self.dtype))
        special = torch.tensor([self._special_ids], device=seconds.device).expand(b, -1)
        positions = torch.arange(t + 2, device=seconds.device)[None]
        positions[:, -1] = self.config.max_video_tokens + 1
        keys = F.pad(video_mask.bool(), (1, 1), value=True)
        keys[:, 0] = attend_cls
        types = torch.zeros_like(positions)
        output = self.video_model(positions, types, keys, special, seconds, return_dict=True, **kwargs)
        return self._pooled(output, keys[:, 1:], slice(1, -1))

    @can_return_tuple
    def get_text_features(
        self,
        input_ids: Int[Tensor, "B L"],
        attention_mask: Int[Tensor, "B L"] | Bool[Tensor, "B L"] | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPooling:
        """Embed texts: `pooler_output` z_t (B, D), and `last_hidden_state` h_t (B, L, D) with all positions.

        Args:
            input_ids, attention_mask: rows [CLS] words [SEP] [PAD], an empty text [CLS] [SEP]; 0 at [PAD].
        """
        if not 2 <= input_ids.shape[1] <= self.config.max_text_tokens + 2:
            limit = f"max_text_tokens + 2 ({self.config.max_text_tokens + 2})"
            raise ValueError(f"texts have {input_ids.shape[1]} tokens, not 2 to {limit}: take them from the processor")
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        elif not attention_mask[:, 1:].any(dim=1).all():
            raise ValueError("a row of attention_mask is 0 everywhere after [CLS]: [SEP] at least must count")
        positions, types = self._text_positions(torch.arange(input_ids.shape[1], device=input_ids.device)[None])
        output = self.towers[-1](positions, types, attention_mask, input_ids, return_dict=True, **kwargs)
        return self._pooled(output, attention_mask[:, 1:].bool(), slice(None))

    @can_return_tuple
    def forward(
        self,
        input_ids: Int[Tensor, "B L"],
        video_features: Float[Tensor, "B T F"],
        attention_mask: Int[Tensor, "B L"] | Bool[Tensor, "B L"] | None = None,
        video_mask: Int[Tensor, "B T"] | Bool[Tensor, "B T"] | None = None,
        return_loss: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> VideoCLIPOutput:
        """Embed B pairs; `loss` is `info_nce(z_v, z_t)` if `return_loss`."""
        video = self.get_video_features(video_features, video_mask, return_dict=True, **kwargs)
        text = self.get_text_features(input_ids, attention_mask, return_dict=True, **kwargs)
        z_v, z_t = video.pooler_output, text.pooler_output
        assert z_v is not None and z_t is not None
        z_t = z_t.to(z_v.device)
        logits_per_video = z_v @ z_t.T
        return VideoCLIPOutput(
            loss=info_nce(z_v, z_t) if return_loss else None,
            logits_per_video=logits_per_video,
            logits_per_text=logits_per_video.T,
            video_embeds=z_v,
            text_embeds=z_t,
            video_model_output=video,
            text_model_output=text,
        )

    def embed_packed(
        self,
        features: Float[Tensor, "sum_T F"],
        video_lengths: Int[Tensor, " B"],
        ids: Int[Tensor, " sum_L"] | Float[Tensor, "sum_L D"],
        text_lengths: Int[Tensor, " M"],
    ) -> tuple[Float[Tensor, "B D"], Float[Tensor, "M D"]]:
        """Embed clips and texts laid end to end, without padding: z_v (B, D) and z_t (M, D) as of the padded calls.

        Args:
            features, video_lengths: the rows of all clips; seconds of each clip.
            ids, text_lengths: the tokens of all texts, each [CLS] words [SEP]; tokens of each text.
        """
        return self.embed_videos(features, video_lengths), self.embed_texts(ids, text_lengths)

    def embed_videos(
        self, features: Float[Tensor, "sum_T F"], video_lengths: Int[Tensor, " B"]
    ) -> Float[Tensor, "B D"]:
        """The z_v of `embed_packed`."""
        states, packing, _ = self.video_states(features, video_lengths)
        return packing.pool(states, self.config.pooling)

    def video_states(self, features: Tensor, video_lengths: Tensor) -> tuple[Float[Tensor, "S D"], Packing, Tensor]:
        """The video tower's packed states, and the row of `features` of each; [CLS] and [SEP] are rows behind them."""
        limit = self.config.max_video_tokens
        _check_lengths("video_lengths", video_lengths, len(features), 0, limit)
        packing = Packing(video_lengths + 2, features.device)
        within = packing.within
        last = within == packing.length - 1
        # each clip is [CLS] seconds [SEP]: where a packed row lies among all seconds, then [CLS], then [SEP]
        source = torch.where(last, len(features) + 1, packing.given - 2 * packing.clip - 1)
        source = torch.where(within == 0, len(features), source)
        table = self.video_model.embeddings.word_embeddings.weight
        cls, sep = (table[i : i + 1] for i in self._special_ids)
        rows = torch.cat([self.video_mlp(features.to(table.dtype)), cls, sep])[source]
        positions = torch.where(last, limit + 1, within)
        types = torch.zeros_like(positions)
        states = self.video_model(positions[None], types[None], inputs_embeds=rows[None], packing=packing)
        return states.last_hidden_state[0], packing, source

    def embed_texts(self, ids: Int[Tensor, " sum_L"], text_lengths: Int[Tensor, " M"]) -> Float[Tensor, "M D"]:
        """The z_t of `embed_packed`."""
        _check_lengths("text_lengths", text_lengths, len(ids), 2, self.config.max_text_tokens + 2)
        packing = Packing(text_lengths, ids.device)
        positions, types = self._text_positions(packing.within[None])
        states = self.towers[-1](positions, types, input_ids=ids[packing.given][None], packing=packing)
        return packing.pool(states.last_hidden_state[0], self.config.pooling)

    @property
    def _special_ids(self) -> tuple[int, int]:
        """The rows of [CLS] and [SEP] in the video tower's word table."""
        return (self.config.cls_token_id, self.config.sep_token_id) if self.config.share_towers else (0, 1)

    def _text_positions(self, within: Tensor) -> tuple[Tensor, Tensor]:
        """Position and token type of the token at place `within` of its row."""
        if self.text_model is not None:
            return within, torch.zeros_like(within)
        behind = (within > 0).long()
        return within + behind * (self.config.max_video_tokens + 1), behind

    def _pooled(
        self, output: BaseModelOutput, behind_cls: Bool[Tensor, "B K"], rows: slice
    ) -> BaseModelOutputWithPooling:
        """A tower's output with z beside it and of h the `rows` that count; `hidden_states` keep all."""
        states = output.last_hidden_state
        assert states is not None
        if self.config.pooling == "cls":
            pooled = states[:, 0]
        else:
            weight = behind_cls[..., None].to(states)
            pooled = (states[:, 1:] * weight).sum(dim=1) / weight.sum(dim=1)
        return BaseModelOutputWithPooling(
            last_hidden_state=states[:, rows],
            pooler_output=pooled,
            hidden_states=output.hidden_states,
            attentions=output.attentions,
        )


def _check_lengths(name: str, lengths: Tensor, rows: int, least: int, most: int) -> None:
    if not len(lengths) or int(lengths.sum()) != rows or int(lengths.min()) < least or int(lengths.max()) > most:
        raise ValueError(f"`{name}` must lie between {least} and {most} and sum to {rows}, got {lengths.tolist()}")


# what the Auto classes of transformers need to load a checkpoint folder
AutoConfig.register(VideoCLIPConfig.model_type, VideoCLIPConfig)
AutoModel.register(VideoCLIPConfig, VideoCLIPModel)
AutoProcessor.register(VideoCLIPConfig, VideoCLIPProcessor)
