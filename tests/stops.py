"""A program stopped at a chosen change of a file, or killed at a chosen moment."""

import multiprocessing
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


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["vclip.training.pretrain", "vclip.training.finetune"])


class Forked:
    """A call in a process of its own, as `kill_when` wants it: forked off one that has imported all, which takes
    seconds."""

    def __init__(self, function: Callable, *arguments):
        self.process = FORKS.Process(target=function, args=arguments)
        self.process.start()
        self.pid = self.process.pid

    def poll(self) -> int | None:
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.process.kill()

    def wait(self) -> int | None:
        self.process.join()
        return self.process.exitcode


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


def kill_when(
    start: Callable[[], subprocess.Popen | Forked], output: Path, moment: Callable[[Path], bool], wait: float
) -> None:
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
