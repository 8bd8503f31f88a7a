"""The README's pictures of the notebooks: `python data_samples/notebook_pictures.py`, after one was executed.

Of each notebook its largest picture, as a small JPEG.
"""

import base64
import io
from pathlib import Path

import nbformat
from PIL import Image

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
SIZE = (200, 120)  # pixels


def pictures(path: Path) -> list[Image.Image]:
    """All pictures of a notebook's outputs, in order."""
    cells = nbformat.read(path, 4).cells
    outputs = [output.get("data", {}) for cell in cells if cell.cell_type == "code" for output in cell.outputs]
    stored = [data[kind] for data in outputs for kind in ("image/png", "image/jpeg") if kind in data]
    return [Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB") for text in stored]


def main() -> None:
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        if not (found := pictures(path)):
            continue
        picture = max(found, key=lambda picture: picture.width * picture.height)
        picture.thumbnail((2 * SIZE[0], 2 * SIZE[1]))
        picture.save(NOTEBOOKS / "pictures" / f"{path.stem}.jpg", quality=80)


if __name__ == "__main__":
    main()
