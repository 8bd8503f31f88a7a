"""Where the corpus that ships is found, whatever the working directory."""

from pathlib import Path


def minihowto() -> Path:
    """The folder `data_samples/minihowto` beside the installed package.

    Raises FileNotFoundError if the package was installed without it.
    """
    path = Path(__file__).resolve().parent.parent / "data_samples" / "minihowto"
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is missing: install from a clone of the repository with `pip install -e .`")
    return path
