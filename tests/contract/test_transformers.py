"""transformers' common model tests on our classes; what is skipped, and why, is in skipped.py."""

import unittest
from pathlib import Path

import pytest
import torch

from vclip.models.config import VideoCLIPConfig
from vclip.models.segmenter import VideoCLIPForSegmentation
from vclip.models.videoclip import VideoCLIPModel

import corpora
import source
from skipped import SKIPPED, TWO_TOWERS

ROOT = Path(__file__).resolve().parents[2]
common = source.common_tests(ROOT / ".pytest_cache")
pytestmark = pytest.mark.contract


def less_flaky(config, function=common.set_config_for_less_flaky_test):
    """Also of the video tower, which transformers does not know by name."""
    function(config)
    function(config.video_config)


common.set_config_for_less_flaky_test = less_flaky


class Sizes:
    """What the common tests ask of a `model_tester`: a small config and inputs for it."""

    batch_size, seq_length, seconds, is_training = 3, 7, 5, True
    num_hidden_layers, hidden_size, num_attention_heads = 2, corpora.TOWER["hidden_size"], 2

    def __init__(self, share_towers: bool = False, labels: bool = False):
        self.share_towers, self.labels = share_towers, labels
        if labels:  # of the one tower that these outputs are of
            self.seq_length = self.seconds + 2

    def get_config(self) -> VideoCLIPConfig:
        towers = {"video_config": corpora.TOWER} | ({} if self.share_towers else {"text_config": corpora.TOWER})
        return VideoCLIPConfig(**towers, share_towers=self.share_towers, video_feature_dim=16, num_labels=4)

    def prepare_config_and_inputs_for_common(self):
        video = {
            "video_features": torch.randn(self.batch_size, self.seconds, 16),
            "video_mask": torch.ones(self.batch_size, self.seconds, dtype=torch.long),
        }
        text = {
            "input_ids": torch.randint(103, 200, (self.batch_size, self.seq_length)),
            "attention_mask": torch.ones(self.batch_size, self.seq_length, dtype=torch.long),
        }
        return self.get_config(), video if self.labels else text | video


class Common(common.ModelTesterMixin):
    _is_composite = True
    test_can_init_all_missing_weights_before_2023 = True
    skip_test_video_features_output_shape = True  # it looks for pixels; the shape is tested in test_model.py
    additional_model_inputs = ("video_features", "video_mask")


class VideoCLIPModelTest(Common, unittest.TestCase):
    all_model_classes = (VideoCLIPModel,)

    def setUp(self):
        if self._testMethodName in TWO_TOWERS:
            self.skipTest(SKIPPED[self._testMethodName])
        self.model_tester = Sizes()

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        return super()._prepare_for_class(inputs_dict, model_class) | ({"return_loss": True} if return_labels else {})


class VideoCLIPSharedModelTest(VideoCLIPModelTest):
    def setUp(self):
        super().setUp()
        self.model_tester = Sizes(share_towers=True)


class VideoCLIPForSegmentationTest(Common, unittest.TestCase):
    all_model_classes = (VideoCLIPForSegmentation,)
    test_all_params_have_gradient = False  # the text tower is not used
    test_resize_embeddings = False  # it takes no words

    def setUp(self):
        self.model_tester = Sizes(labels=True)

    def _prepare_for_class(self, inputs_dict, model_class, return_labels=False):
        labels = torch.zeros(Sizes.batch_size, Sizes.seconds, dtype=torch.long)
        return super()._prepare_for_class(inputs_dict, model_class) | ({"labels": labels} if return_labels else {})

    def _text_features_prepare_config_and_inputs(self):
        config, inputs = Sizes().prepare_config_and_inputs_for_common()
        return config, {name: inputs[name] for name in ("input_ids", "attention_mask")}


del Common
