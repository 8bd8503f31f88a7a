import itertools
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import vclip
from vclip.data.corpus import Corpus
from vclip.datasets import crosstask
from vclip.datasets._records import Dataset
from vclip.datasets.crosstask import Video
from vclip.tasks.localization import (
    assign_steps,
    assign_uniform,
    average_recall,
    examine,
    random_probabilities,
    step_logits,
    true_seconds,
)


def costs(logits, probability="softmax"):
    values = torch.tensor(logits).float()
    log_p = torch.log_softmax(values, dim=1) if probability == "softmax" else torch.nn.functional.logsigmoid(values)
    return -log_p.double().numpy()


def chain(logits, probability="softmax"):
    """One second and one state at a time: background, step 1, background, ..., step K, background."""
    cost = costs(logits, probability)
    seconds, steps = cost.shape
    states = 2 * steps + 1
    least = [[0] + [math.inf] * (states - 1)]
    came_from = []
    for t in range(seconds):
        row, back = [], []
        for s in range(states):
            moves = [s, s - 1] if s % 2 == 0 else [s - 1, s - 2]  # a later move must be strictly cheaper
            before = min((m for m in moves if m >= 0), key=lambda m: least[-1][m])
            row.append(least[-1][before] + (cost[t, s // 2] if s % 2 else 0))
            back.append(before)
        least.append(row)
        came_from.append(back)
    s = states - 1 if least[-1][states - 1] < least[-1][states - 2] else states - 2
    assigned = np.zeros((seconds, steps), np.uint8)
    for t in range(seconds - 1, -1, -1):
        if s % 2:
            assigned[t, s // 2] = 1
        s = came_from[t][s]
    return assigned


sizes = st.integers(1, 5).flatmap(lambda k: st.tuples(st.integers(k + 1, 9), st.just(k)))
with_ties = sizes.flatmap(lambda shape: hnp.arrays(np.float32, shape, elements=st.sampled_from([0, 0, 0, 1, -3])))
any_logits = sizes.flatmap(
    lambda shape: hnp.arrays(np.float32, shape, elements=st.floats(-(2.0**99), 2.0**99, width=32))
)


@settings(max_examples=200, deadline=None)
@given(with_ties | any_logits)
def test_assignment_equals_the_chain_and_costs_least(logits):
    assigned = assign_steps(logits)
    np.testing.assert_array_equal(assigned, chain(logits))
    seconds = assigned.argmax(axis=0).tolist()
    assert assigned.dtype == np.uint8 and assigned.sum(axis=0).tolist() == [1] * logits.shape[1]
    assert seconds == sorted(set(seconds))
    cost = costs(logits)
    every = itertools.combinations(range(len(logits)), logits.shape[1])
    least = min(sum(cost[t, k] for k, t in enumerate(chosen)) for chosen in every)
    assert sum(cost[t, k] for k, t in enumerate(seconds)) == least


@settings(max_examples=100, deadline=None)
@given(with_ties | any_logits)
def test_a_step_by_itself_equals_the_chain_too(logits):
    np.testing.assert_array_equal(assign_steps(logits, "sigmoid"), chain(logits, "sigmoid"))


def test_a_sigmoid_knows_a_second_without_any_step():
    """A softmax is as sure of second 2, where every logit is low, as of second 4, where step 1 is done."""
    logits = np.full((6, 2), -20.0)
    logits[0, 0], logits[4, 1], logits[2, 1] = 9.0, 9.0, 9.0 - 1e-3 - 20
    logits[2, 0] = -60
    assert assign_steps(logits).argmax(axis=0).tolist() == [0, 2]
    assert assign_steps(logits, "sigmoid").argmax(axis=0).tolist() == [0, 4]
    with pytest.raises(ValueError, match="probability must be one of softmax, sigmoid, got 'tanh'"):
        assign_steps(logits, "tanh")


@pytest.mark.parametrize("shape", [(200, 11), (12, 11), (300, 1)])
def test_long_videos_equal_the_chain(shape):
    rng = np.random.default_rng(0)
    for logits in (rng.standard_normal(shape), rng.integers(0, 2, shape), np.zeros(shape)):
        np.testing.assert_array_equal(assign_steps(torch.tensor(logits)), chain(logits))


def test_ties_take_the_earliest_second_but_the_last_step_the_last():
    assert assign_steps(np.zeros((9, 3))).argmax(axis=0).tolist() == [0, 1, 8]
    falling = np.zeros((6, 2))
    falling[3, 1] = 1  # strictly cheaper for the last step
    assert assign_steps(falling).argmax(axis=0).tolist() == [0, 3]


def test_sums_are_float64():
    """Beside step 0, which costs 2**25 wherever it is, float32 could not tell step 1's costs of 0.69 and 0.05."""
    logits = np.array([[-(2.0**25), 0, 0]] * 6, np.float32)
    logits[3, 2] = -3
    assert assign_steps(logits).argmax(axis=0).tolist() == [0, 3, 5]


def test_a_constant_added_to_a_second_changes_nothing():
    logits = np.random.default_rng(0).integers(-8, 8, (30, 4)).astype(np.float32)
    shifted = logits + np.arange(30, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(assign_steps(logits), assign_steps(shifted))


@pytest.mark.parametrize(
    ("logits", "error"),
    [
        (np.zeros((3, 3)), "3 seconds for 3 steps"),
        (np.zeros((2, 5)), "2 seconds for 5 steps"),
        (np.zeros((0, 0)), "0 seconds for 0 steps"),
        (np.zeros((4, 0)), "4 seconds for 0 steps"),
        (np.where(np.eye(4, 2)[[1, 2, 0, 3]], np.nan, 0.0), r"second 0 are not finite: .0.0, nan"),
        (torch.tensor([[0.0], [0.0], [-torch.inf]]), "second 2 are not finite"),
        (np.full((4, 2), 1e39), "second 0 are not finite"),
    ],
)
def test_assignment_refuses(logits, error):
    with pytest.raises(ValueError, match=error):
        assign_steps(logits)


def test_metric_is_golden(shared):
    folder = shared / "golden" / "metrics"
    golden = json.loads((folder / "crosstask.json").read_text())
    arrays = np.load(folder / "crosstask.npz", allow_pickle=False)
    assigned, truth = [], []
    for i, video in enumerate(golden["videos"]):
        logits = arrays[f"logits_{i}"]
        assert logits.shape == (video["T"], video["K"])
        np.testing.assert_allclose(costs(logits), arrays[f"cost_{i}"], atol=1e-6)
        assigned.append(assign_steps(logits))
        np.testing.assert_array_equal(assigned[i], arrays[f"assign_{i}"])
        truth.append(arrays[f"truth_{i}"])
    got = average_recall(assigned, truth, [video["task"] for video in golden["videos"]])
    expected = dict(golden["recall"])
    assert got.recall == pytest.approx(expected.pop("recall"), abs=1e-9)
    assert got.per_task == pytest.approx(expected, abs=1e-9)


def test_recall_counts_by_hand():
    """Task a: 1 of 3 steps (pooled over videos, not 0.5 of videos); task b: 1 of 1; absent steps do not count."""
    found, missed, absent = np.eye(3, 2), np.eye(3, 2, k=-1), np.zeros((3, 2))
    one = np.array([[1, 0], [0, 0], [0, 0]])
    got = average_recall([one, missed, one, found], [one, np.eye(3, 2), one, absent], ["a", "a", "b", "c"])
    assert repr(got) == "Recall(recall 0.6667, n 4)"
    recall, per_task = got
    assert per_task == pytest.approx({"a": 1 / 3, "b": 1, "c": math.nan}, nan_ok=True)
    assert recall == pytest.approx(2 / 3)
    nothing = average_recall([found], [absent], ["c"])
    assert math.isnan(nothing.recall) and math.isnan(nothing.per_task["c"])


@pytest.mark.parametrize(
    ("assigned", "truth", "tasks", "error"),
    [
        ([], [], [], "0 assignments"),
        ([np.eye(3)], [np.eye(3)], ["a", "b"], "1 assignments and 1 truths of 2 videos"),
        ([np.eye(3), np.eye(3, 2)], [np.eye(3), np.eye(3)], ["a", "a"], r"video 1: .*\(3, 2\).*\(3, 3\)"),
        ([np.ones(3)], [np.ones(3)], ["a"], r"video 0: .*\(3,\)"),
    ],
)
def test_recall_refuses(assigned, truth, tasks, error):
    with pytest.raises(ValueError, match=error):
        average_recall(assigned, truth, tasks)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 30), st.floats(0, 9)), max_size=5), st.integers(0, 25))
def test_truth_equals_loop(segments, seconds):
    segments = [(step, start, start + length) for step, start, length in segments]
    expected = np.zeros((seconds, 4))
    for step, start, end in segments:
        for t in range(seconds):
            if math.floor(start) <= t < math.ceil(end):
                expected[t, step] = 1
    np.testing.assert_array_equal(true_seconds(segments, seconds, 4), expected)


@pytest.mark.parametrize("shape", [(7, 3), (6, 5), (9, 1), (5, 5), (8, 2)])
def test_random_floor_is_the_mean_over_all_choices(shape):
    seconds, steps = shape
    every = list(itertools.combinations(range(seconds), steps))
    mean = np.zeros(shape)
    for chosen in every:
        mean[chosen, np.arange(steps)] += 1 / len(every)
    np.testing.assert_allclose(random_probabilities(seconds, steps), mean, atol=1e-12)


@settings(deadline=None)
@given(st.integers(1, 11), st.integers(1, 700))
def test_floors_give_every_step_one_second_in_order(steps, longer):
    seconds = steps + longer
    random, uniform = random_probabilities(seconds, steps), assign_uniform(seconds, steps)
    np.testing.assert_allclose(random.sum(axis=0), 1, atol=1e-9)
    assert (random.sum(axis=1) <= 1 + 1e-9).all()
    places = uniform.argmax(axis=0)
    assert uniform.sum() == steps and (np.diff(places) > 0).all()
    assert places.tolist() == [(2 * k + 1) * seconds // (2 * steps) for k in range(steps)]  # the middle of each part


# from the release's files and features to the score


@pytest.fixture(scope="module")
def small(zero_shot):
    """The golden model as a dual encoder, its features as a folder of .npy, and the release's folder."""
    release = zero_shot.folder / "crosstask" / "crosstask_release"
    return SimpleNamespace(clip=zero_shot.clip, features=zero_shot.features, release=release)


def test_plain_functions_are_golden(small):
    corpus = Corpus.open(small.features)
    expected = np.load(small.release.parent / "expected.npz", allow_pickle=False)
    dataset = crosstask.load(small.release, "test", features=corpus, n_train=2)
    videos = [corpus.features(corpus.index(video.video_id)) for video in dataset]
    logits = step_logits(small.clip, videos, [video.steps for video in dataset])
    for video, rows in zip(dataset, logits, strict=True):
        name = f"{video.task}_{video.video_id}"
        np.testing.assert_allclose(rows, expected[f"logits_{name}"], atol=2e-5)
        np.testing.assert_array_equal(assign_steps(rows), expected[f"assign_{name}"])
        np.testing.assert_array_equal(true_seconds(video.segments, *rows.shape), expected[f"truth_{name}"])


def test_evaluation_is_golden(small):
    expected = json.loads((small.release.parent / "expected.json").read_text())
    arrays = np.load(small.release.parent / "expected.npz", allow_pickle=False)
    dataset = crosstask.load(small.release, features=Corpus.open(small.features), n_train=2)
    report = vclip.evaluate(small.clip, dataset, small.features)
    assert report.scores == {"recall": pytest.approx(expected["recall"]["recall"], abs=1e-9)}
    assert report.unit == "steps" and report.n == sum(arrays[k].any(0).sum() for k in arrays if k.startswith("truth"))
    examples = report.examples
    assert examples[["task", "video_id"]].values.tolist() == expected["test_split"]
    assert report.details == {"left_out": 0} and report.n == examples.steps.sum()
    per_task = examples.groupby("task").hits.sum() / examples.groupby("task").steps.sum()
    for task in ("1001", "1002"):
        assert per_task[task] == pytest.approx(expected["recall"][task], abs=1e-9)
    for row, video in zip(examples.itertuples(), dataset, strict=True):
        assigned = arrays[f"assign_{row.task}_{row.video_id}"]
        assert (row.seconds, row.assigned) == (len(assigned), assigned.argmax(axis=0).tolist())
        assert row.segments == list(video.segments)
    truth = [arrays[f"truth_{v.task}_{v.video_id}"] for v in dataset]
    rng = np.random.default_rng(0)
    drawn = [
        [np.eye(len(t), dtype=int)[:, np.sort(rng.permutation(len(t))[: t.shape[1]])] for t in truth]
        for _ in range(400)
    ]
    recalls = [average_recall(each, truth, examples.task.tolist()).recall for each in drawn]
    assert abs(np.mean(recalls) - report.baselines["random"]["recall"]) < 4 * np.std(recalls) / np.sqrt(len(recalls))
    uniform = average_recall([assign_uniform(*t.shape) for t in truth], truth, examples.task.tolist())
    assert report.baselines["uniform"] == {"recall": uniform.recall}


def test_videos_that_cannot_be_scored_are_left_out_and_counted(small):
    steps = tuple(f"w{i}" for i in range(1, 40))
    segments = ((0, 1.0, 5.0),)
    videos = [
        Video("ct10011", "1", "long enough", steps[:4], segments),
        Video("ct10012", "1", "one second short", steps[:14], segments),
        Video("ct10013", "2", "nobody looked", steps[:4], ()),
        Video("nowhere", "2", "no features", steps[:4], segments),
    ]
    report = vclip.evaluate(small.clip, Dataset("made", "test", videos, crosstask.TASKS), small.features)
    assert report.n == 1 and report.coverage["missing"] == ["nowhere"] and report.details == {"left_out": 2}
    assert report.examples.video_id.tolist() == ["ct10011"] and "1 of 4 records scored" in repr(report)
    with pytest.raises(ValueError, match="no video of made .* has more seconds than its task has steps"):
        examine(small.clip, Dataset("made", "test", videos[1:3]), Corpus.open(small.features))


def test_a_video_of_two_tasks_is_scored_for_each(small):
    videos = [Video("ct10011", str(k), "", tuple(f"w{i}" for i in range(k)), ((0, 0.0, 32.0),)) for k in (2, 5)]
    report = vclip.evaluate(small.clip, Dataset("made", "test", videos, crosstask.TASKS), small.features)
    assert report.scores == {"recall": 1} and report.n == 2 and report.coverage["of"] == 1
    assert report.examples.assigned.map(len).tolist() == [2, 5]


@pytest.mark.parametrize("assigned", [np.full((3, 2), np.nan), 5 * np.eye(3, 2), -np.eye(3, 2), np.ones((3, 2))])
def test_an_assignment_that_is_none_is_refused(assigned):
    with pytest.raises(ValueError, match="video 0: .*more than one"):
        average_recall([assigned], [np.eye(3, 2)], ["tea"])


def test_a_task_without_a_name_counts():
    assert average_recall([np.eye(3, 2)], [np.eye(3, 2)], [None]).recall == 1
