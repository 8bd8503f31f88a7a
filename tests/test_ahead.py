import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclip.ahead import ahead


@given(items=st.lists(st.none() | st.integers()), n=st.integers(1, 5))
def test_the_same_items_in_order(items, n):
    assert list(ahead((item for item in items), n)) == items


@pytest.mark.parametrize("n", [1, 3])
def test_n_are_computed_meanwhile_and_no_more(n):
    asked = [threading.Event() for _ in range(9)]

    def items():
        for item, event in enumerate(asked):
            event.set()
            yield item

    got = ahead(items(), n)
    for item in range(9 - n):
        assert next(got) == item and all(event.wait(10) for event in asked[: item + 1 + n])
        time.sleep(0.01)
        assert not any(event.is_set() for event in asked[item + 1 + n :])
    got.close()


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_error_comes_in_its_turn_and_says_where(error):
    def items():
        yield 0
        yield 1
        raise error("as asked")

    threads, got = threading.active_count(), ahead(items(), 5)
    assert (next(got), next(got)) == (0, 1)
    with pytest.raises(error, match="as asked") as raised:
        next(got)
    assert raised.traceback[-1].name == "items" and threading.active_count() == threads


def test_closed_it_waits_for_the_item_under_way_and_closes_the_rest():
    begun, ended, closed = threading.Event(), threading.Event(), threading.Event()

    def items():
        try:
            yield 0
            begun.set()
            time.sleep(0.1)
            ended.set()
            yield 1
            raise AssertionError("nobody wants a third")
        finally:
            closed.set()

    threads, got = threading.active_count(), ahead(items(), 1)
    assert next(got) == 0 and begun.wait(10)
    got.close()
    assert ended.is_set() and closed.is_set() and threading.active_count() == threads
