import dataclasses

import pytest

from vclip.data.spec import FeatureSpec

import corpora


def test_every_differing_field_is_named_with_both_values():
    spec = corpora.spec()
    spec.check(corpora.spec(), "the model")
    with pytest.raises(
        ValueError, match=r"that the model expects \(fps: 1 against 2; pooling: 'none' against 'mean'\)"
    ):
        spec.check(corpora.spec(fps=2, pooling="mean"), "the model")


def test_from_a_dict_of_all_fields_and_no_others():
    values = dataclasses.asdict(corpora.spec())
    assert FeatureSpec.read(values, "x") == corpora.spec()
    del values["fps"]
    with pytest.raises(ValueError, match="the feature spec of config.json lacks 'fps', has an unknown field 'fpss'"):
        FeatureSpec.read(values | {"fpss": 3}, "config.json")
