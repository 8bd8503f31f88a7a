from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vclip.tasks.segmentation import RULES, label_by, label_seconds, majority_filter, outside_threshold, smooth

whole = st.integers(-4, 4).map(np.float32)  # products of these are exact


def matrices(rows, columns=3):
    return hnp.arrays(np.float32, st.tuples(rows, st.just(columns)), elements=whole)


@settings(deadline=None)
@given(matrices(st.integers(2, 7)), st.data())
def test_gamma_equals_loop(z, data):
    products = [z[i] @ z[j] for i in range(len(z)) for j in range(len(z)) if i != j]
    assert outside_threshold(z, duplicates="keep") == max(products)
    assert outside_threshold(torch.from_numpy(z), duplicates="keep") == max(products)
    distinct = [z[i] @ z[j] for i in range(len(z)) for j in range(len(z)) if (z[i] != z[j]).any()]
    names = data.draw(st.lists(st.sampled_from("abc"), min_size=len(z), max_size=len(z)))
    first = [i for i in range(len(z)) if names[i] not in names[:i]]
    of_texts = [z[i] @ z[j] for i in first for j in first if (z[i] != z[j]).any()]
    for texts, expected in ((None, distinct), (names, of_texts)):
        if expected:
            assert outside_threshold(z, texts) == max(expected)
        else:
            with pytest.raises(ValueError, match="eq. 6 needs two different labels, there are 1: .*'quantile'"):
                outside_threshold(z, texts)


@settings(deadline=None)
@given(matrices(st.integers(2, 6), 4).filter(lambda z: len(np.unique(z, axis=0)) == len(z)), st.integers(0, 5))
def test_one_duplicated_label_lifts_gamma_to_its_squared_norm(z, i):
    i %= len(z)
    once, twice = outside_threshold(z, duplicates="keep"), np.concatenate([z, z[i : i + 1]])
    texts = [f"step {k}" for k in range(len(z))] + [f"step {i}"]
    squared_norm = float(z[i] @ z[i])
    assert outside_threshold(twice, texts, "keep") == max(once, squared_norm) >= squared_norm
    assert outside_threshold(twice, texts) == outside_threshold(twice) == once
    # so even a second whose state is that label's own vector is Outside, which it is not with texts counted once
    assert label_seconds(z[i : i + 1], twice, outside_threshold(twice, texts, "keep"))[0] == 0
    assert (label_seconds(z[i : i + 1], twice, once)[0] == 0) == (max(z @ z[i]) <= once)


def test_golden(shared):
    golden = np.load(shared / "golden" / "metrics" / "coin.npz", allow_pickle=False)
    z, h = golden["label_embeddings"], golden["token_embeddings"]
    gamma = outside_threshold(z, duplicates="keep")
    assert gamma == pytest.approx(float(golden["gamma"]), abs=2e-5) == outside_threshold(z)
    np.testing.assert_array_equal(label_seconds(h, z, gamma), golden["pred"])
    np.testing.assert_array_equal(label_seconds(torch.from_numpy(h), torch.from_numpy(z), gamma), golden["pred"])


@settings(deadline=None)
@given(matrices(st.integers(0, 6)), matrices(st.integers(1, 4)), st.integers(-9, 20))
def test_label_seconds_equal_loop(h, z, gamma):
    expected = []
    for second in h:
        products = [float(second @ label) for label in z]
        expected.append(products.index(max(products)) + 1 if max(products) > gamma else 0)
    assert label_seconds(h, z, gamma).tolist() == expected


@pytest.mark.parametrize("k", [6, 23, 778])
def test_of_labels_that_are_one_the_first_counts(k):
    rng = np.random.default_rng(k)
    z = rng.standard_normal((k, 768), dtype=np.float32)
    z[-1] = z[0]
    for seconds in (1, 600):
        h = z[:1] + 0.1 * rng.standard_normal((seconds, 768), dtype=np.float32)
        assert label_seconds(h, z, 0.0).tolist() == [1] * seconds
        assert label_seconds(torch.from_numpy(h), torch.from_numpy(z), 0.0).tolist() == [1] * seconds
        for rule in ("quantile", "margin"):
            assert set(label_by(rule, [h], z, [""] * k, 0.0, 3)[0][0].tolist()) <= {0, 1}


def test_refusals():
    z = np.eye(3, dtype=np.float32)
    with pytest.raises(ValueError, match="'forget'"):
        outside_threshold(z, duplicates="forget")
    for texts, rows in ((None, [0, 0]), (["a", "a"], [0, 1])):
        with pytest.raises(ValueError, match="eq. 6 needs two different labels, there are 1: use rule='quantile'"):
            outside_threshold(z[rows], texts)
    with pytest.raises(ValueError, match="two different labels, there are 0"):
        outside_threshold(z[:0])
    with pytest.raises(ValueError, match="a margin needs two different labels"):
        label_by("margin", [z], z[[0, 0]], ["a", "a"], 0.5, 3)
    for duplicates in ("drop", "keep"):
        with pytest.raises(ValueError, match="NaN"):
            outside_threshold(z * np.float32(np.nan), duplicates=duplicates)
    with pytest.raises(ValueError, match=r"scores \(3, 0\).*a label"):
        label_seconds(z, z[:0], 0.0)
    with pytest.raises(ValueError, match="NaN"):
        label_seconds(z * np.float32(np.nan), z, 0.0)


@settings(deadline=None)
@given(matrices(st.integers(0, 12), 2), st.sampled_from([1, 3, 5, 9]))
def test_smooth_equals_loop(rows, window):
    expected = [rows[max(0, t - window // 2) : t + window // 2 + 1].mean(axis=0) for t in range(len(rows))]
    np.testing.assert_allclose(smooth(rows, window), np.reshape(expected, rows.shape), atol=1e-5)


@settings(deadline=None)
@given(hnp.arrays(np.int64, st.integers(0, 15), elements=st.integers(0, 3)), st.sampled_from([1, 3, 5, 7]))
def test_majority_equals_loop(labels, window):
    expected = []
    for t, own in enumerate(labels):
        around = labels[max(0, t - window // 2) : t + window // 2 + 1].tolist()
        most = max(Counter(around).values())
        winners = [label for label in around if around.count(label) == most]
        expected.append(own if own in winners else winners[0])
    assert majority_filter(labels, window).tolist() == expected


@settings(deadline=None)
@given(matrices(st.integers(1, 9)), matrices(st.integers(2, 5)), st.sampled_from([1, 5]))
def test_best_scores_equal_loop(h, z, window):
    z, t = np.concatenate([z, np.eye(3, dtype=np.float32)]), len(h) // 2
    texts = [str(k) for k in range(len(z))]
    best = {rule: label_by(rule, [h], z, texts, 0.5, window)[1][0][t] for rule in RULES}
    assert {best["eq6"], best["eq6_keep"], best["quantile"]} == {max(float(h[t] @ label) for label in z)}
    norms = [np.linalg.norm(h[t]) * np.linalg.norm(label) for label in z]
    cosines = [h[t] @ label / norm if norm else 0 for label, norm in zip(z, norms, strict=True)]
    assert best["cosine"] == pytest.approx(max(cosines), abs=1e-6)
    around = h[max(0, t - window // 2) : t + window // 2 + 1]
    margins = [np.mean([second @ label - np.mean([second @ each for each in z]) for second in around]) for label in z]
    assert best["margin"] == pytest.approx(max(margins), abs=1e-4)


@pytest.mark.parametrize(
    ("rule", "expected"), [("eq6", 2), ("eq6_keep", 8), ("cosine", 0.5**0.5), ("quantile", 60), ("margin", 60 * 0.375)]
)
def test_thresholds(rule, expected):
    z = np.array([[1, 0], [2, 2], [2, 2], [0, 1]], np.float32)
    h = np.zeros((101, 2), np.float32)
    h[:, 0] = np.arange(101) / 2  # the best label's score is the second's number, by a margin of three eighths of it
    labels, _, threshold = label_by(rule, [h], z, ["a", "b", "b", "c"], 0.6, 1)
    assert threshold == pytest.approx(expected)
    if rule in ("quantile", "margin"):
        assert (labels[0] == 0).mean() == pytest.approx(0.6, abs=0.01)


def test_texts_of_another_number_and_a_threshold_of_nan_are_refused():
    z = np.eye(3, dtype=np.float32)
    for texts in (["a", "b"], ["a", "b", "c", "d"]):
        with pytest.raises(ValueError, match="a row for each text"):
            outside_threshold(z, texts)
    with pytest.raises(ValueError, match="threshold nan"):
        label_seconds(z, z, float("nan"))
