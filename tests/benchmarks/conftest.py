"""Speed as ratios: each case times our way and the plain way in turn, in one run, and the medians are compared.

`pytest -n 0 tests/benchmarks/bench_*.py` prints the table; `--benchmark-json=FILE` keeps it, with the machine, for
notebook 11 (`data_samples/benchmarks/cpu.json` is such a file).
"""

import os
import platform
from collections.abc import Callable
from time import perf_counter

import numpy as np
import pytest
import torch

ROWS: list[dict] = []


@pytest.fixture
def compare(benchmark) -> Callable[..., float]:
    """`compare(what, plain, ours, ...)`: times both in turn and adds a row to the table.

    `limit` is what nothing could beat: a ratio, or the work that nobody is spared, timed in the same turn. `target` is
    what was asked for, `conditions` what the figure depends on.
    Returns median seconds of `plain` over median seconds of `ours`.
    """

    def run(
        what: str,
        plain: Callable[[], object],
        ours: Callable[[], object],
        *,
        rounds: int = 7,
        target: float | None = None,
        limit: float | Callable[[], object] | None = None,
        **conditions,
    ) -> float:
        seconds, bare = [], []

        def before() -> None:
            start = perf_counter()
            plain()
            seconds.append(perf_counter() - start)
            if callable(limit):
                start = perf_counter()
                limit()
                bare.append(perf_counter() - start)

        plain()
        benchmark.pedantic(ours, setup=before, rounds=rounds, warmup_rounds=1)
        plain_s, ours_s = float(np.median(seconds[1:])), float(benchmark.stats.stats.median)
        row: dict = {"what": what, "plain_s": plain_s, "ours_s": ours_s, "ratio": plain_s / ours_s}
        if callable(limit):
            bare_s = float(np.median(bare[1:]))
            row |= {"limit": plain_s / bare_s, "bare_s": round(bare_s, 4)}
        else:
            row["limit"] = limit
        row |= {"target": target, "rounds": rounds} | conditions
        benchmark.extra_info.update(row)
        ROWS.append(row)
        return row["ratio"]

    return run


@pytest.fixture
def report(benchmark) -> Callable[..., None]:
    """`report(what, ratio, ...)`: adds a row that is counted or timed by the case itself."""

    def add(what: str, ratio: float, *, target: float | None = None, limit: float | None = None, **conditions) -> None:
        benchmark.pedantic(lambda: None, rounds=1)
        row = {"what": what, "ratio": ratio, "target": target, "limit": limit} | conditions
        benchmark.extra_info.update(row)
        ROWS.append(row)

    return add


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(output_json) -> None:
    """The rows and what they depend on, in place of the plugin's many figures and the machine's name."""
    processor = output_json["machine_info"]["cpu"].get("brand_raw", platform.processor())
    machine = {"processor": processor, "cores": os.cpu_count(), "threads": torch.get_num_threads()}
    if torch.cuda.is_available():
        machine["card"] = torch.cuda.get_device_name()
    machine |= {"torch": torch.__version__, "python": platform.python_version(), "date": output_json["datetime"][:10]}
    output_json.clear()
    output_json.update(machine=machine, rows=ROWS)


def pytest_terminal_summary(terminalreporter) -> None:
    if not ROWS:
        return
    write = terminalreporter.write_line
    write("")
    write(
        f"{os.cpu_count()} cores of {platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    )
    write("| what | plain | ours | ratio | limit | target |")
    write("|---|---|---|---|---|---|")
    for row in ROWS:
        times = [f"{row[name]:.4g} s" if name in row else "" for name in ("plain_s", "ours_s")]
        numbers = ["" if row[name] is None else f"{row[name]:.2f}" for name in ("ratio", "limit", "target")]
        write("| " + " | ".join([row["what"], *times, *numbers]) + " |")
    shown = ("what", "plain_s", "ours_s", "ratio", "limit", "target")
    for row in ROWS:
        if conditions := {name: value for name, value in row.items() if name not in shown}:
            write(f"{row['what']}: " + ", ".join(f"{name} {value}" for name, value in conditions.items()))
