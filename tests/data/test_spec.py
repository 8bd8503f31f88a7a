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


@pytest.mark.parametrize("values", [None, [1], "spec", 3])
def test_what_is_no_dict_is_refused(values):
    with pytest.raises(ValueError, match=r"the feature spec of x lacks .*'dim'"):
        FeatureSpec.read(values, "x")


@pytest.mark.parametrize(("name", "value"), [("dim", "8"), ("fps", 1.5), ("encoder", None), ("projection", 5)])
def test_a_field_of_another_type_is_named(name, value):
    with pytest.raises(ValueError, match=f"the feature spec of x has the {name} {value!r}"):
        FeatureSpec.read(dataclasses.asdict(corpora.spec()) | {name: value}, "x")
