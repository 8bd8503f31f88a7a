import pytest

from vclip.data.text import printable, refuse_unknown


def test_the_first_unknown_name_is_refused_with_the_nearest_known():
    with pytest.raises(TypeError, match="unknown field 'epoch': did you mean 'epochs'. There are: epochs, seed"):
        refuse_unknown(["seed", "epoch", "sead"], ["seed", "epochs"], "field")
    with pytest.raises(TypeError, match="did you mean"):  # however far away
        refuse_unknown(["zzz"], ["seed", "epochs"], "field")
    refuse_unknown(["seed"], {"seed": 1, "epochs": 2}, "field")
    refuse_unknown([], [], "field")


def test_names_are_made_fit_for_utf8():
    assert printable("caf\xe9 \U0001f600") == "caf\xe9 \U0001f600" and printable("d\udcff \ud83d") == "d\\udcff \\ud83d"
