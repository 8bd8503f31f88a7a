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


def thumbnails() -> dict[tuple[str, int], np.ndarray]:
    """Small RGB frames of the test clips by (video_id, second): two a clip, a second after its start first."""
    import pyarrow.parquet as pq
    from PIL import Image

    rows = pq.read_table(minihowto() / "thumbnails.parquet").to_pylist()
    return {(row["video_id"], row["second"]): np.asarray(Image.open(io.BytesIO(row["jpeg"]))) for row in rows}
