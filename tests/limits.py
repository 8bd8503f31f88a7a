"""Code run with so much time and memory and no more, to see that a file's cost is in proportion to the file."""

import os
import subprocess
import sys
import threading
from pathlib import Path

from tqdm import TMonitor

LIMIT = (
    "import resource\n"
    "resource.setrlimit(resource.RLIMIT_CPU, ({seconds}, {seconds}))\n"
    "resource.setrlimit(resource.RLIMIT_AS, ({megabytes} * 2**20, {megabytes} * 2**20))\n"
)


def run_limited(script: str, *arguments: object, seconds: int = 20, megabytes: int = 3000) -> str:
    """What `script` prints; it may take so many seconds of CPU, imports included, and map so much memory."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", LIMIT.format(seconds=seconds, megabytes=megabytes) + script]
    done = subprocess.run([*command, *map(str, arguments)], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"ended with {done.returncode}: {done.stderr[-500:]}"
    return done.stdout


def still_running(threads: set[threading.Thread]) -> list[threading.Thread]:
    """Those that are not of `threads`, nor tqdm's own, and do not end within half a minute."""
    others = [thread for thread in set(threading.enumerate()) - threads if not isinstance(thread, TMonitor)]
    for thread in others:
        thread.join(30)
    return [thread for thread in others if thread.is_alive()]
