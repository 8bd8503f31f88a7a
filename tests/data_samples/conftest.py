from pathlib import Path

import pytest

from vclip.data.corpus import Corpus


@pytest.fixture(scope="session")
def minihowto() -> Path:
    return Path(__file__).resolve().parents[2] / "data_samples" / "minihowto"


@pytest.fixture(scope="session")
def few(minihowto, tmp_path_factory) -> Path:
    """A corpus of fourteen training videos."""
    return part(Corpus.open(minihowto / "train"), 14, tmp_path_factory.mktemp("few") / "corpus")


def part(whole: Corpus, number: int, folder: Path) -> Path:
    assert whole.spec is not None
    rows = ((whole.video_ids[i], whole.features(i), whole.captions(i)) for i in range(number))
    return Corpus.create(folder, whole.spec, rows, split=whole.split, licence=whole.licence).path
