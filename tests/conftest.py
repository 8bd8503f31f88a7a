import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # processes of one thread each; set before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings
from jaxtyping import install_import_hook

pytest_plugins = ["zero_shot"]

ROOT = Path(__file__).resolve().parent.parent
ANNOTATED = [file for file in (ROOT / "vclip").rglob("*.py") if "from jaxtyping" in file.read_text(encoding="utf-8")]
BENCHMARKS = ROOT / "tests" / "benchmarks"

# how long an example takes, or its drawing, says how busy the machine is
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_configure(config) -> None:
    # for the whole run: `vclip` imports its modules when they are first used; benchmarks time them as they are
    if not all(BENCHMARKS in Path(arg.partition("::")[0]).resolve().parents for arg in config.args):
        modules = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in ANNOTATED]
        install_import_hook(modules, "checked.tensors")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference numbers, annotations and videos: $VCLIP_SHARED, else ../shared beside the project."""
    path = Path(os.environ.get("VCLIP_SHARED") or ROOT.parent / "shared")
    if not path.is_dir():
        message = f"no reference data at {path}: set VCLIP_SHARED to run this test"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


def pytest_collection_modifyitems(items) -> None:
    for item in items:
        if item.path.suffix == ".ipynb":
            item.add_marker("long")
