import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vclip.tasks.ties import once, products

few_values = hnp.arrays(
    np.float32, st.tuples(st.integers(0, 12), st.integers(1, 2)), elements=st.sampled_from([-0.0, 0.0, 1.0, 2.0])
)


@given(st.lists(st.sampled_from("abcd")))
def test_once_equals_loop(items):
    found, which = once(iter(items))
    assert found == sorted(set(items), key=items.index) and [found[w] for w in which] == items


@given(few_values, few_values)
def test_products_are_those_of_the_matrices(queries, rows):
    queries = np.resize(queries, (len(queries), rows.shape[1]))
    np.testing.assert_array_equal(products(queries, rows), queries @ rows.T)


@pytest.mark.parametrize("k", [6, 23, 778])
def test_equal_rows_have_equal_products(k):
    """Which BLAS alone does not give: at these sizes it rounds the last column otherwise than the first."""
    rng = np.random.default_rng(k)
    rows = rng.standard_normal((k, 768), dtype=np.float32)
    rows[[k // 2, k - 1]] = rows[0]
    for seconds in (1, 7, 300):
        got = products(rng.standard_normal((seconds, 768), dtype=np.float32), rows)
        assert (got[:, 0] == got[:, k - 1]).all() and (got[:, 0] == got[:, k // 2]).all()
