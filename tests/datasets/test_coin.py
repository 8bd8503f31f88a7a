import gzip
import json

import pytest

from vclip.datasets import coin
from vclip.datasets.coin import Segment, Video

A = {"id": "1", "segment": [0.5, 3.0], "label": "peel"}
B = {"id": "2", "segment": [3.0, 9.0], "label": "cut in half"}


def video(*annotations, subset="testing", **more):
    return {"subset": subset, "annotation": list(annotations)} | more


def write(folder, name=coin.FILE, **videos):
    (folder / name).write_text(json.dumps({"database": videos}))
    return folder


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "annotations" / "coin"


@pytest.fixture(scope="module")
def merged(folder):
    return folder / "COIN.merged.json.gz"


@pytest.fixture(scope="module")
def real(merged):
    return {split: coin.load(merged, split) for split in ("training", "testing")}


def test_real_counts(real):
    everything = [*real["training"], *real["testing"]]
    assert (len(real["training"]), len(real["testing"]), len(everything)) == (8419, 2797, 11216)
    assert sum(len(v.segments) for v in everything) == 43830
    assert len({v.task for v in everything}) == len({v.recipe_type for v in everything}) == 180
    for dataset in real.values():
        assert dataset.labels == list(range(1, 779)) and len(dataset.texts) == 778 and len(set(dataset.texts)) == 749
    inside = sum(s.end - s.start for v in everything for s in v.segments)
    assert round(1 - inside / sum(v.seconds for v in everything), 2) == 0.59
    assert not set(real["training"].video_ids) & set(real["testing"].video_ids)
    assert repr(real["testing"]) == "COIN testing: 2797 records of 2797 videos"


def test_real_texts_are_those_of_another_list(folder, real):
    """ProcedureVRL's list of step names, line n = id n + 1; and one segment looked up by hand."""
    lines = [line.strip() for line in (folder / "step_coin_text.txt").read_text().splitlines() if line.strip()]
    assert [text.strip() for text in real["testing"].texts] == lines
    melon = next(v for v in real["training"] if v.video_id == "-0X2mXPy3Mc")
    assert melon.task == "CutCantaloupe" and melon.segments[1] == Segment(19.0, 92.0, 604)
    assert real["training"].texts[603] == "peel"


def test_real_lists_of_others_are_refused(folder):
    """SCHEMA's copy of the testing videos, a list of one video each."""
    with pytest.raises(ValueError, match=r"coin_valid.json.gz: .*Input should be an object"):
        coin.load(folder / "coin_valid.json.gz")


def test_golden_labels(shared):
    folder = shared / "golden" / "zero_shot" / "coin"
    expected = json.loads((folder / "expected.json").read_text())
    dataset = coin.load(folder)
    # one of them has no features and still names its steps
    assert dataset.texts == expected["label_names"] and dataset.labels == list(range(1, 24))
    assert dataset.video_ids == [*expected["video_order"], "coin_nofeat"]
    assert coin.load(folder, "training").texts == dataset.texts


def test_records(tmp_path):
    write(
        tmp_path,
        v=video(A, B, A, duration=12.5, recipe_type=7, **{"class": "CutMelon"}),
        w=video(),
        x=video({"id": 2, "segment": [1, 2], "label": "cut in half"}, subset="training"),
    )
    testing, training = coin.load(tmp_path), coin.load(tmp_path, "training")
    steps = (Segment(0.5, 3.0, 1), Segment(3.0, 9.0, 2), Segment(0.5, 3.0, 1))
    assert list(testing) == [Video("v", 12.5, "CutMelon", 7, steps), Video("w", None, None, None, ())]
    assert list(training) == [Video("x", None, None, None, (Segment(1, 2, 2),))]
    assert testing.texts == training.texts == ["peel", "cut in half"]
    assert testing.missing({"w"}) == ["v"] and testing.tasks == ("segmentation",)


def test_folder_file_and_gzip_are_the_same(tmp_path):
    plain = list(coin.load(write(tmp_path, v=video(A, B), w=video(B))))
    assert list(coin.load(tmp_path / coin.FILE)) == plain
    packed = tmp_path / "packed"
    packed.mkdir()
    (packed / "COIN.json.gz").write_bytes(gzip.compress((tmp_path / coin.FILE).read_bytes()))
    assert list(coin.load(packed)) == list(coin.load(packed / "COIN.json.gz")) == plain


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"segment": [9, 3]}, r"segment: the second number must not be smaller than the first, not \[9, 3\]"),
        ({"id": "two"}, "id: Input should be a valid integer, .*not 'two'"),
        ({"id": "0"}, "id: Input should be greater than or equal to 1, not '0'"),
        ({"id": 2.5}, "id: Input should be a valid integer, .*not 2.5"),
        ({"label": " "}, "label: String should match pattern .*, not ' '"),
        ("segment", "segment: Field required"),
    ],
)
def test_bad_annotations_are_named(tmp_path, change, error):
    bad = {k: v for k, v in B.items() if k != change} if isinstance(change, str) else B | change
    with pytest.raises(ValueError, match=rf"COIN.json: database.v.annotation.1.{error}") as raised:
        coin.load(write(tmp_path, v=video(A, bad)))
    assert str(tmp_path / coin.FILE) in str(raised.value)


def test_ids_and_their_texts_are_checked(tmp_path):
    pare = A | {"label": "pare"}
    with pytest.raises(ValueError, match="v.annotation.0: the id 1 is 'peel', but the testing videos say 'pare'"):
        coin.load(write(tmp_path, v=video(A, B), w=video(pare)))
    with pytest.raises(ValueError, match="w.annotation.0: the id 1 is 'pare', but the testing videos say 'peel'"):
        coin.load(write(tmp_path, v=video(A, B), w=video(pare, subset="training")), "training")
    with pytest.raises(ValueError, match="w.annotation.1: the id 3 is 'peel', but the testing videos say None"):
        coin.load(write(tmp_path, v=video(A, B), w=video(A, A | {"id": "3"}, subset="training")), "training")
    with pytest.raises(ValueError, match="have 2 step ids, but none is 2"):
        coin.load(write(tmp_path, v=video(A, B | {"id": "999999999"})))


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"{}", "database: Field required"),
        (b"[3]", "Input should be an object"),
        (b'{"database": {"v": {"annotation": []}}}', "database.v.subset: Field required"),
        (b'{"database": ', "Invalid JSON"),
        (b'{"database": {}}', "its testing videos have 0 step ids"),
        (b'{"database": {" ": {"subset": "testing", "annotation": []}}}', "String should match pattern"),
        (b"\x1f\x8bnonsense", "damaged gzip"),
    ],
)
def test_wrong_files_are_named(tmp_path, content, error):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=error) as raised:
        coin.load(tmp_path / "a.json")
    assert str(tmp_path / "a.json") in str(raised.value)


def test_absent_files_and_unknown_splits(tmp_path):
    with pytest.raises(FileNotFoundError, match=coin.FILE):
        coin.load(tmp_path)
    with pytest.raises(ValueError, match="'validation': one of 'testing', 'training'"):
        coin.load(write(tmp_path, v=video(A)), "validation")
