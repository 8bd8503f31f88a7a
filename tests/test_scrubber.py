"""The scrubber holds what it was given, leaves a picture, and plays the part of the video that the page asks for."""

import io

import numpy as np
import pytest
from PIL import Image

import vclip
from vclip.data.captions import Captions
from vclip.data.corpus import Corpus
from vclip.data.video import open_video
from vclip.encoders.loading import from_spec
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
    assert content["curves"] == [("stir", list(range(48)))] and content["captions"] == [(0.5, 2.0, STRANGE)]
    assert content["bands"] == list(BANDS.items())
    assert len(set(content["colours"].values())) == len(content["colours"]) == 2  # the curve's name is a text's too
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
    Scrubber(48, VIDEO)._answer(None, {"id": "a", "action": "clip", "values": {"start": 3, "end": 5, "codecs": []}}, [])
    ((content, [clip]),) = answers
    (tmp_path / "clip.webm").write_bytes(clip)
    with open_video(tmp_path / "clip.webm") as container:
        assert content["id"] == "a" and abs(container.duration / 1e6 - 2) < 0.2


def test_a_video_that_the_page_can_play_is_sent_whole(answers):
    Scrubber(48, VIDEO)._answer(
        None, {"id": "a", "action": "clip", "values": {"start": 3, "end": 5, "codecs": ["h264"]}}, []
    )
    ((content, [sent]),) = answers
    assert content["answer"] == {"whole": True, "notes": []} and sent == VIDEO.read_bytes()


def test_a_video_that_is_gone_is_said_in_the_page(answers, tmp_path):
    gone = tmp_path / "gone.mp4"
    gone.write_bytes(VIDEO.read_bytes())
    scrubber = Scrubber(48, gone)
    gone.unlink()
    scrubber._answer(None, {"id": "a", "action": "clip", "values": {"start": 3, "end": 5, "codecs": []}}, [])
    assert "no such file" in answers[0][0]["error"]


def test_a_corpus_shows_a_video_with_its_captions(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for suffix in (".mp4", ".vtt"):
        (folder / f"a{suffix}").write_bytes(VIDEO.with_suffix(suffix).read_bytes())
    vclip.extract(
        folder, tmp_path / "corpus", from_spec(Corpus.open(vclip.minihowto() / "val").spec, vclip.minihowto())
    )
    corpus = Corpus.open(tmp_path / "corpus")
    shown = corpus.show("a.mp4")
    assert shown.video == (folder / "a.mp4").resolve() and shown.content["seconds"] == corpus.seconds[0]
    assert [text for *_, text in shown.content["captions"]] == corpus["a"].captions.text
    moved = folder.rename(tmp_path / "moved")
    assert corpus.show("a").video is None and corpus.show("a").content["captions"] == shown.content["captions"]
    assert corpus.show("a", videos=moved).video == moved / "a.mp4"
    assert Corpus.open(vclip.minihowto() / "test").show("test0000", VIDEO.parent).video == VIDEO
    with pytest.raises(KeyError):
        corpus.show("b")


def test_an_index_shows_its_videos_by_path(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mp4").write_bytes(VIDEO.read_bytes())
    corpus = vclip.load(vclip.minihowto() / "checkpoint").index(tmp_path).corpus
    assert corpus.show("in/a.mp4").video == corpus.show("in/a.mp4", tmp_path).video == tmp_path / "in" / "a.mp4"
