"""Where the corpus that ships lies."""

from pathlib import Path


def minihowto() -> Path:
    """The folder of MiniHowTo, `data_samples/minihowto` in the clone that `vclip` was installed from.

    Raises:
        FileNotFoundError: the package was not installed from a clone.

    Example:
        >>> (minihowto() / "train").is_dir()
        True
    """
    path = Path(__file__).resolve().parents[2] / "data_samples" / "minihowto"
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is missing: install from a clone of the repository with `pip install -e .`")
    return path
