"""Compute items in a thread before they are asked for."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


def prefetch(items: Generator[T, None, None], n: int = 1) -> Generator[T, None, None]:
    """Yield the items, up to `n` computed ahead in a thread; errors come in turn, closing closes `items` too."""
    pool, end = ThreadPoolExecutor(1), object()
    try:
        ahead: deque[Any] = deque(pool.submit(next, items, end) for _ in range(n))
        while (item := ahead.popleft().result()) is not end:
            ahead.append(pool.submit(next, items, end))
            yield item
    finally:
        with suppress(RuntimeError):  # the garbage collector may run in the pool's own thread
            pool.shutdown(cancel_futures=True)
            items.close()
