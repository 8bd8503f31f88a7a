import itertools
from dataclasses import replace

import indexes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vclip.models.windows import sliding_windows
from vclip.search.index import SHORTEST, MomentIndex, standing_out
from vclip.search.vectors import SENTENCES, Windows, index_rows


def clustered(n: int, dim: int = 16) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((40, dim))[rng.integers(0, 40, n)] + 0.3 * rng.standard_normal((n, dim))).astype("f4")


@pytest.mark.parametrize("cells", [False, True])
def test_ranked_gives_every_window_once_best_first(cells):
    rows = clustered(1500)
    windows = Windows(index_rows([rows], cells), np.arange(1500), np.ones(1500, np.int64), 32, 16)
    z_t = clustered(1501)[1500]
    ranked = list(windows.ranked(z_t))
    assert sorted(w for w, _ in ranked) == list(range(1500))
    np.testing.assert_allclose([s for _, s in ranked], rows[[w for w, _ in ranked]] @ z_t, rtol=2e-3, atol=2e-3)
    if not cells:
        assert all(a >= b for (_, a), (_, b) in zip(ranked, ranked[1:], strict=False))


def test_best_two_looks_past_a_long_video():
    rows = clustered(500)
    z_t = rows.mean(0)
    order = np.argsort(-(rows @ z_t))
    rows = rows[order]  # video 1 owns the 480 best
    windows = Windows(index_rows([rows]), np.array([1, 0]), np.array([320 + 16, 7680 + 16]), 32, 16)
    video, best, other = windows.best_two(z_t)
    assert video == 1 and best == pytest.approx(rows[0] @ z_t) and other == pytest.approx(rows[480] @ z_t)
    alone = Windows(index_rows([rows]), np.array([0]), np.array([8016]), 32, 16)
    assert np.isnan(alone.best_two(z_t)[2])


@given(st.permutations(range(6)), st.lists(st.integers(1, 100), min_size=6, max_size=6), st.integers(1, 32))
def test_windows_are_the_sliding_ones(order, seconds, size):
    step = max(1, size // 2)
    windows = Windows(None, np.array(order), np.array(seconds), size, step)
    found = list(zip(windows.video.tolist(), windows.start.tolist(), windows.end.tolist(), strict=True))
    assert found == [(v, *span) for v in order for span in sliding_windows(seconds[v], size, step)]


@settings(max_examples=60)
@given(st.lists(st.integers(-64, 64), min_size=1, max_size=32))
def test_standing_out_is_the_best_of_all_runs(scores):
    x = np.array(scores, np.float32)
    excess = x.astype(float) - x.astype(float).mean() - x.astype(float).std() / 2
    best, value = None, -np.inf
    for start in range(len(x)):
        for end in range(start + min(SHORTEST, len(x)), len(x) + 1):
            if (total := sum(excess[start:end])) > value + 1e-9:
                best, value = (start, end), total
    start, end = standing_out(x)
    assert best is not None and end - start >= min(SHORTEST, len(x))
    assert sum(excess[start:end]) == pytest.approx(value, abs=1e-9)


def test_standing_out_finds_a_step():
    assert standing_out(np.array([0, 1, 0, 0, 5, 6, 5, 7, 0, 1, 0, 4, 0, 0], np.float32)) == (4, 8)
    assert standing_out(np.array([0, 0, 9, 0, 0], np.float32)) in ((1, 3), (2, 4))
    assert standing_out(np.full(7, 3, np.float32))[1] >= 2 and standing_out(np.ones(1, np.float32)) == (0, 1)


def test_windows_are_looked_into_as_they_are_wanted(tmp_path, monkeypatch):
    index = MomentIndex.build(indexes.clip(), indexes.folder(tmp_path / "videos", (50, 20)))
    ranked, asked = index._windows.ranked, []
    logged = lambda z, allowed=None: (asked.append(w) or (w, score) for w, score in ranked(z, allowed))  # noqa: E731
    monkeypatch.setattr(index._windows, "ranked", logged)
    monkeypatch.setattr(index._windows, "best_two", lambda z: (0, 0.0, 0.0))
    first = index.search("w3", k=1)
    assert len(first) == len(asked) == 1 and first[0].score == next(ranked(index.clip.encode_texts(["w3"])[0]))[1]
    hits = index.search("w3", k=9)
    assert len(asked) == 1 + 4 and hits[:1] == [replace(first[0], margin=hits[0].margin)]
    spans = [(hit.video, hit.start, hit.end) for hit in hits]
    assert all(v != w or b <= c or d <= a for (v, a, b), (w, c, d) in itertools.combinations(spans, 2))


def test_256_different_plain_sentences():
    assert len(SENTENCES) == len(set(SENTENCES)) == 256
    assert all(sentence == sentence.strip().lower() and 3 <= len(sentence.split()) <= 4 for sentence in SENTENCES)
    assert SENTENCES[0] == "chop the carrots" and SENTENCES[-1] == "wrap the present"
