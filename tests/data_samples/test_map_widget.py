"""A map draws what it was given, as a picture and in the page, and answers the page's two questions."""

import io

import map_widget
import numpy as np
import pytest
from ipywidgets import HTML
from map_widget import PointMap
from matplotlib.colors import to_hex
from PIL import Image

STRANGE = "$<img src=x>\u202e"
PLACES = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])


@pytest.fixture
def sent(monkeypatch):
    """What a map sends to the page."""
    answers = []
    monkeypatch.setattr(
        map_widget._Points, "send", lambda self, content, buffers=None: answers.append((content, buffers))
    )
    return answers


def draw(opened=lambda i: HTML(str(i))):
    pictures = [np.full((90, 320, 3), 200, np.uint8), None, None]
    groups = {STRANGE: [2], "stir": [0]}
    return PointMap(PLACES, groups, ("across", "up"), ["a", STRANGE, "c"], pictures.__getitem__, opened)


def ask(drawn, action, i):
    drawn._answer(None, {"id": "q", "action": action, "values": {"i": i}}, [])


def test_page_and_picture_show_the_same_points():
    drawn = draw()
    content, (axes,) = drawn._points.content, drawn.figure.axes
    assert content["points"] == [[0, 1, 1], [2, 3, -1], [4, 5, 0]]
    groups = {tuple(of.get_offsets()[0]): to_hex(of.get_facecolor()[0]) for of in axes.collections}
    of_page = {
        (x, y): content["groups"][group][1] if group >= 0 else map_widget.GREY for x, y, group in content["points"]
    }
    assert groups == of_page and len(set(groups.values())) == 3
    assert axes.get_xlabel() == content["labels"][0] == "across" and axes.get_ylabel() == "up"
    assert [text.get_text() for text in drawn.figure.legends[0].get_texts()][1:] == ["stir", map_widget.REST]


def test_a_stored_notebook_keeps_the_picture():
    data, _ = draw()._repr_mimebundle_()
    assert Image.open(io.BytesIO(data["image/png"])).width > 500
    assert "application/vnd.jupyter.widget-view+json" in data


def test_the_page_asks_for_pictures_and_opens_points(sent):
    drawn = draw()
    for i in (0, 1):
        ask(drawn, "picture", i)
    assert Image.open(io.BytesIO(sent[0][1][0])).size == (180, 51) and sent[1][1] == []
    ask(drawn, "open", 2)
    ask(drawn, "open", 1)
    _, below = drawn.children
    assert below.value == "1" and "error" not in sent[-1][0]


def test_an_error_is_said_in_the_page(sent):
    def gone(i):
        raise FileNotFoundError("no such film")

    ask(draw(gone), "open", 0)
    assert sent == [({"id": "q", "error": "no such film"}, None)]
