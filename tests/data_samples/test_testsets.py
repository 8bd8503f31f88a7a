"""The further test sets: what ships is what the plans say, in the official layouts, and keeps the card's promises."""

import csv
import io
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import formats
import numpy as np
import pyarrow.parquet as pq
import pytest
import testsets
import work
from shipped import thumbnails
from testsets import DATASETS, STYLES
from vocabulary import ACTIONS, THINGS
from world import SIZES, topic_things

from vclip.data.corpus import Corpus
from vclip.tasks.localization import assign_uniform, average_recall, random_probabilities, true_seconds

NUMBERS = {"msrvtt": (200, 200), "didemo": (100, 100), "coin": (96, 64), "crosstask": (96, 72)}
VIDEOS = {(dataset, style): n for dataset in NUMBERS for style, n in zip(STYLES, NUMBERS[dataset], strict=True)}
SETS = pytest.mark.parametrize(("dataset", "style"), VIDEOS)
BOTH = pytest.mark.parametrize("style", STYLES)


def pair(plan) -> tuple[str, str]:
    return plan.steps[0].action, plan.steps[0].thing


def named(sentence: str) -> tuple[str, str]:
    """The action and the thing that a sentence names; no word names two."""
    verbs = {f" {ing} the ": action for action, entry in ACTIONS.items() for _, ing in entry.verbs}
    names = {name: thing for thing, (_, synonyms) in THINGS.items() for name in synonyms}
    (verb,) = [verb for verb in verbs if verb in sentence]
    said = sentence.split(verb)[1]
    thing = max((name for name in names if said.startswith(name)), key=len)
    return verbs[verb], names[thing]


def rows(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")), delimiter=delimiter))


def coin(minihowto, style: str) -> dict[str, dict]:
    return json.loads((minihowto / "coin" / style / "COIN.json").read_text(encoding="utf-8"))["database"]


@SETS
def test_the_files_that_ship_are_those_of_the_plans_and_no_others(minihowto, dataset, style):
    folder = minihowto / dataset / style
    texts = formats.files(dataset, style)
    for name, text in texts.items():
        assert (folder / name).read_text(encoding="utf-8") == text
    shipped = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}
    assert {name for name in shipped if not name.startswith("features/")} == set(texts)
    assert testsets.plans(dataset, style) == testsets.plans(dataset, style)


@SETS
def test_features_are_as_long_as_planned_and_made_as_the_training_ones(minihowto, dataset, style):
    corpus, videos = Corpus.open(minihowto / dataset / style / "features"), testsets.plans(dataset, style)
    assert corpus.video_ids == [plan.video_id for plan in videos]
    assert len(videos) == VIDEOS[dataset, style]
    assert corpus.seconds.tolist() == [plan.seconds for plan in videos]
    assert corpus.spec == Corpus.open(minihowto / "train").spec
    features = np.concatenate([corpus.features(i) for i in range(len(corpus))]).astype(np.float32)
    assert np.isfinite(features).all()
    assert 0.5 < np.mean(features**2) < 2


@SETS
def test_every_step_is_one_that_the_topic_allows(dataset, style):
    owned = topic_things()
    for plan in testsets.plans(dataset, style):
        assert plan.style == STYLES[style]
        clock = 0
        for step in plan.steps:
            assert clock <= step.start < step.end
            assert step.thing in owned[plan.topic]
            clock = step.end
        assert clock <= plan.seconds


def test_no_id_comes_twice():
    ids = [plan.video_id for dataset, style in VIDEOS for plan in testsets.plans(dataset, style)]
    assert len(ids) == len(set(ids)) == 928
    assert not any(video_id.rstrip("0123456789") in SIZES for video_id in ids)


def test_the_folder_stays_small(minihowto):
    sizes = {f: f.stat().st_size for f in minihowto.rglob("*") if f.is_file()}
    assert sum(sizes.values()) < 39.5e6
    assert sum(size for f, size in sizes.items() if f.parent.name in DATASETS and f.suffix == ".parquet") < 3e6


@pytest.mark.parametrize("dataset", DATASETS)
def test_each_step_has_a_thumbnail_and_it_is_a_frame_of_its_own(minihowto, dataset):
    pictures = thumbnails(dataset)
    videos = [plan for style in STYLES for plan in testsets.plans(dataset, style)]
    assert pictures.keys() == {(p.video_id, second) for p in videos for second in formats.thumbnail_seconds(p)}
    for plan in videos:
        for step in plan.steps:
            assert plan.split == "training" or (plan.video_id, (step.start + step.end) // 2) in pictures
    assert {picture.shape for picture in pictures.values()} == {(96, 96, 3)}
    table = pq.read_table(minihowto / dataset / "thumbnails.parquet")
    assert len(set(table["jpeg"].to_pylist())) == len(table)


def test_thumbnails_without_a_name_are_the_clips_in_youcook2s_format():
    assert {video_id.rstrip("0123456789") for video_id, _ in thumbnails()} == {"test", "unseen"}
    with pytest.raises(TypeError, match="unknown data set 'train'.*coin, crosstask, didemo, msrvtt, youcook2"):
        thumbnails("train")


@BOTH
def test_msrvtt_has_200_clips_of_different_pairs(minihowto, style):
    videos, clips = testsets.plans("msrvtt", style), rows(minihowto / "msrvtt" / style / "MSRVTT_JSFUSION_test.csv")
    assert list(clips[0]) == ["key", "vid_key", "video_id", "sentence"]
    assert [clip["video_id"] for clip in clips] == [plan.video_id for plan in videos]
    assert len({pair(plan) for plan in videos}) == len(clips) == 200
    for i, (clip, plan) in enumerate(zip(clips, videos, strict=True)):
        assert (clip["key"], clip["vid_key"]) == (f"ret{i}", clip["video_id"].replace("video", "msr"))
        assert named(clip["sentence"]) == pair(plan)
        if clip["sentence"].startswith(("a man", "a woman")):
            assert clip["sentence"].split()[1] == plan.presenter.split("-")[0]
        (step,) = plan.steps
        assert 10 <= plan.seconds <= 14
        assert 7 <= step.end - step.start <= 10
    for kind in zip(*map(pair, videos), strict=True):
        counts = Counter(kind).values()
        assert max(counts) - min(counts) <= 1


@BOTH
@pytest.mark.parametrize("name", ["MSR_MC_test.csv", "MSR_MC_test_hard.csv"])
def test_msrvtt_distractors_keep_their_rule(minihowto, style, name):
    clips = {row["vid_key"]: row["sentence"] for row in rows(minihowto / "msrvtt" / style / "MSRVTT_JSFUSION_test.csv")}
    questions = rows(minihowto / "msrvtt" / style / name, "\t")
    assert list(questions[0]) == ["key", "vid_key", "a1", "a2", "a3", "a4", "a5", "answer"]
    assert [q["vid_key"] for q in questions] == list(clips)
    assert [q["key"] for q in questions] == [str(i) for i in range(200)]
    for question in questions:
        choices, answer = [question[f"a{k}"] for k in range(1, 6)], int(question["answer"])
        assert choices[answer] == clips[question["vid_key"]]
        action, thing = named(choices.pop(answer))
        assert set(choices) <= set(clips.values())
        assert len(set(choices)) == 4
        shared = Counter((a == action, t == thing) for a, t in map(named, choices))
        assert shared == ({(True, False): 2, (False, True): 2} if "hard" in name else {(False, False): 4})
    answers = Counter(question["answer"] for question in questions)
    assert set(answers) == set("01234")
    assert max(answers.values()) < 65  # 40 expected, standard deviation 5.7


@BOTH
def test_didemo_events_begin_and_end_on_blocks(style):
    videos = testsets.plans("didemo", style)
    assert len({(step.action, step.thing) for plan in videos for step in plan.steps}) == 300
    for plan in videos:
        assert plan.seconds == 30
        assert len(plan.steps) == len({step.thing for step in plan.steps}) == len({s.action for s in plan.steps}) == 3
        assert all(step.start % 5 == step.end % 5 == 0 and step.end - step.start in (5, 10) for step in plan.steps)


@BOTH
def test_didemo_annotators_mostly_give_the_true_blocks(minihowto, style):
    videos = {plan.video_id: plan for plan in testsets.plans("didemo", style)}
    records = json.loads((minihowto / "didemo" / style / "test_data.json").read_text(encoding="utf-8"))
    assert len({record["annotation_id"] for record in records}) == len(records)
    off, told = [], Counter()
    for record in records:
        assert set(record) == {"annotation_id", "video", "description", "times", "num_segments", "dl_link"}
        assert (record["num_segments"], len(record["times"])) == (6, 4)
        steps = [s for s in videos[record["video"]].steps if tells(record["description"], s)]
        first, last = steps[0].start // 5, steps[-1].end // 5 - 1
        assert len(steps) == record["description"].count(" and then ") + 1
        told[len(steps)] += 1
        for a, b in record["times"]:
            assert 0 <= a <= b <= 5
            off.append(abs(a - first) + abs(b - last))
    assert told[1] == 300
    assert 15 <= told[2] <= 45
    assert set(off) == {0, 1}
    assert 0.7 < np.mean(np.array(off) == 0) < 0.8


def tells(description: str, step) -> bool:
    """Whether a description of one or two steps names this one."""
    subject, _, rest = description.partition(" is ")
    return (step.action, step.thing) in [named(f"{subject} is {part}") for part in rest.split(" and then ")]


@BOTH
def test_coin_has_48_ids_of_twelve_tasks_and_46_texts(minihowto, style):
    testing = {v: entry for v, entry in coin(minihowto, style).items() if entry["subset"] == "testing"}
    assert len(testing) == 64
    assert len({entry["recipe_type"] for entry in testing.values()}) == 12
    steps = {(a["id"], a["label"], entry["recipe_type"]) for entry in testing.values() for a in entry["annotation"]}
    assert {step_id for step_id, *_ in steps} == {str(i) for i in range(1, 49)}  # all in the testing subset
    assert len(steps) == 48
    texts = Counter(label for _, label, _ in steps)
    assert (len(texts), sum(count for count in texts.values() if count > 1)) == (46, 4)
    for text in texts:
        tasks = [task for _, label, task in steps if label == text]
        assert len(tasks) == len(set(tasks))


@BOTH
def test_coin_is_outside_for_three_fifths_of_its_time(minihowto, style):
    entries = coin(minihowto, style)
    for subset, number in {"testing": 64, "training": 32 if style == "test" else 0}.items():
        chosen = [entry for entry in entries.values() if entry["subset"] == subset]
        assert len(chosen) == number
        if not chosen:
            continue
        inside = sum(a["segment"][1] - a["segment"][0] for entry in chosen for a in entry["annotation"])
        assert 0.55 < 1 - inside / sum(entry["duration"] for entry in chosen) < 0.65
        ordered = [[int(a["id"]) for a in entry["annotation"]] for entry in chosen]
        assert {len(ids) for ids in ordered} == {3, 4}
        assert 0.7 < np.mean([ids == sorted(ids) for ids in ordered]) < 1
    for entry in entries.values():
        assert 55 <= entry["duration"] <= 75
        assert all(6 <= a["segment"][1] - a["segment"][0] <= 8 for a in entry["annotation"])


def test_coin_and_crosstask_have_the_same_labels_in_both_styles_and_no_topic_in_common(minihowto):
    labels = [
        {(a["id"], a["label"]) for entry in coin(minihowto, style).values() for a in entry["annotation"]}
        for style in STYLES
    ]
    assert labels[0] == labels[1]
    for name in ("tasks_primary.txt", "tasks_related.txt"):
        one, two = ((minihowto / "crosstask" / style / name).read_text(encoding="utf-8") for style in STYLES)
        assert one == two
    topics = [{plan.topic for plan in testsets.plans(dataset, "test")} for dataset in ("coin", "crosstask")]
    assert not topics[0] & topics[1]


def tasks(path: Path) -> dict[str, list[str]]:
    lines = path.read_text(encoding="utf-8").split("\n")
    blocks = [lines[i : i + 6] for i in range(0, len(lines) - 1, 6)]
    assert all(len(block) == 6 and block[5] == "" and int(block[3]) == len(block[4].split(",")) for block in blocks)
    return {block[0]: block[4].split(",") for block in blocks}


def crosstask(minihowto, style: str) -> list[tuple[str, str, list[tuple[int, float, float]]]]:
    """(task, video, segments) of each row of videos.csv, steps from 1."""
    folder, videos = minihowto / "crosstask" / style, []
    for line in (folder / "videos.csv").read_text(encoding="utf-8").splitlines():
        task, video_id, _ = line.split(",")
        with (folder / "annotations" / f"{task}_{video_id}.csv").open(encoding="utf-8", newline="") as file:
            segments = [(int(step), float(start), float(end)) for step, start, end in csv.reader(file)]
        videos.append((task, video_id, segments))
    return videos


@BOTH
def test_crosstask_has_its_videos_by_task_and_steps_mostly_in_order(minihowto, style):
    folder = minihowto / "crosstask" / style
    primary, related = tasks(folder / "tasks_primary.txt"), tasks(folder / "tasks_related.txt")
    assert (len(primary), len(related)) == (6, 2)
    assert {len(set(steps)) for steps in (primary | related).values()} == {7}
    videos = crosstask(minihowto, style)
    assert Counter(task for task, *_ in videos) == dict.fromkeys(primary, 16 if style == "test" else 12)
    validation = [line.split(",") for line in (folder / "videos_val.csv").read_text(encoding="utf-8").splitlines()]
    assert Counter(task for task, *_ in validation) == (dict.fromkeys(primary, 4) if style == "test" else {})
    assert {tuple(row[:2]) for row in validation} <= {row[:2] for row in videos}
    kinds = Counter()
    for _, _, segments in videos:
        assert 4 <= len(segments) <= 6
        assert all(1 <= step <= 7 and 4 <= end - start <= 5 for step, start, end in segments)
        steps = [step for step, *_ in segments]
        kinds["again" if len(set(steps)) < len(steps) else "order" if steps == sorted(steps) else "swapped"] += 1
    assert 0.65 < kinds["order"] / len(videos) < 0.88
    assert kinds["again"] >= 3
    assert kinds["swapped"] >= 5


@BOTH
def test_crosstask_shows_no_step_for_two_thirds_of_its_time_in_uneven_gaps(minihowto, style):
    seconds = {plan.video_id: plan.seconds for plan in testsets.plans("crosstask", style)}
    videos = crosstask(minihowto, style)
    assert all(62 <= n <= 70 for n in seconds.values())
    inside = sum(end - start for *_, segments in videos for _, start, end in segments)
    assert 0.64 < 1 - inside / sum(seconds.values()) < 0.69
    assert 0.67 < np.mean([len({step for step, *_ in segments}) / 7 for *_, segments in videos]) < 0.73
    gaps = []
    for _, video_id, segments in videos:
        edges = [0, *(t for _, *times in segments for t in times), seconds[video_id]]
        gaps.append(np.diff(edges)[::2])
    assert min(map(min, gaps)) >= 1
    # of n gaps cut at random the standard deviation is some 0.8 of the mean, of gaps of similar length 0.3
    assert 0.7 < np.mean([np.std(g) / np.mean(g) for g in gaps]) < 1


@BOTH
def test_crosstasks_steps_are_not_found_by_their_order_alone(minihowto, style):
    seconds = {plan.video_id: plan.seconds for plan in testsets.plans("crosstask", style)}
    videos = crosstask(minihowto, style)
    truth = [true_seconds([(k - 1, a, b) for k, a, b in segments], seconds[v], 7) for _, v, segments in videos]
    names = [task for task, *_ in videos]
    assert average_recall([assign_uniform(*t.shape) for t in truth], truth, names).recall < 0.3
    assert average_recall([random_probabilities(*t.shape) for t in truth], truth, names).recall < 0.2


@pytest.mark.parametrize("dataset", DATASETS)
def test_the_features_show_what_the_plans_say(minihowto, dataset):
    """The nearest of the training seconds' means names topic and thing far above chance, if nothing is mixed up."""
    corpus, means = Corpus.open(minihowto / "train"), {"topic": {}, "thing": {}}
    for row in pq.read_table(minihowto / "truth.parquet").to_pylist():
        if row["split"] == "train":
            seconds = corpus.features(corpus.index(row["video_id"]))[row["start"] : row["end"]].astype(np.float32)
            for kind in means:
                means[kind].setdefault(row[kind], []).append(seconds)
    centres = {kind: np.stack([np.concatenate(x).mean(0) for x in means[kind].values()]) for kind in means}
    corpus, right = Corpus.open(minihowto / dataset / "test" / "features"), {"topic": [], "thing": []}
    for plan in testsets.plans(dataset, "test"):
        features = corpus.features(corpus.index(plan.video_id)).astype(np.float32)
        for step in plan.steps:
            for kind, label in (("topic", plan.topic), ("thing", step.thing)):
                distance = np.linalg.norm(features[step.start : step.end].mean(0) - centres[kind], axis=1)
                right[kind].append(list(means[kind])[distance.argmin()] == label)
    assert np.mean(right["topic"]) > 0.8
    assert np.mean(right["thing"]) > 0.4


def test_a_changed_plan_is_drawn_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIHOWTO_CACHE", str(tmp_path))
    plan = testsets.plans("didemo", "test")[0]
    assert work.kept(plan, "mp4") == work.kept(replace(plan), "mp4")
    assert len({work.kept(p, "npz") for p in (plan, replace(plan, seed=0), replace(plan, steps=plan.steps[:2]))}) == 3
