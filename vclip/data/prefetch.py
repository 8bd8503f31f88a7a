"""Compute items in a thread before they are asked for."""

from collections.abc import Generator
from contextlib import closing
from queue import SimpleQueue
from threading import Semaphore, Thread, current_thread
from typing import TypeVar

T = TypeVar("T")


def prefetch(items: Generator[T, None, None], n: int = 1) -> Generator[T, None, None]:
    """Yield the items, up to `n` computed ahead in a thread; errors come in turn, closing closes `items` too."""
    ready: SimpleQueue[tuple[T] | BaseException | None] = SimpleQueue()
    free, stopped = Semaphore(n), False

    def work() -> None:
        try:
            with closing(items):
                while free.acquire() and not stopped:
                    ready.put((next(items),))
        except StopIteration:
            ready.put(None)
        except BaseException as error:
            ready.put(error)

    # a daemon thread, so that a generator which is never closed does not keep the process alive
    thread = Thread(target=work, daemon=True)
    try:
        thread.start()
        while isinstance(item := ready.get(), tuple):
            free.release()
            yield item[0]
        if item is not None:
            raise item
    finally:
        stopped = True
        free.release()
        # the garbage collector may run in any thread
        if thread.is_alive() and thread is not current_thread():
            thread.join()
