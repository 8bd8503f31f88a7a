"""The map in JupyterLab: a point that is hovered shows its picture, one that is clicked opens a player below."""

import pytest
from browser.conftest import MARKUP, PATIENCE

pytestmark = pytest.mark.long
CELL = f"""import sys
sys.path.insert(0, str(vclip.minihowto().parent))
import numpy as np
from map_widget import PointMap
video = vclip.minihowto() / "videos" / "test0000.mp4"
opened = lambda i: vclip.Scrubber(48, video, start=20 if i else 5)
picture = lambda i: None if i else np.full((90, 160, 3), 200, np.uint8)
titles = [{MARKUP!r}, "second"]
PointMap(np.array([[0, 0], [1, 1]]), {{"stir": [1]}}, ("one", "other"), titles, picture, opened)"""


def test_a_point_shows_its_picture_and_opens(open_notebook, console, artefacts):
    page = open_notebook("map.ipynb", cell=CELL)
    points = page.locator(".vclip-map-plot .vclip-map-point")
    points.first.scroll_into_view_if_needed()
    assert page.locator(".vclip-map-name").all_inner_texts() == ["stir", "others"]
    points.nth(0).hover(force=True)  # the grey one, drawn first
    picture = page.locator(".vclip-map-picture")
    picture.wait_for(timeout=PATIENCE)
    assert picture.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [160, 90]
    assert page.locator(".vclip-map-title").inner_text() == MARKUP
    page.screenshot(path=artefacts / "map.png")
    points.nth(1).click(force=True)
    second = "document.querySelector('.vclip-scrubber video')?.currentTime"
    page.wait_for_function(f"{second} > 20.2", timeout=PATIENCE)
    page.screenshot(path=artefacts / "map_opened.png")
    points.nth(0).scroll_into_view_if_needed()
    points.nth(0).click(force=True)  # the other one takes its place
    page.wait_for_function(f"{second} > 5.2 && {second} < 20", timeout=PATIENCE)
    assert page.locator(".vclip-scrubber").count() == 1
    page.close()
    assert not console
