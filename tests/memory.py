"""How much memory a process has held."""

import re
from pathlib import Path


def peak_mb() -> float:
    """MB resident at most since this program was started.

    Not getrusage's ru_maxrss, which a program inherits from the process that starts it.
    """
    (found,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found) / 1024
