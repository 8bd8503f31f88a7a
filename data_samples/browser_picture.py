"""The README's moving picture, of the browser in a real page: `python data_samples/browser_picture.py`, needs Chromium.

It types a sentence, plays the first moment, points at its curve, and asks for a second curve.
"""

import io
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from vclip import minihowto

OUT = Path(__file__).resolve().parents[1] / "notebooks" / "pictures" / "browser.gif"
SENTENCE, OTHER = "knead the popcorn", "chop the teapot"
SIZE, WIDTH, COLOURS = {"width": 1000, "height": 640}, 760, 96
CELL = """import vclip
clip = vclip.load(vclip.minihowto() / "checkpoint")
vclip.RetrievalBrowser(clip.index("videos"), k=6)"""


@contextmanager
def dashboard(folder: Path) -> Iterator[str]:
    """The address of a page that holds the browser alone, over the videos that ship."""
    shutil.copytree(minihowto() / "videos", folder / "videos", ignore=shutil.ignore_patterns(".vclip"))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)], metadata=kernel)
    nbformat.write(notebook, folder / "dashboard.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "voila", "--no-browser", f"--port={port}", "dashboard.ipynb"]
    server = subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "2"})
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def opened(page: Page, address: str) -> None:
    for _ in range(120):
        try:
            urllib.request.urlopen(f"{address}/static/", timeout=5)
        except urllib.error.HTTPError:
            break
        except OSError:
            time.sleep(0.5)
    page.goto(address, timeout=180_000)
    page.wait_for_selector(".vclip-browser", timeout=180_000)


def shots(page: Page) -> Iterator[tuple[bytes, int]]:
    """Screenshots, and for how many milliseconds each is shown."""
    page.click(".vclip-query")
    for i in range(2, len(SENTENCE) + 1, 3):
        page.fill(".vclip-query", SENTENCE[:i])
        yield page.screenshot(), 120
    page.fill(".vclip-query", SENTENCE)
    page.press(".vclip-query", "Enter")
    page.wait_for_selector(".vclip-hit img[src]")
    page.wait_for_timeout(6000)  # all pictures
    yield page.screenshot(), 1500
    page.click(".vclip-hit img")
    page.wait_for_selector(".vclip-line[d]")
    page.wait_for_function("document.querySelector('.vclip-stage video')?.readyState >= 2")
    page.wait_for_timeout(1500)
    for _ in range(8):
        page.wait_for_timeout(250)
        yield page.screenshot(), 250
    box = page.locator(".vclip-curve svg").bounding_box() or {}
    for share in (0.2, 0.5, 0.85):
        page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2)
        page.wait_for_timeout(200)
        yield page.screenshot(), 600
    page.fill(".vclip-compare input", OTHER)
    page.press(".vclip-compare input", "Enter")
    page.wait_for_timeout(2500)
    yield page.screenshot(), 2500


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, dashboard(Path(folder)) as address, sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = chromium.new_page(viewport=SIZE)
        opened(page, address)
        taken = [(Image.open(io.BytesIO(shot)).convert("RGB"), shown) for shot, shown in shots(page)]
        chromium.close()
    small = [picture.resize((WIDTH, round(WIDTH * picture.height / picture.width))) for picture, _ in taken]
    palette = small[-1].quantize(COLOURS)
    frames = [picture.quantize(COLOURS, palette=palette, dither=Image.Dither.NONE) for picture in small]
    OUT.parent.mkdir(exist_ok=True)
    frames[0].save(OUT, save_all=True, append_images=frames[1:], duration=[shown for _, shown in taken], loop=0)
    print(f"{OUT.name}: {len(frames)} frames, {OUT.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
