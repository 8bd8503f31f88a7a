"""A program stopped at a chosen change of a file."""

from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager


class Stop(Exception):
    pass


def stopping(monkeypatch, *changes: tuple[object, str]) -> Callable[[int], AbstractContextManager]:
    """`with stop_at(n)`: the n-th call of any of `changes` ((module, name), ...) raises Stop, not doing its work."""
    countdown = 0

    def watched(change):
        def changed(*arguments, **options):
            nonlocal countdown
            countdown -= 1
            if countdown == 0:
                raise Stop
            return change(*arguments, **options)

        return changed

    @contextmanager
    def stop_at(n: int):
        nonlocal countdown
        countdown = n
        try:
            yield
        finally:
            countdown = 0

    for module, name in changes:
        monkeypatch.setattr(module, name, watched(getattr(module, name)))
    return stop_at
