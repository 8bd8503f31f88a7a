"""Where the corpus that ships is found, whatever the working directory, and pictures of its clips."""

import io
from pathlib import Path

import numpy as np


def minihowto() -> Path:
    """The folder `data_samples/minihowto` beside the installed package.

    Raises FileNotFoundError if the package was installed without it.
    """
    path = Path(__file__).resolve().parent.parent / "data_samples" / "minihowto"
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is missing: install from a clone of the repository with `pip install -e .`")
    return path


def thumbnails(dataset: str | None = None) -> dict[tuple[str, int], np.ndarray]:
    """Small RGB frames by (video_id, second).

    Of the clips in YouCook2's format two each, a second after its start first; of another `dataset` ("msrvtt",
    "didemo", "coin", "crosstask") one in the middle of each step, both styles. Raises FileNotFoundError for any other.
    """
    import pyarrow.parquet as pq
    from PIL import Image

    sets = sorted(path.parent.name for path in minihowto().glob("*/thumbnails.parquet"))
    if dataset is not None and dataset not in sets:
        raise FileNotFoundError(f"no thumbnails of {dataset!r}: there are those of {', '.join(sets)}, or of none named")
    rows = pq.read_table(minihowto() / (dataset or "") / "thumbnails.parquet").to_pylist()
    return {(row["video_id"], row["second"]): np.asarray(Image.open(io.BytesIO(row["jpeg"]))) for row in rows}
