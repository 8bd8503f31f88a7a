import numpy as np
import pytest

from vclip.search.vectors import index_rows, nearest


def clustered(n: int, dim: int = 16) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((40, dim))[rng.integers(0, 40, n)] + 0.3 * rng.standard_normal((n, dim))).astype("f4")


@pytest.mark.parametrize("cells", [False, True])
def test_the_nearest_are_those_of_the_loop(cells):
    rows, queries = clustered(3000), clustered(3010)[3000:]
    index = index_rows(np.split(rows, [0, 1, 7, *range(20, 3000, 20)]), cells)
    similar = queries @ rows.T
    truth = np.argsort(-similar, axis=1)[:, :10]
    scores, found = nearest(index, queries, 10)
    assert index.ntotal == 3000 and hasattr(index, "nprobe") == cells
    if cells:
        assert index.nlist == 55 and index.nprobe == 3
        assert np.mean([len({*a} & {*b}) / 10 for a, b in zip(found, truth, strict=True)]) > 0.8
    else:
        np.testing.assert_array_equal(found, truth)
    expected, error = np.take_along_axis(similar, found, 1), 5e-3 if cells else 1e-4
    np.testing.assert_allclose(scores, expected, rtol=error, atol=error)


@pytest.mark.parametrize("cells", [False, True])
def test_only_the_allowed_are_found(cells):
    rows, query = clustered(1000), clustered(1001)[1000:]
    allowed = np.arange(1000) % 97 == 3
    found = nearest(index_rows([rows], cells=cells), query, 20, allowed)[1][0]
    expected = sorted(np.flatnonzero(allowed), key=lambda i: -(rows[i] @ query[0]))
    assert found[:11].tolist() == expected and (found[11:] == -1).all()


def test_few_rows_have_few_cells():
    assert [index_rows([clustered(n)], cells=True).nlist for n in (1, 38, 200, 3000)] == [1, 1, 5, 55]


@pytest.mark.parametrize("n", [900, 2500])
def test_where_the_cells_visited_hold_too_few_all_are(n):
    rows = clustered(3000)
    index = index_rows([rows], cells=True)
    assert (index.search(rows[:3], n)[1][:, -1] < 0).all()
    assert (nearest(index, rows[:3], n)[1] >= 0).all()
