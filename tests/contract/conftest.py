"""These tests download transformers' own, so they run only when asked for: `pytest -m contract`."""

import pytest

from skipped import SKIPPED

# what transformers' own configuration of pytest declares and its common tests use
MARKERS = "accelerate_tests flash_attn_test flash_attn_3_test flash_attn_4_test slow torch_compile_test"


def pytest_configure(config):
    for name in MARKERS.split():
        config.addinivalue_line("markers", f"{name}: of transformers")


def pytest_ignore_collect(collection_path, config):
    return True if config.option.markexpr != "contract" else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and item.name not in SKIPPED:
        report.outcome, report.longrepr = "failed", f"skipped, but not listed in skipped.py: {report.longrepr}"
    return report
