import pytest
from transformers import BertConfig

from vclip.models.config import VideoCLIPConfig, VideoCLIPTextConfig, VideoCLIPVideoConfig

import corpora


def test_default_config_is_the_papers():
    config = VideoCLIPConfig()
    assert (config.video_config.num_hidden_layers, config.text_config.num_hidden_layers) == (6, 12)
    assert VideoCLIPConfig(share_towers=True).video_config.num_hidden_layers == 12
    assert config.video_config.hidden_size == config.text_config.hidden_size == 768
    plain = VideoCLIPConfig(video_config=BertConfig(num_hidden_layers=3), text_config={"num_hidden_layers": 4})
    assert isinstance(plain.video_config, VideoCLIPVideoConfig)
    assert (plain.video_config.num_hidden_layers, plain.text_config.num_hidden_layers) == (3, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pooling": "max"}, "'max'"),
        ({"text": "lokced"}, "not 'lokced'"),
        ({"text": "locked", "pooling": "cls"}, "with mean pooling"),
        ({"share_towers": True, "text_config": {"num_hidden_layers": 3}}, "text_config differs"),
        ({"max_text_tokens": 600}, "512 positions, but 602"),
        ({"text_config": {"hidden_size": 36}}, "one width, but hidden_size is 768 for videos and 36 for texts"),
    ],
)
def test_wrong_configs_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        VideoCLIPConfig(**arguments)


def test_a_spec_becomes_the_dict_that_its_file_holds(tmp_path):
    given = VideoCLIPConfig(
        feature_spec=corpora.spec(), video_config=BertConfig(**corpora.TOWER), text_config=corpora.TOWER
    )
    given.save_pretrained(tmp_path)
    again = VideoCLIPConfig.from_pretrained(tmp_path)
    assert again.feature_spec == given.feature_spec == vars(corpora.spec())
    assert isinstance(again.text_config, VideoCLIPTextConfig) and again.video_config.hidden_size == 32
    assert again.to_dict() == given.to_dict()
