import gc
import subprocess
import sys
import threading
import time
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import still_running

from vclip.data.prefetch import prefetch


@given(items=st.lists(st.none() | st.integers()), n=st.integers(1, 5))
def test_the_same_items_in_order(items, n):
    assert list(prefetch((item for item in items), n)) == items


@pytest.mark.parametrize("n", [1, 3])
def test_n_are_computed_meanwhile_and_no_more(n):
    asked = [threading.Event() for _ in range(9)]

    def items():
        for item, event in enumerate(asked):
            event.set()
            yield item

    got = prefetch(items(), n)
    for item in range(9 - n):
        assert next(got) == item and all(event.wait(60) for event in asked[: item + 1 + n])
        time.sleep(0.01)
        assert not any(event.is_set() for event in asked[item + 1 + n :])
    got.close()


@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt])
def test_an_error_comes_in_its_turn_and_says_where(error):
    def items():
        yield 0
        yield 1
        raise error("as asked")

    threads, got = set(threading.enumerate()), prefetch(items(), 5)
    assert (next(got), next(got)) == (0, 1)
    with pytest.raises(error, match="as asked") as raised:
        next(got)
    assert raised.traceback[-1].name == "items" and not still_running(threads)


def test_closed_it_waits_for_the_item_under_way_and_closes_the_rest():
    begun, made, closed = threading.Event(), [], []

    def items():
        try:
            made.append(0)
            yield 0
            begun.set()
            time.sleep(0.1)
            made.append(1)
            yield 1
            made.append(2)
            yield 2
        finally:
            closed.append(True)

    threads, source = set(threading.enumerate()), items()
    got = prefetch(source, 1)
    assert next(got) == 0 and begun.wait(60)
    got.close()
    assert made == [0, 1] and closed and not still_running(threads)


def test_what_was_computed_but_not_asked_for_is_let_go():
    class Item:
        pass

    made, ended = [], threading.Event()

    def items():
        for _ in range(3):
            made.append(weakref.ref(item := Item()))
            yield item
            del item
        ended.set()

    got = prefetch(items(), 5)
    first = next(got)
    assert ended.wait(60)
    gc.disable()
    try:
        got.close()
        del got
        assert [ref() is not None for ref in made] == [True, False, False] and first is made[0]()
    finally:
        gc.enable()


FORGOTTEN = """
from vclip.data.prefetch import prefetch
got = prefetch(iter_forever for iter_forever in iter(int, 1))
print(next(got))
"""


def test_a_program_ends_though_it_is_never_closed():
    done = subprocess.run([sys.executable, "-c", FORGOTTEN], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "0\n", "")


def test_collected_in_its_own_thread_it_ends_quietly(monkeypatch):
    dropped, collected, complaints = threading.Event(), threading.Event(), []
    monkeypatch.setattr(sys, "unraisablehook", complaints.append)

    def items():
        yield 0
        assert dropped.wait(60)
        gc.collect()
        collected.set()
        yield 1

    gc.disable()
    try:
        cycle: list = [prefetch(items(), 5)]
        cycle.append(cycle)
        assert next(cycle[0]) == 0
        del cycle
        dropped.set()
        assert collected.wait(60) and not complaints
    finally:
        gc.enable()


def test_the_garbage_collector_may_close_it_in_a_thread_that_is_starting_or_ending():
    """Then Python (to 3.12) holds a lock that joining a thread takes: a test run hung there."""
    lock = getattr(threading, "_shutdown_locks_lock", threading.Lock())
    got = prefetch((item for item in range(9)), 3)

    def close() -> None:
        with lock:
            got.close()

    assert next(got) == 0
    closing = threading.Thread(target=close, daemon=True)
    closing.start()
    closing.join(60)
    assert not closing.is_alive()
