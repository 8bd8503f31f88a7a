"""A program stopped at a chosen change of a file, or killed at a chosen moment."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path


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


def kill_when(start: Callable[[], subprocess.Popen], output: Path, moment: Callable[[Path], bool], wait: float) -> None:
    """SIGKILL a run `wait` seconds after `moment(output)` came, while it holds; a run that ends before is started anew.

    The run is held still while `moment` is asked for a second time, so that a late look hits no other.
    """
    for _ in range(20):
        shutil.rmtree(output, ignore_errors=True)
        process = start()
        try:
            while process.poll() is None:
                if moment(output):
                    time.sleep(wait)
                    process.send_signal(signal.SIGSTOP)
                    with suppress(ChildProcessError):  # it has ended, and that is known
                        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
                    if moment(output):
                        break
                    process.send_signal(signal.SIGCONT)
                time.sleep(0.0002)
        finally:
            process.kill()
            ended = process.wait()
        if ended == -signal.SIGKILL:
            return
    raise AssertionError("twenty runs ended before they could be killed")


def after_rows(n: int) -> Callable[[Path], bool]:
    """A moment for `kill_when`: the run has written n rows of its log."""
    return lambda output: (output / "log.jsonl").exists() and (output / "log.jsonl").read_bytes().count(b"\n") >= n
