import sys
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "data_samples"
sys.path.insert(0, str(SOURCES))


@pytest.fixture(scope="session")
def minihowto() -> Path:
    return SOURCES / "minihowto"
