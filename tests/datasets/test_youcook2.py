import csv
import gzip
import json
import os
import pickle

import pytest

from vclip.datasets import youcook2
from vclip.datasets.youcook2 import Clip


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "annotations" / "youcook2"


def release(folder, annotations, **video):
    """A folder with one validation video."""
    video = {"subset": "validation", "recipe_type": "113", "annotations": annotations} | video
    (folder / youcook2.FILE).write_text(json.dumps({"database": {"a_b": video}}))
    return folder


STEPS = [
    {"id": 0, "segment": [3, 9], "sentence": "chop the onion"},
    {"id": 1, "segment": [9, 40], "sentence": "fry it"},
    {"id": 2, "segment": [9, 40], "sentence": "stir it"},
]


def test_real_counts(folder):
    training, validation = (youcook2.load(folder, split) for split in ("training", "validation"))
    assert (len(training), len(training.video_ids)) == (10337, 1333)
    assert (len(validation), len(validation.video_ids)) == (3492, 457)
    assert len({clip.recipe_type for clip in [*training, *validation]}) == 89
    assert not set(training.video_ids) & set(validation.video_ids)
    assert repr(validation) == "YouCook2 validation: 3492 records of 457 videos"


def test_real_values_are_those_of_another_copy(folder):
    """PDVC's copy of the validation annotations agrees, clip by clip."""
    other = json.loads((folder / "yc2_val.json").read_text())
    expected = [
        (video.removeprefix("v_"), start, end, " ".join(sentence.split()))
        for video, data in other.items()
        for (start, end), sentence in zip(data["timestamps"], data["sentences"], strict=True)
    ]
    got = [(c.video_id, c.start, c.end, " ".join(c.sentence.split())) for c in youcook2.load(folder)]
    assert sorted(got) == sorted(expected)


def test_real_retrieval_list(folder):
    file = folder / "validation_youcook.csv"
    clips = youcook2.load(folder / "youcookii_annotations_trainval.json.gz", clips=file)
    with file.open() as lines:
        rows = list(csv.DictReader(lines))
    assert len(clips) == 3350 and len(clips.video_ids) == 436
    assert len({(clip.video_id, clip.index) for clip in clips}) == 3350
    for clip, row in zip(clips, rows, strict=True):
        assert (clip.video_id, clip.start, clip.end) == (row["video_id"], int(row["start"]), int(row["end"]))
        assert clip.sentence.strip() == clip.caption.strip() == row["text"].strip()
    with pytest.raises(ValueError, match=r"row 1: the training split .* has no clip \(47, 60\) of video 'xHr8X2Wpmno'"):
        youcook2.load(folder, "training", clips=file)


def test_golden_records(shared, tmp_path):
    folder = shared / "golden" / "zero_shot" / "youcook"
    records = json.loads((folder / "youcook_val_records.json").read_text())
    (tmp_path / "youcook_val.pkl").write_bytes(pickle.dumps(records))
    clips = youcook2.load(folder, clips=tmp_path / "youcook_val.pkl")
    known = [record for record in records if not record["id"].startswith("missing_vid_")]
    assert len(known) == len(records) - 1 and clips.left_out == ["missing_vid"]
    assert repr(clips).endswith("videos, 1 listed left out")
    assert [f"{clip.video_id}_{clip.index}" for clip in clips] == [record["id"] for record in known]
    assert [clip.caption for clip in clips] == [record["caption"] for record in known]
    database = json.loads((folder / youcook2.FILE).read_text())["database"]
    for clip in clips:
        annotation = database[clip.video_id]["annotations"][clip.index]
        assert [clip.start, clip.end, clip.sentence] == [*annotation["segment"], annotation["sentence"]]
        assert clip.recipe_type is None


def test_a_sequence_with_what_is_missing(tmp_path):
    clips = youcook2.load(release(tmp_path, STEPS))
    assert clips[1] == Clip("a_b", 1, 9, 40, "fry it", "113")
    assert clips[-2:] == list(clips)[1:] and len(clips) == 3
    assert clips.missing(set()) == ["a_b"] and clips.missing({"a_b", "c"}) == clips.missing({"a_b": 1}) == []
    assert len(youcook2.load(tmp_path, "training")) == 0


def test_folder_file_and_gzip_are_the_same(tmp_path):
    plain = list(youcook2.load(release(tmp_path, STEPS)))
    assert list(youcook2.load(tmp_path / youcook2.FILE)) == plain
    packed = tmp_path / "packed"
    packed.mkdir()
    (packed / f"{youcook2.FILE}.gz").write_bytes(gzip.compress((tmp_path / youcook2.FILE).read_bytes()))
    assert list(youcook2.load(packed)) == plain


def test_clips_that_share_a_segment_are_told_apart(tmp_path):
    (tmp_path / "list.csv").write_text("end,start,task,text,video_id\n40,9,1,fry,a_b\n40,9,1,stir,a_b\n")
    clips = youcook2.load(release(tmp_path, STEPS), clips=tmp_path / "list.csv")
    assert [(clip.index, clip.caption) for clip in clips] == [(1, "fry"), (2, "stir")]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"segment": [9, 3]}, "segment: the second number must not be smaller than the first"),
        ({"segment": [-1, 3]}, "segment.0: Input should be greater than or equal to 0, not -1"),
        ({"segment": [1.5, 3]}, "segment.0: Input should be a valid integer, .*not 1.5"),
        ({"sentence": " "}, "sentence: String should match pattern"),
        ("segment", "segment: Field required"),
    ],
)
def test_bad_annotations_are_named(tmp_path, change, error):
    bad = {k: v for k, v in STEPS[1].items() if k != change} if isinstance(change, str) else STEPS[1] | change
    with pytest.raises(ValueError, match=rf"json: database.a_b.annotations.1.{error}") as raised:
        youcook2.load(release(tmp_path, [STEPS[0], bad]))
    assert str(tmp_path / youcook2.FILE) in str(raised.value)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"{}", "database: Field required"),
        (b'{"database": []}', "database: Input should be "),
        (b'{"database": {"v": {"annotations": []}}}', "database.v.subset: Field required"),
        (b'{"database": ', "Invalid JSON"),
        (b"\x1f\x8bnonsense", "damaged gzip"),
        (b'{\n"\xff', "line 2: byte 0xff is not UTF-8"),
    ],
)
def test_wrong_files_are_named(tmp_path, content, error):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=error) as raised:
        youcook2.load(tmp_path / "a.json")
    assert str(tmp_path / "a.json") in str(raised.value)


def test_absent_files_and_unknown_splits(tmp_path):
    with pytest.raises(FileNotFoundError, match=youcook2.FILE):
        youcook2.load(tmp_path)
    with pytest.raises(ValueError, match="'testing': one of 'training', 'validation'"):
        youcook2.load(release(tmp_path, STEPS), "testing")


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ([{"id": "a_b_0", "caption": "x"}, {"id": "a_b_7", "caption": "x"}], "row 2: .*no clip 7 of video 'a_b'"),
        ([{"id": "a_b_x", "caption": "x"}], "0.id: String should match pattern .*'a_b_x'"),
        ([{"id": "3", "caption": "x"}], "0.id: String should match pattern .*'3'"),
        ([{"caption": "x"}], "0.id: Field required"),
        (["a_b_0"], "0: Input should be "),
    ],
)
def test_bad_pickled_lists_are_named(tmp_path, rows, error):
    (tmp_path / "list.pkl").write_bytes(pickle.dumps(rows))
    with pytest.raises(ValueError, match=error) as raised:
        youcook2.load(release(tmp_path, STEPS), clips=tmp_path / "list.pkl")
    assert str(tmp_path / "list.pkl") in str(raised.value)


def test_a_pickled_list_can_be_gzipped(tmp_path):
    content = pickle.dumps([{"id": "a_b_1", "caption": "fry"}])
    for name, data in (
        ("list.pkl", content),
        ("list.pkl.gz", gzip.compress(content)),
        ("a.pkl", gzip.compress(content)),
    ):
        (tmp_path / name).write_bytes(data)
        clips = youcook2.load(release(tmp_path, STEPS), clips=tmp_path / name)
        assert [(clip.index, clip.caption) for clip in clips] == [(1, "fry")]
    (tmp_path / "list.pkl.gz").write_bytes(gzip.compress(content)[:-9])
    with pytest.raises(ValueError, match=r"list\.pkl\.gz is a damaged gzip file"):
        youcook2.load(tmp_path, clips=tmp_path / "list.pkl.gz")


def test_a_hostile_list_is_not_executed(tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'BEACON'}",)

    (tmp_path / "list.pkl").write_bytes(pickle.dumps([{"id": Hostile()}]))
    with pytest.raises(ValueError, match=r"list.pkl .* 'posix.system'"):
        youcook2.load(release(tmp_path, STEPS), clips=tmp_path / "list.pkl")
    assert not (tmp_path / "BEACON").exists()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("video_id,start,end\na_b,3,9\n", "no column 'text'"),
        ("video_id,start,end,text\na_b,3,9,x\na_b,3,x,y\n", "row 2: end: Input should be a valid integer, .*'x'"),
        ("video_id,start,end,text\na_b,3,9,a, b\n", "row 1: 5 fields in place of 4"),
        ("video_id,start,end,text\na_b,3,9, \n", "row 1: text: String should match pattern"),
    ],
)
def test_bad_csv_lists_are_named(tmp_path, content, error):
    (tmp_path / "list.csv").write_text(content)
    with pytest.raises(ValueError, match=error) as raised:
        youcook2.load(release(tmp_path, STEPS), clips=tmp_path / "list.csv")
    assert str(tmp_path / "list.csv") in str(raised.value)
