"""The scrubber holds what it was given, leaves a picture, and plays the part of the video that the page asks for."""

import io

import numpy as np
import pytest
from PIL import Image

import vclip
from vclip.data.captions import Captions
from vclip.data.video import open_video
from vclip.scrubber import MOST_PICTURES, Scrubber

VIDEO = vclip.minihowto() / "videos" / "test0000.mp4"
STRANGE = "$<img src=x>$"
BANDS = {"truth": [(STRANGE, 1.0, 3.0)], "model": [("stir", 2.0, 3.0), (STRANGE, 4.0, 5.0)]}


@pytest.fixture
def answers(monkeypatch):
    """What a scrubber sends to the page."""
    sent = []
    monkeypatch.setattr(Scrubber, "send", lambda self, content, buffers=None: sent.append((content, buffers)))
    return sent


def test_the_page_gets_what_was_given():
    scrubber = Scrubber(
        48, VIDEO, curves={"stir": np.arange(48)}, bands=BANDS, captions=Captions([0.5], [2.0], [STRANGE]), threshold=3
    )
    content = scrubber.content
    assert content["seconds"] == 48 and content["video"] == "test0000.mp4" and content["threshold"] == 3
    assert content["curves"][0]["scores"] == list(range(48)) and content["captions"] == [[0.5, 2.0, STRANGE]]
    (one,), (other, same) = (band["spans"] for band in content["bands"])
    assert one[:3] == [STRANGE, 1, 3] and one[3] == same[3] != other[3]  # a text has one colour
    width, height = content["size"]
    assert Image.open(io.BytesIO(scrubber.strip)).size == (width * len(content["times"]), height)
    assert content["times"] == list(range(48))


def test_a_long_video_has_a_strip_of_bounded_width():
    assert len(Scrubber(3600, VIDEO).content["times"]) == MOST_PICTURES


def test_pictures_stand_in_for_a_video():
    shown = {7.0: np.zeros((30, 40, 3), np.uint8), 2.0: np.zeros((60, 80, 3), np.uint8)}
    content = Scrubber(10, shown=shown).content
    assert content["times"] == [2, 7] and content["size"] == (80, 60) and content["video"] is None


def test_a_stored_notebook_keeps_a_picture():
    data, _ = Scrubber(48, VIDEO, bands=BANDS)._repr_mimebundle_()
    assert Image.open(io.BytesIO(data["image/png"])).width > 700
    assert "application/vnd.jupyter.widget-view+json" in data


def test_the_page_asks_for_a_part_of_the_video(answers, tmp_path):
    Scrubber(48, VIDEO)._answer(None, {"id": "a", "values": {"start": 3, "end": 5, "codecs": []}}, [])
    ((content, [clip]),) = answers
    (tmp_path / "clip.webm").write_bytes(clip)
    with open_video(tmp_path / "clip.webm") as container:
        assert content["id"] == "a" and abs(container.duration / 1e6 - 2) < 0.2


def test_a_video_that_the_page_can_play_is_sent_whole(answers):
    Scrubber(48, VIDEO)._answer(None, {"id": "a", "values": {"start": 3, "end": 5, "codecs": ["h264"]}}, [])
    ((content, [sent]),) = answers
    assert content["answer"] == {"whole": True} and sent == VIDEO.read_bytes()


def test_a_video_that_is_gone_is_said_in_the_page(answers, tmp_path):
    gone = tmp_path / "gone.mp4"
    gone.write_bytes(VIDEO.read_bytes())
    scrubber = Scrubber(48, gone)
    gone.unlink()
    scrubber._answer(None, {"id": "a", "values": {"start": 3, "end": 5, "codecs": []}}, [])
    assert "no such file" in answers[0][0]["error"]
