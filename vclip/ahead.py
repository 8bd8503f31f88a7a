"""Work done ahead, in a thread, while what came before it is used."""

from collections.abc import Generator
from contextlib import closing
from queue import SimpleQueue
from threading import Semaphore, Thread
from typing import TypeVar

T = TypeVar("T")


def ahead(items: Generator[T, None, None], n: int = 1) -> Generator[T, None, None]:
    """The same items in order, up to `n` of them computed in a thread before they are asked for.

    An error comes in its turn. Closed, or ended by an error, it closes `items` and waits for the one under way.
    """
    ready: SimpleQueue[tuple[T] | BaseException] = SimpleQueue()
    free, stopped = Semaphore(n), False

    def work() -> None:
        try:
            with closing(items):
                while free.acquire() and not stopped:
                    ready.put((next(items),))
        except BaseException as error:
            ready.put(error)

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        while not isinstance(item := ready.get(), BaseException):
            free.release()
            yield item[0]
        if not isinstance(item, StopIteration):
            raise item
    finally:
        stopped = True
        free.release()
        thread.join()
