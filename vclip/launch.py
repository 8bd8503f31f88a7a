"""As many processes as `accelerate launch` was asked for, on a CPU too."""

import os
import sys

import psutil


def start_processes(module: str, arguments: list[str]) -> None:
    """Become the n processes of `accelerate launch --cpu --num_processes n -m module`; else return at once.

    Accelerate's launcher for CPUs starts one process and leaves the others to MPI. This replaces that one process by
    torch's own launcher, so that the n processes meet over gloo without MPI. Raises RuntimeError if n cannot be read.
    """
    asked_for_several = (
        os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("true", "1") and "MASTER_ADDR" in os.environ
    )
    if not asked_for_several or any(name.endswith(("WORLD_SIZE", "PMI_SIZE")) for name in os.environ):
        return
    parent = psutil.Process().parent()
    words = [word.replace("-", "_").split("=") for word in (parent.cmdline() if parent else [])]
    flat = [part for word in words for part in word]
    if "__num_processes" not in flat:
        raise RuntimeError(
            f"cannot read the number of processes: start them with torchrun --nproc_per_node N -m {module}"
        )
    number = flat[flat.index("__num_processes") + 1]
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        os.environ.pop(name)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", number]
    os.execv(sys.executable, [*launcher, "-m", module, *arguments])
