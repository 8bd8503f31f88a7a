"""Where the corpus that ships lies."""

from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "data_samples" / "minihowto"
PROJECTION_HASH = "2090f059aaf49148"  # of the matrix that its features went through


def minihowto() -> Path:
    """The folder of MiniHowTo, `data_samples/minihowto` in the clone that `vclip` was installed from.

    Raises:
        FileNotFoundError: the package was not installed from a clone.

    Example:
        >>> (minihowto() / "train").is_dir()
        True
    """
    if not FOLDER.is_dir():
        raise FileNotFoundError(f"{FOLDER} is missing: install from a clone of the repository with `pip install -e .`")
    return FOLDER
