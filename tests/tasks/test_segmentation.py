import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import vclip
from vclip.data.corpus import Corpus
from vclip.datasets import coin
from vclip.datasets.coin import COIN, Segment, Video
from vclip.models.config import VideoCLIPConfig
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.segmenter import VideoCLIPForSegmentation
from vclip.models.videoclip import VideoCLIPModel
from vclip.models.videoclip_encoder import VideoCLIP
from vclip.models.windows import merge_windows, sliding_windows
from vclip.tasks.segmentation import (
    RULES,
    SHUFFLES,
    edit_score,
    label_seconds,
    majority_filter,
    outside_threshold,
    score,
    segmental_f1,
    shuffled_baseline,
    smooth,
    targets,
)

import corpora

TOWER = {
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "vocab_size": 200,
}

videos_of_pairs = st.lists(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=12), min_size=1, max_size=4
)


@settings(deadline=None)
@given(videos_of_pairs)
def test_score_equals_loop(videos):
    predicted, truth = ([np.array([pair[side] for pair in video]) for video in videos] for side in (0, 1))
    pairs = [pair for video in videos for pair in video]
    got = score(predicted, truth, 4)
    assert got.n == len(pairs)
    assert got.frame_accuracy == pytest.approx(sum(p == t for p, t in pairs) / len(pairs))
    assert got.outside_rate == pytest.approx(sum(p == 0 for p, _ in pairs) / len(pairs))
    recalls = []
    for label in range(5):
        mine = [p == label for p, t in pairs if t == label]
        recalls.append(sum(mine) / len(mine) if mine else np.nan)
    np.testing.assert_allclose(got.recall, recalls)
    steps = [r for r in recalls[1:] if r == r]
    assert got.mean_recall == pytest.approx(np.mean(steps) if steps else np.nan, nan_ok=True)
    for name, overlap in (("f1_10", 0.1), ("f1_25", 0.25), ("f1_50", 0.5)):
        assert getattr(got, name) == segmental_f1(predicted, truth, overlap)
    assert got.edit == pytest.approx(np.mean([edit_score(p, t) for p, t in zip(predicted, truth, strict=True)]))
    assert values(score([torch.from_numpy(p) for p in predicted], truth, 4)) == pytest.approx(values(got), nan_ok=True)


def values(score):
    return list(score.values().values())


@settings(deadline=None)
@given(videos_of_pairs)
def test_floors_are_scores_of_constant_answers(videos):
    predicted, truth = ([np.array([pair[side] for pair in video]) for video in videos] for side in (0, 1))
    got = score(predicted, truth, 4)
    steps = [label for video in truth for label in video.tolist() if label]
    most_frequent = min(set(steps), key=lambda label: (-steps.count(label), label)) if steps else 0
    named = {"all Outside": 0} | ({"most frequent step": most_frequent} if steps else {})
    assert got.baselines.keys() == named.keys()
    for name, label in named.items():
        expected = score([np.full_like(t, label) for t in truth], truth, 4)
        assert values(got.baselines[name]) == pytest.approx(values(expected), nan_ok=True)
        assert not got.baselines[name].baselines


def test_silence_earns_frame_accuracy_alone():
    truth = [np.array([0, 0, 0, 1, 1, 0, 2])]
    silence = score([np.zeros(7, dtype=np.int64)], truth, 3)
    assert silence.frame_accuracy == pytest.approx(4 / 7) and silence.outside_rate == 1
    assert values(silence)[2:] == [0] * 5
    np.testing.assert_array_equal(silence.recall, [1, 0, 0, np.nan])
    assert "frame_accuracy 0.5714 (all Outside 0.5714, most frequent step 0.2857)" in repr(silence) and "n 7)" in repr(
        silence
    )


def test_silence_on_the_real_test_videos(shared):
    """The floor beside which the paper's 58.9 % frame accuracy stands."""
    videos = coin.load(shared / "annotations" / "coin" / "COIN.merged.json.gz")
    truth = [targets(video.segments, int(np.ceil(video.seconds))) for video in videos]
    silence = score([np.zeros_like(t) for t in truth], truth, 778)
    assert round(silence.frame_accuracy, 3) == 0.588 and not np.isnan(silence.recall).any()


def test_labels_of_any_whole_kind_and_empty_videos():
    expected = score([np.array([0, 2, 2]), np.array([1])], [np.array([0, 2, 1]), np.array([1])], 200)
    for kind in (np.uint8, np.int16, np.uint64, list):
        made = [[[0, 2, 2], [], [1]], [[0, 2, 1], [], [1]]]
        if kind is not list:
            made = [[np.array(labels, kind) for labels in videos] for videos in made]
        got = score(*made, 200)
        assert (got.n, got.frame_accuracy, got.f1_25) == (4, expected.frame_accuracy, expected.f1_25)
    with pytest.raises(ValueError, match="video 0 has labels .* from 0 to 2"):
        score([np.array([2**64 - 1], np.uint64)], [np.array([1])], 2)


def test_silence_where_nothing_is_done_has_edit_1():
    """As `SegmentationScore` says; the other scores do not reward it."""
    nothing = score([np.zeros(4, np.int64)], [np.zeros(4, np.int64)], 2)
    assert (nothing.edit, nothing.f1_10) == (1, 0) and np.isnan(nothing.mean_recall)


def test_shuffled_labels_are_the_mean_over_orders():
    """Three segments of which two have one label: their six orders are three answers, each as likely."""
    predicted, truth = [np.array([1, 1, 0, 2]), np.array([0, 1])], [np.array([1, 1, 0, 2]), np.array([2, 2])]
    orders = [([1, 1, 0, 2], [0, 1]), ([1, 1, 0, 1], [0, 2]), ([2, 2, 0, 1], [0, 1])]
    answers = [score([np.array(a), np.array(b)], truth, 2).values() for a, b in orders]
    drawn = [shuffled_baseline(predicted, truth, 2, seed) for seed in range(200)]
    assert drawn[0] == shuffled_baseline(predicted, truth, 2, 0) != drawn[1]
    for name in answers[0]:
        each = [answer[name] for answer in answers]
        tolerance = 4 * np.std(each) / np.sqrt(200 * SHUFFLES) + 1e-9
        assert abs(np.mean([floor[name] for floor in drawn]) - np.mean(each)) < tolerance
    silence = shuffled_baseline([np.zeros(4, np.int64)], truth[:1], 2)
    assert silence == score([np.zeros(4, np.int64)], truth[:1], 2).values()


def test_score_refuses():
    ones = np.ones(3, dtype=np.int64)
    for predicted, truth in (
        ([ones], [ones, ones]),
        ([ones, ones[:2]], [ones, ones]),
        ([], []),
        ([ones[:0]], [ones[:0]]),
    ):
        with pytest.raises(ValueError, match=r"predictions \[.*\] for seconds \["):
            score(predicted, truth, 2)
    for bad in (ones * 3, ones * -1, ones * 1.0):
        for predicted, truth in (([ones, bad], [ones, ones]), ([ones, ones], [ones, bad])):
            with pytest.raises(ValueError, match="video 1 has labels .* from 0 to 2"):
                score(predicted, truth, 2)


segment_lists = st.lists(st.builds(Segment, st.floats(0, 15), st.floats(0, 15), st.integers(1, 5)), max_size=5)


@settings(deadline=None)
@given(segment_lists, st.integers(0, 12))
def test_targets_equal_loop(segments, seconds):
    expected = [0] * seconds
    for segment in segments:
        for t in range(seconds):
            if np.floor(segment.start) <= t < np.ceil(segment.end):
                expected[t] = segment.label
    assert targets(segments, seconds).tolist() == expected


# golden numbers


def test_frame_accuracy_is_golden(shared):
    folder = shared / "golden" / "metrics"
    golden, expected = np.load(folder / "coin.npz", allow_pickle=False), json.loads((folder / "coin.json").read_text())
    got = score([golden["pred"]], [golden["targets"]], 37)
    assert got.frame_accuracy == pytest.approx(expected["frame_acc"], abs=1e-9)
    assert got.outside_rate == pytest.approx(expected["frac_outside"], abs=1e-6)


@pytest.fixture(scope="module")
def released(zero_shot):
    """The golden model, data set and features, and what the original made of them."""
    folder = zero_shot.folder / "coin"
    numbers = np.load(folder / "expected.npz", allow_pickle=False)
    expected = json.loads((folder / "expected.json").read_text())
    return zero_shot.clip, coin.load(folder), zero_shot.features, numbers, expected


def test_released_protocol_is_golden(released):
    clip, dataset, features, numbers, expected = released
    corpus = Corpus.open(features)
    z_labels = clip.encode_texts(dataset.texts)
    np.testing.assert_allclose(z_labels, numbers["label_embeddings"], atol=2e-5)
    gamma = outside_threshold(z_labels, dataset.texts, duplicates="keep")
    assert gamma == pytest.approx(float(numbers["gamma"]), abs=2e-5)
    h_v = clip.encode_seconds([corpus.features(corpus.index(video)) for video in expected["video_order"]])
    for i, h in enumerate(h_v):
        np.testing.assert_allclose(h @ z_labels.T, numbers[f"merged_logits_{i}"], atol=2e-5)
    predicted = np.concatenate([label_seconds(h, z_labels, gamma) for h in h_v])
    np.testing.assert_array_equal(predicted, numbers["pred"])


def test_evaluate_is_golden(released):
    clip, dataset, features, numbers, expected = released
    report = vclip.evaluate(clip, dataset, features, rule="eq6_keep")
    assert report.scores["frame_accuracy"] == pytest.approx(expected["metrics"]["frame_acc"], abs=1e-9)
    assert report.scores["outside_rate"] == pytest.approx(expected["frac_outside"], abs=1e-9)
    assert (report.n, report.unit, report.coverage["missing"]) == (208, "seconds", ["coin_nofeat"])
    assert report.examples["video_id"].tolist() == expected["video_order"]
    for name, column in (("pred", "predicted"), ("targets", "truth")):
        np.testing.assert_array_equal(np.concatenate(report.examples[column].to_list()), numbers[name])
    assert report.details["threshold"] == pytest.approx(expected["gamma"], abs=2e-5)
    # its 23 texts differ, so counting texts once changes nothing
    assert vclip.evaluate(clip, dataset, features).scores == report.scores


# the rules, end to end


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    torch.manual_seed(0)
    model = VideoCLIPModel(VideoCLIPConfig(video_config=TOWER, text_config=TOWER, video_feature_dim=corpora.DIM))
    processor = VideoCLIPProcessor(corpora.tokenizer())
    corpus = corpora.make(tmp_path_factory.mktemp("corpus") / "c", 5)
    # steps 1 and 4 of two tasks have one text
    texts = ["w1 w2", "w3", "w4 w5 w6", "w1 w2"]
    records = [
        Video(f"video {i}", None, "task", i, (Segment(2.0, 9.5, 1 + i % 4), Segment(12.0, 18.0, 2))) for i in range(5)
    ]
    return model, processor, COIN("testing", [*records, Video("gone", 9.0, "task", 0, ())], texts), corpus


@pytest.mark.parametrize("rule", RULES)
def test_examine_equals_loop(small, rule):
    model, processor, dataset, corpus = small
    report = vclip.evaluate(VideoCLIP(model, processor), dataset, corpus, rule=rule, outside=0.5, window=3)
    z = VideoCLIP(model, processor).encode_texts(dataset.texts)
    features = [np.asarray(corpus.features(corpus.index(video))) for video in dataset.video_ids[:5]]
    states = VideoCLIP(model, processor).encode_seconds(features)
    if rule == "cosine":
        z = z / np.linalg.norm(z, axis=1, keepdims=True)
        states = [h / np.linalg.norm(h, axis=1, keepdims=True) for h in states]
    if rule == "margin":
        states, z = [smooth(h, 3) for h in states], z - z.mean(axis=0)
    if rule in ("quantile", "margin"):
        gamma = np.quantile(np.concatenate([(h @ z.T).max(axis=1) for h in states]), 0.5)
    else:
        gamma = outside_threshold(z, dataset.texts, "keep" if rule == "eq6_keep" else "drop")
    assert report.details["threshold"] == pytest.approx(gamma, abs=1e-5)
    truth = [targets(record.segments, len(h)) for record, h in zip(dataset, states, strict=False)]
    predicted = []
    for h, row in zip(states, report.examples.itertuples(), strict=True):
        products = h @ z[:3].T
        np.testing.assert_allclose(row.best, products.max(axis=1), atol=1e-4)
        labels = label_seconds(h, z[:3], report.details["threshold"])
        predicted.append(majority_filter(labels, 3) if rule == "margin" else labels)
    for video, row in enumerate(report.examples.itertuples()):
        # a second within rounding of gamma may fall on either side
        assert np.mean(np.array(row.predicted) == predicted[video]) > 0.9
        assert row.truth == truth[video].tolist() and row.seconds == len(truth[video])
        assert row.frame_accuracy == pytest.approx(np.mean(np.array(row.predicted) == truth[video]))
    expected = score(report.examples["predicted"].tolist(), truth, 4)
    assert report.scores == expected.values()
    assert report.baselines["all Outside"] == expected.baselines["all Outside"].values()
    assert report.baselines["most frequent step"] == expected.baselines["most frequent step"].values()
    assert report.baselines["shuffled labels"] == shuffled_baseline(
        report.examples["predicted"].map(np.array), truth, 4
    )
    assert report.baselines["chance"] == {"mean_recall": 0.25}
    names = ["Outside", "w1 w2 (1)", "w3 (2)", "w4 w5 w6 (3)", "w1 w2 (4)"]
    assert list(report.details["recall"]) == names and report.details["rule"] == rule
    np.testing.assert_array_equal(list(report.details["recall"].values()), expected.recall)


def test_a_shared_text_silences_eq6_as_published(small):
    """Steps 1 and 4 share a text: over all ids gamma is its squared norm or more, over distinct texts it need not."""
    model, processor, dataset, corpus = small
    keep, drop = (
        vclip.evaluate(VideoCLIP(model, processor), dataset, corpus, rule=rule).details["threshold"]
        for rule in ("eq6_keep", "eq6")
    )
    z = VideoCLIP(model, processor).encode_texts(dataset.texts)
    assert keep == pytest.approx(max(drop, float(z[0] @ z[0])), abs=1e-4) and keep >= drop


def test_the_quantile_leaves_that_share_outside(small):
    model, processor, dataset, corpus = small
    for outside in (0.0, 0.3, 0.8):
        report = vclip.evaluate(VideoCLIP(model, processor), dataset, corpus, rule="quantile", outside=outside)
        assert report.scores["outside_rate"] == pytest.approx(outside, abs=2 / report.n)


def test_examine_refuses(small):
    model, processor, dataset, corpus = small
    alike = COIN("testing", [Video("video 0", 9.0, "task", 0, ())], ["w1", "w1"])
    for rule, error in (("eq6", "eq. 6 needs two different labels, there are 1"), ("margin", "a margin needs two")):
        with pytest.raises(ValueError, match=error):
            vclip.evaluate(VideoCLIP(model, processor), alike, corpus, rule=rule)
    assert (
        "most frequent step"
        not in vclip.evaluate(VideoCLIP(model, processor), alike, corpus, rule="quantile").baselines
    )
    for name, value, error in (
        ("rule", "classifier", "needs a model fine-tuned for segmentation on .*: take one of eq6"),
        ("outside", 1.5, "outside is a fraction, 0 to 1, .*, not 1.5, 3"),
        ("window", 4, "an odd number of seconds, not 0.6, 4"),
    ):
        with pytest.raises(ValueError, match=error):
            vclip.evaluate(VideoCLIP(model, processor), dataset, corpus, **{name: value})
    with pytest.raises(TypeError, match="unknown rule 'loud'"):
        vclip.evaluate(VideoCLIP(model, processor), dataset, corpus, rule="loud")


# the classifier of a fine-tuned model


@pytest.fixture(scope="module")
def tuned(small):
    """`small`'s towers with a classifier of Outside and its four steps."""
    torch.manual_seed(3)
    config = VideoCLIPConfig(video_config=TOWER, text_config=TOWER, video_feature_dim=corpora.DIM, num_labels=5)
    model = VideoCLIPForSegmentation(config)
    model.load_state_dict(small[0].state_dict(), strict=False)
    torch.nn.init.normal_(model.classifier.weight)
    return model


def test_a_classifier_answers_with_its_largest_mean_logit(small, tuned):
    _, processor, dataset, corpus = small
    report = vclip.evaluate(VideoCLIP(tuned, processor), dataset, corpus)
    assert report.details["rule"] == "classifier" and report.details["threshold"] == 0
    for row in report.examples.itertuples():
        video = corpus.features(corpus.index(row.video_id))
        windows = sliding_windows(len(video))
        with torch.no_grad():
            rows = [torch.from_numpy(video[None, start:end].astype(np.float32)) for start, end in windows]
            logits = merge_windows([tuned.eval()(window).logits[0] for window in rows], windows)
        assert row.predicted == logits.argmax(1).tolist()
        np.testing.assert_allclose(row.best, logits[:, 1:].max(1) - logits[:, 0], atol=1e-4)
    assert 0 < report.scores["outside_rate"] < 1
    assert vclip.evaluate(VideoCLIP(tuned, processor), dataset, corpus, rule="classifier").scores == report.scores
    zero_shot = vclip.evaluate(VideoCLIP(small[0], processor), dataset, corpus, rule="eq6").scores
    assert vclip.evaluate(VideoCLIP(tuned, processor), dataset, corpus, rule="eq6").scores == zero_shot


def test_a_classifier_of_other_labels_is_refused(small, tuned):
    _, processor, dataset, corpus = small
    three = COIN("testing", [Video("video 0", 9.0, "task", 0, ())], ["w1", "w2", "w3"])
    with pytest.raises(ValueError, match=r"fine-tuned for segmentation on the labels of COIN testing"):
        vclip.evaluate(VideoCLIP(tuned, processor), three, corpus)
    assert vclip.evaluate(VideoCLIP(tuned, processor), three, corpus, rule="quantile").n
    other = COIN("testing", list(dataset)[:2], ["w1 w2", "w3", "w9", "w1 w2"])
    tuned.config.id2label = dict(enumerate(["Outside", *dataset.texts]))
    try:
        vclip.evaluate(VideoCLIP(tuned, processor), dataset, corpus)
        with pytest.raises(ValueError, match="fine-tuned for segmentation on the labels"):
            vclip.evaluate(VideoCLIP(tuned, processor), other, corpus)
    finally:
        tuned.config.id2label = {label: f"LABEL_{label}" for label in range(5)}


def test_a_report_can_be_saved(small, tmp_path):
    model, processor, dataset, corpus = small
    report = vclip.evaluate(VideoCLIP(model, processor), dataset, corpus, rule="margin", window=3)
    report.save(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "examples.json").read_text().splitlines()]
    assert [row["predicted"] for row in rows] == report.examples["predicted"].tolist()
    saved = json.loads((tmp_path / "scores.json").read_text())
    assert saved["options"] == {"rule": "margin", "outside": 0.6, "window": 3}
