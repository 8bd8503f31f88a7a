import json

import pytest

from vclip.notebook import read_rows

STEP = {"what": "a step", "ours_s": 1.5e-05, "ratio": 2, "rate": "1,058.5 GFLOP/s", "note": "none", "limit": None}
ROWS = [STEP | {"difference": "-0.5 s"}]


def write(path, content) -> str:
    path.write_text(json.dumps(content))
    return str(path)


def test_rows_are_found_by_name(tmp_path):
    rows = read_rows(write(tmp_path / "a.json", {"machine": {"cores": 2}, "rows": ROWS}))
    assert rows.machine == {"cores": 2} and list(rows) == ["a step"]
    names = ("ours_s", "ratio", "rate", "difference")
    assert [rows.value("a step", name) for name in names] == [1.5e-05, 2.0, 1058.5, -0.5]


@pytest.mark.parametrize("name", ["plain_s", "note", "limit"])
def test_what_is_missing_is_named(tmp_path, name):
    rows = read_rows(write(tmp_path / "a.json", {"machine": {}, "rows": ROWS}))
    with pytest.raises(ValueError, match=f"a.json has no figure '{name}' in row 'a step': measure it again with"):
        rows.value("a step", name)
    with pytest.raises(ValueError, match=f"a.json has no figure '{name}' in row 'a leap': measure"):
        rows.value("a leap", name)


def test_the_rows_that_ship_can_be_read():
    rows = read_rows()
    assert rows.machine["cores"] and all(row["ratio"] > 0 for row in rows.values())
