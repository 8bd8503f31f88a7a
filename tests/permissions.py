"""What a user without root's rights may do: root reads and writes whatever a file's mode says."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def unprivileged(folder: Path) -> Iterator[None]:
    """In `folder`, which anybody may enter, without rights: name its files by relative paths meanwhile."""
    before = Path.cwd()
    folder.chmod(0o755)
    os.chdir(folder)
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)
        os.chdir(before)
