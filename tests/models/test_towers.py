import math

import torch

from vclip.models.config import VideoCLIPConfig
from vclip.models.videoclip import Tower, VideoMLP

import corpora


def config() -> VideoCLIPConfig:
    return VideoCLIPConfig(video_config=corpora.TOWER, text_config=corpora.TOWER, video_feature_dim=5)


def test_the_video_mlp_is_gelu_before_a_layer_norm_of_eps_1e_5():
    torch.manual_seed(0)
    mlp = VideoMLP(config())
    torch.nn.init.normal_(mlp.layer_norm.weight)
    torch.nn.init.zeros_(mlp.linear1.bias)
    x = torch.randn(7, 5) * 1e-3  # so small that eps matters
    h = x @ mlp.linear1.weight.T
    h = h * (1 + torch.erf(h / math.sqrt(2))) / 2
    h = (h - h.mean(-1, keepdim=True)) / (h.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
    h = h * mlp.layer_norm.weight + mlp.layer_norm.bias
    torch.testing.assert_close(mlp(x), h @ mlp.linear2.weight.T + mlp.linear2.bias)


def test_a_table_of_two_rows_has_no_padding_row_and_a_full_one_has():
    video, text = (Tower(config().video_config, words=n) for n in (2, corpora.TOWER["vocab_size"]))
    assert video.embeddings.word_embeddings.weight.shape == (2, 32)
    assert (video.embeddings.word_embeddings.padding_idx, text.embeddings.word_embeddings.padding_idx) == (None, 0)
    assert video.config.vocab_size == 200  # the config given is left alone
