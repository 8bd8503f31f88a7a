"""The scrubber in JupyterLab: dragged, it follows; clicked, the video plays from there."""

import pytest
from browser.conftest import PATIENCE

pytestmark = pytest.mark.long
CELL = """curve = [0.0] * 40 + [5.0] * 8
bands = {"truth": [("knead", 40, 46)]}
video = vclip.minihowto() / "videos" / "test0000.mp4"
vclip.Scrubber(48, video, curves={"<b>knead": curve}, bands=bands)"""


def test_it_follows_the_pointer_and_plays(open_notebook, console, artefacts):
    page = open_notebook("scrubber.ipynb", cell=CELL)
    rows = page.locator(".vclip-scrub-rows")
    rows.scroll_into_view_if_needed()
    box = rows.bounding_box()
    x, y = (lambda second: box["x"] + box["width"] * second / 48), box["y"] + 60
    page.mouse.move(x(5), y)
    page.mouse.down()
    page.mouse.move(x(42.5), y, steps=4)
    status = page.locator(".vclip-scrubber .vclip-status")
    assert status.inner_text() == "0:42 · <b>knead 5.00 · truth: knead"
    assert page.locator(".vclip-scrub-large").is_visible()
    page.mouse.up()
    page.mouse.click(x(20.5), y)
    page.wait_for_function("document.querySelector('.vclip-scrubber video').currentTime > 20.5", timeout=PATIENCE)
    assert not page.locator(".vclip-scrub-large").is_visible()
    page.screenshot(path=artefacts / "scrubber.png")
    page.keyboard.press("ArrowRight")
    page.close()
    assert not console
