from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def minihowto() -> Path:
    return Path(__file__).resolve().parents[2] / "data_samples" / "minihowto"
