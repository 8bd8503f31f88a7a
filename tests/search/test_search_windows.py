import indexes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vclip.models.windows import sliding_windows
from vclip.neighbours import nearest
from vclip.search.index import MomentIndex
from vclip.search.windows import Windows, build, moments, read, seconds_of, standing_out, write


def clustered(n: int, dim: int = 16) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((40, dim))[rng.integers(0, 40, n)] + 0.3 * rng.standard_normal((n, dim))).astype("f4")


def in_blocks(rows: np.ndarray) -> list[np.ndarray]:
    return np.split(rows, np.sort(np.random.default_rng(1).integers(0, len(rows), 50)))


@pytest.fixture(params=[10_000, 0])
def limit(request, monkeypatch) -> int:
    monkeypatch.setattr("vclip.search.windows.EXACT_UP_TO", request.param)
    return request.param


def test_exact_below_the_limit_and_in_cells_above(monkeypatch):
    rows, queries = clustered(3000), clustered(3010)[3000:]
    exact = build(in_blocks(rows))
    monkeypatch.setattr("vclip.search.windows.EXACT_UP_TO", 2999)
    cells = build(in_blocks(rows))
    truth = np.argsort(-(queries @ rows.T), axis=1)[:, :10]
    scores, found = nearest(exact, queries, 10)
    np.testing.assert_array_equal(found, truth)
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ rows.T, truth, 1), rtol=1e-5)
    assert not hasattr(exact, "nprobe") and cells.nlist == 55 and cells.ntotal == 3000
    approximate = nearest(cells, queries, 10)[1]
    assert np.mean([len({*a} & {*b}) / 10 for a, b in zip(approximate, truth, strict=True)]) > 0.8


def test_ranked_gives_every_window_once_best_first(limit):
    rows = clustered(1500)
    one_each = np.ones(1500, np.int64)
    windows = Windows(build([rows]), one_each, one_each, 32, 16)
    z_t = clustered(1501)[1500]
    ranked = list(windows.ranked(z_t))
    assert sorted(w for w, _ in ranked) == list(range(1500))
    np.testing.assert_allclose([s for _, s in ranked], rows[[w for w, _ in ranked]] @ z_t, rtol=2e-3, atol=2e-3)
    if limit:
        assert all(a >= b for (_, a), (_, b) in zip(ranked, ranked[1:], strict=False))


def test_best_two_looks_past_a_long_video():
    rows = clustered(500)
    z_t = rows.mean(0)
    order = np.argsort(-(rows @ z_t))
    rows = rows[order]  # video 0 owns the 480 best
    windows = Windows(build([rows]), np.array([7680 + 16, 320 + 16]), np.array([480, 20]), 32, 16)
    video, best, other = windows.best_two(z_t)
    assert video == 0 and best == pytest.approx(rows[0] @ z_t) and other == pytest.approx(rows[480] @ z_t)
    alone = Windows(build([rows]), np.array([8016]), np.array([500]), 32, 16)
    assert np.isnan(alone.best_two(z_t)[2])


def test_vectors_that_are_no_numbers_are_not_found():
    rows = np.full((100, 16), np.nan, np.float32)
    windows = Windows(build([rows]), np.array([1616]), np.array([100]), 32, 16)
    with pytest.raises(ValueError, match=r"none of the index's 100 windows.*call update\(\)"):
        windows.best_two(clustered(1)[0])


@given(st.lists(st.integers(1, 100), min_size=1, max_size=6), st.integers(1, 32))
def test_windows_are_the_sliding_ones(seconds, size):
    step = max(1, size // 2)
    spans = [sliding_windows(n, size, step) for n in seconds]
    windows = Windows(None, np.array(seconds), np.array([len(s) for s in spans]), size, step)
    found = list(zip(windows.video.tolist(), windows.start.tolist(), windows.end.tolist(), strict=True))
    assert found == [(v, *span) for v, s in enumerate(spans) for span in s]


def test_a_file_gives_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("vclip.search.windows.EXACT_UP_TO", 0)
    rows, query = clustered(2000), clustered(2003)[2000:]
    index = build([rows])
    write(index, tmp_path / "w.faiss")
    again = read(tmp_path / "w.faiss")
    np.testing.assert_array_equal(nearest(again, query, 5)[1], nearest(index, query, 5)[1])
    assert again.nprobe == index.nprobe
    (tmp_path / "other.faiss").write_bytes(b"something else")
    for name in ("other.faiss", "none.faiss"):
        with pytest.raises(ValueError, match=f"{name}.*makes it again"):
            read(tmp_path / name)


@settings(max_examples=60)
@given(st.lists(st.integers(-64, 64), min_size=1, max_size=32), st.integers(1, 4))
def test_standing_out_is_the_best_of_all_runs(scores, shortest):
    x = np.array(scores, np.float32)
    excess = x.astype(float) - x.astype(float).mean() - x.astype(float).std() / 2
    best, value = None, -np.inf
    for start in range(len(x)):
        for end in range(start + min(shortest, len(x)), len(x) + 1):
            if (total := sum(excess[start:end])) > value + 1e-9:
                best, value = (start, end), total
    start, end = standing_out(x, shortest)
    assert best is not None and end - start >= min(shortest, len(x))
    assert sum(excess[start:end]) == pytest.approx(value, abs=1e-9)


def test_standing_out_finds_a_step():
    assert standing_out(np.array([0, 1, 0, 0, 5, 6, 5, 7, 0, 1, 0, 4, 0, 0], np.float32)) == (4, 8)
    assert standing_out(np.array([0, 0, 9, 0, 0], np.float32)) in ((1, 3), (2, 4))
    assert standing_out(np.full(7, 3, np.float32))[1] >= 2 and standing_out(np.ones(1, np.float32)) == (0, 1)


def test_windows_are_looked_into_as_they_are_wanted(tmp_path):
    index = MomentIndex.build(indexes.clip(), indexes.folder(tmp_path / "videos", (50, 20)))
    z_t, windows, asked = index.clip.encode_texts(["w3"])[0], index._load(), []
    ranked = (asked.append(w) or (w, score) for w, score in windows.ranked(z_t))
    found = moments(index.clip, index.corpus, windows, ranked, z_t)
    assert not asked
    (video, start, end, score), *others = found
    assert len(asked) == len(windows) == 4 and score == next(windows.ranked(z_t))[1]
    assert all(v != video or e <= start or end <= s for v, s, e, _ in others)
    assert list(moments(index.clip, index.corpus, windows, iter([]), z_t)) == []
    clips = [np.array(index.corpus.features(i)) for i in range(2)]
    clips[1][3, 2] = np.nan
    with pytest.raises(
        ValueError, match=r"NaN or infinity of 'video 1.mov': .* features-00001.*delete.*call update\(\)"
    ):
        seconds_of(index.clip, index.corpus, [0, 1], clips)
