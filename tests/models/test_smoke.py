import numpy as np
import pytest
import torch

from vclip.models.config import VideoCLIPConfig
from vclip.models.convert import smoke_scores
from vclip.models.videoclip import VideoCLIPModel

import corpora


def model() -> VideoCLIPModel:
    torch.manual_seed(0)
    towers = {"video_config": corpora.TOWER, "text_config": corpora.TOWER}
    return VideoCLIPModel(VideoCLIPConfig(**towers, video_feature_dim=16)).eval()


def test_the_smoke_scores_tell_a_working_model_from_broken_ones():
    working, broken = model(), model()
    scores = list(smoke_scores(working, working).values())
    assert scores[0] == 0 and scores[1] > 0.8
    with pytest.raises(ValueError, match="does not reproduce"):
        broken.video_mlp.linear1.bias.data += 1
        smoke_scores(working, broken)
    with pytest.raises(ValueError, match="does not reproduce"):
        broken.video_mlp.linear1.bias.data[:] = np.nan
        smoke_scores(broken, broken)
    for tower in working.towers:  # all inputs alike
        tower.embeddings.LayerNorm.weight.data.zero_()
    assert list(smoke_scores(working, working).values())[1] < 0.1
