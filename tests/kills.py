"""Work in a process of its own, killed at random moments."""

import multiprocessing
from collections.abc import Callable

import numpy as np

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["indexes", "vclip.search.index"])


def run(work: Callable, *arguments, kill_after: float | None = None) -> int:
    """`work(*arguments)` elsewhere; its exit code, -9 if it was killed after so many seconds."""
    process = CONTEXT.Process(target=work, args=arguments)
    process.start()
    process.join(kill_after)
    if process.is_alive():
        process.kill()
    process.join()
    assert process.exitcode in (0, -9)
    return process.exitcode


def killed(work: Callable, times: int, longest: float, finished: Callable, fresh: Callable, seed: int = 0) -> None:
    """Kill `work(*fresh())` so many times, each up to `longest` seconds after its start, and run it again.

    When it has come to its end, `finished` looks at what there is, and it begins with `fresh()` arguments.
    """
    rng, arguments = np.random.default_rng(seed), fresh()
    while times:
        if run(work, *arguments, kill_after=rng.uniform(0, longest)) == 0:
            finished(*arguments)
            arguments = fresh()
        else:
            times -= 1
    assert run(work, *arguments) == 0
    finished(*arguments)
