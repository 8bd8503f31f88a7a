import csv
import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vclip.datasets import msrvtt
from vclip.datasets.msrvtt import Clip, Question, Video

MC = "key\tvid_key\ta1\ta2\ta3\tanswer\n"


@pytest.fixture(scope="module")
def folder(shared):
    return shared / "annotations" / "msrvtt"


def write(folder, name, content):
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return folder / name


def test_real_retrieval_test(folder):
    clips = msrvtt.load(folder)
    assert (len(clips), len(clips.video_ids), clips.tasks) == (1000, 1000, ("retrieval",))
    assert clips[0] == Clip("video9770", "a person is connecting something to system")
    with (folder / "MSRVTT_JSFUSION_test.csv").open() as lines:
        assert [(clip.video_id, clip.sentence) for clip in clips] == [
            tuple(row)[2:] for row in list(csv.reader(lines))[1:]
        ]
    assert repr(clips) == "MSR-VTT test: 1000 records of 1000 videos"


@pytest.mark.parametrize(
    ("split", "n"),
    [("train.9k", 9000), ("train.7k", 7010), ("train.full", 6513), ("val.full", 497), ("test.full", 2990)],
)
def test_real_lists(folder, split, n):
    videos = msrvtt.load(folder, split=split)
    assert (len(videos), len(videos.video_ids), videos.tasks, videos.left_out) == (n, n, (), [])
    assert all(isinstance(video, Video) for video in videos)
    assert list(msrvtt.load(folder / f"MSRVTT_{split}.csv", split)) == list(videos)


def test_real_lists_do_not_meet(folder):
    train, val, test = (set(msrvtt.load(folder, f"{part}.full").video_ids) for part in ("train", "val", "test"))
    assert len(train | val | test) == 10000
    retrieval, train_9k = set(msrvtt.load(folder).video_ids), set(msrvtt.load(folder, "train.9k").video_ids)
    assert retrieval <= test and not retrieval & train_9k


def test_golden_questions(shared):
    folder = shared / "golden" / "zero_shot" / "msrvtt_qa"
    questions = msrvtt.load(folder, split="multiple_choice")
    assert [q.answer for q in questions] == json.loads((folder / "expected.json").read_text())["answers"]
    assert questions[0].video_id == "video7014" and len(questions[0].candidates) == 5
    assert questions[0].candidates[0] == "w598 w538 w1175 w110 w1489" and questions.tasks == ("videoqa",)


sentence = st.text("ab, \"'\t é", min_size=1).filter(str.strip)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.data(), st.integers(2, 12))
def test_questions_come_back_as_they_were_written(tmp_path, data, n):
    video = st.integers(0, 9999).map("video{}".format)
    candidates = st.lists(sentence, min_size=n, max_size=n).map(tuple)
    expected = data.draw(st.lists(st.builds(Question, video, candidates, st.integers(0, n - 1)), max_size=4))
    columns = data.draw(st.permutations(["vid_key", "answer", *(f"a{i + 1}" for i in range(n))]))
    with (tmp_path / "MSR_MC_test_hard.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, delimiter="\t")
        writer.writeheader()
        for q in expected:
            choices = {f"a{i + 1}": text for i, text in enumerate(q.candidates)}
            writer.writerow(choices | {"vid_key": q.video_id.replace("video", "msr"), "answer": q.answer})
    assert list(msrvtt.load(tmp_path / "MSR_MC_test_hard.csv", split="multiple_choice")) == expected


def test_lists_take_the_captions_beside_them(tmp_path):
    write(tmp_path, "MSRVTT_val.full.csv", "video_id\nvideo2\nvideo3\nvideo1\n")
    rows = [("video1", "one"), ("video2", "two"), ("video9", "nine"), ("video2", "deux"), ("video1", "one")]
    sentences = [{"video_id": video_id, "caption": caption, "sen_id": i} for i, (video_id, caption) in enumerate(rows)]
    write(tmp_path, "MSRVTT_data.json", {"videos": [], "sentences": sentences})
    clips = msrvtt.load(tmp_path, "val.full")
    assert list(clips) == [Clip("video2", "two"), Clip("video2", "deux"), Clip("video1", "one"), Clip("video1", "one")]
    assert clips.left_out == ["video3"] and clips.missing({"video2"}) == ["video1"]
    assert clips.tasks == ("retrieval",)


def test_folder_file_and_gzip_are_the_same(folder, tmp_path):
    file = folder / "MSRVTT_JSFUSION_test.csv"
    (tmp_path / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    assert list(msrvtt.load(file)) == list(msrvtt.load(tmp_path)) == list(msrvtt.load(folder))


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ("0\tmsr1\tx\ty\tz\t3\n", "row 1: answer 3 is none of the candidates"),
        ("0\tmsr1\tx\ty\tz\t0\n1\tmsr1\tx\ty\tz\t-1\n", "row 2: answer: Input should be greater .* not '-1'"),
        ("0\tmsr1\tx\ty\tz\t\n", "row 1: answer: Input should be a valid integer, .* not ''"),
        ("0\tmsr1\tx\t \tz\t1\n", "row 1: answer 1 is none .* or one is empty"),
        ("0\tvideo1\tx\ty\tz\t1\n", "row 1: vid_key: String should match pattern .* not 'video1'"),
        ("0\tmsr1\tx\ty\t1\n", "row 1: 5 fields in place of 6"),
    ],
)
def test_bad_questions_are_named(tmp_path, rows, error):
    file = write(tmp_path, "MSR_MC_test.csv", MC + rows)
    with pytest.raises(ValueError, match=error) as raised:
        msrvtt.load(tmp_path, "multiple_choice")
    assert str(file) in str(raised.value)
    write(tmp_path, "MSR_MC_test.csv", "vid_key,a1,a2,answer")
    with pytest.raises(ValueError, match="no column 'vid_key'"):
        msrvtt.load(tmp_path, "multiple_choice")


@pytest.mark.parametrize(
    ("split", "content", "error"),
    [
        ("test", "key,video_id\nret0,video1\n", "no column 'sentence'"),
        ("test", "video_id,sentence\nvideo1,x\nvideo2,\n", "row 2: sentence: String should match pattern"),
        ("train.9k", "id\nvideo1\n", "no column 'video_id'"),
    ],
)
def test_other_bad_rows_are_named(tmp_path, split, content, error):
    file = write(tmp_path, "file", content)
    with pytest.raises(ValueError, match=error) as raised:
        msrvtt.load(file, split)
    assert str(file) in str(raised.value)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        ({"videos": []}, "sentences: Field required"),
        ({"sentences": [{"video_id": "v", "caption": "x"}, {"video_id": "v"}]}, "sentences.1.caption: Field required"),
    ],
)
def test_bad_captions_are_named(tmp_path, data, error):
    write(tmp_path, "MSRVTT_train.7k.csv", "video_id\nv\n")
    file = write(tmp_path, "MSRVTT_data.json", data)
    with pytest.raises(ValueError, match=error) as raised:
        msrvtt.load(tmp_path, "train.7k")
    assert str(file) in str(raised.value)


def test_absent_files_and_unknown_splits(tmp_path):
    with pytest.raises(FileNotFoundError, match="MSR_MC_test.csv"):
        msrvtt.load(tmp_path, "multiple_choice")
    with pytest.raises(ValueError, match="'training'.*'train', 'train.9k'"):
        msrvtt.load(tmp_path, "training")
