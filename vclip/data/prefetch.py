"""Compute items in a thread before they are asked for."""

from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor, wait
from threading import get_ident
from typing import Any, TypeVar

T = TypeVar("T")


def prefetch(items: Generator[T, None, None], n: int = 1) -> Generator[T, None, None]:
    """Yield the items, up to `n` computed ahead in a thread; errors come in turn, closing closes `items` too."""
    end, worker, ahead = object(), [], deque[Any]()
    pool = ThreadPoolExecutor(1, initializer=lambda: worker.append(get_ident()))
    try:
        ahead.extend(pool.submit(next, items, end) for _ in range(n))
        while (item := ahead[0].result()) is not end:
            ahead.popleft()
            ahead.append(pool.submit(next, items, end))
            yield item
    finally:
        # the garbage collector may come here in any thread: the pool's own, or one that starts, where a join would hang
        pool.shutdown(wait=False, cancel_futures=True)
        if get_ident() not in worker:
            wait([future for future in ahead if not future.cancelled()])
            items.close()
