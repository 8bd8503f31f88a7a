import pytest

from vclip.names import refuse_unknown


def test_the_first_unknown_name_is_refused_with_the_nearest_known():
    with pytest.raises(TypeError, match="unknown field 'epoch': did you mean 'epochs'. There are: epochs, seed"):
        refuse_unknown(["seed", "epoch", "sead"], ["seed", "epochs"], "field")
    with pytest.raises(TypeError, match="did you mean"):  # however far away
        refuse_unknown(["zzz"], ["seed", "epochs"], "field")
    refuse_unknown(["seed"], {"seed": 1, "epochs": 2}, "field")
    refuse_unknown([], [], "field")
