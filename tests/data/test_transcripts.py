"""Caption files as recognisers, YouTube and people write them, and the captions inside video files."""

import json
import warnings
from fractions import Fraction

import av
import numpy as np
import pytest
from av.stream import Disposition
from limits import run_limited

from vclip.data.captions import CAPTION_SUFFIXES, read_captions
from vclip.data.transcripts import NoCaptions

SAID = [(0.0, 2.5, "Chop it."), (2.5, 6.0, "Fry it.")]
MILLISECONDS = [(round(1000 * start), round(1000 * end), text) for start, end, text in SAID]


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def rows(captions):
    return list(zip(captions.start.tolist(), captions.end.tolist(), captions.text, strict=True))


def read(path):
    """The rows of a file that is read without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return rows(read_captions(path))


WORDS = [{"word": "Chop", "start": 0.0, "end": 1.0}, {"word": "2"}]
SEGMENTS = [{"id": i, "start": s, "end": e, "text": f" {t}", "words": WORDS} for i, (s, e, t) in enumerate(SAID)]
EVENTS = [
    {"tStartMs": 0, "dDurationMs": 9000, "id": 1, "wpWinPosId": 1},
    {"tStartMs": 0, "dDurationMs": 2500, "wWinId": 1, "segs": [{"utf8": "Chop"}, {"utf8": " it.", "tOffsetMs": 300}]},
    {"tStartMs": 2490, "dDurationMs": 3510, "aAppend": 1, "segs": [{"utf8": "\n"}]},
    {"tStartMs": 2500, "dDurationMs": 3500, "segs": [{"utf8": "Fry\n\u200bit."}]},
]
TRANSCRIPTION = [{"offsets": {"from": s, "to": e}, "text": f" {t}", "tokens": []} for s, e, t in MILLISECONDS]
KINDS = {
    "whisper.json": {"text": "Chop it. Fry it.", "segments": SEGMENTS, "language": "en"},
    "whisperx.json": {"segments": SEGMENTS, "word_segments": WORDS},
    "faster.json": SEGMENTS,
    "cpp.json": {"systeminfo": "", "params": {}, "result": {"language": "en"}, "transcription": TRANSCRIPTION},
    "cpp.csv": "start,end,text\n" + "".join(f'{s},{e}," {t}"\n' for s, e, t in MILLISECONDS),
    "whisper.tsv": "start\tend\ttext\n" + "".join(f"{s}\t{e}\t{t}\n" for s, e, t in MILLISECONDS),
    "youtube.en.json3": {"wireMagic": "pb3", "events": EVENTS},
    "youtube.json": {"wireMagic": "pb3", "events": EVENTS},
}


@pytest.mark.parametrize("name", KINDS)
def test_the_same_captions_of_every_program(tmp_path, name):
    assert read(write(tmp_path / name, KINDS[name])) == SAID


def test_tables_in_seconds_stay_in_seconds(tmp_path):
    for name, comma in (("a.csv", ","), ("a.tsv", "\t")):
        lines = [("start", "end", "text"), ("0", "12", "Chop it."), ("12", "40", 'Fry "it.')]
        quoted = '"Fry ""it."' if comma == "," else 'Fry "it.'
        text = "\n".join(comma.join(line) for line in lines).replace('Fry "it.', quoted)
        assert read(write(tmp_path / name, text)) == [(0, 12, "Chop it."), (12, 40, 'Fry "it.')]


def test_a_recogniser_that_heard_nothing(tmp_path):
    assert read(write(tmp_path / "a.json", {"text": "", "segments": [], "language": "en"})) == []


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("a.json", {"foo": 1, "bar": []}, "found a dict with keys 'foo', 'bar'; expected .*segments"),
        ("a.json", 3, "found 3; expected"),
        ("a.json", {"segments": [{"text": "x"}]}, "row 1: .*start, end and text"),
        ("a.json", [{"video_id": "v", "caption": "x"}], "row 1: .*start, end and text"),
    ],
)
def test_other_content_is_named(tmp_path, name, content, error):
    path = write(tmp_path / name, content)
    with pytest.raises(ValueError, match=error) as raised:
        read_captions(path)
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("suffix", CAPTION_SUFFIXES)
@pytest.mark.parametrize(
    "content", ['"x": ' * 200_000, json.dumps([{"caption": "x" * 50}] * 20_000), f'{{"{"k" * 10**6}": 1}}']
)
def test_a_message_quotes_at_most_a_line(tmp_path, suffix, content):
    with pytest.raises(ValueError, match="a") as raised:
        read_captions(write(tmp_path / f"a{suffix}", content))
    assert len(str(raised.value)) < 1000 + len(str(tmp_path))


# a bad row costs a row


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("a.srt", "1\n00:01,0 --> 00:02,0\na\n\n2\n00:61 --> 00:62\nlost\n\n3\n00:03 --> 00:04\nb\n", "line 6"),
        ("a.srt", "1\n00:01,0 --> 00:02,0\na\n\n2\n00:02,0 -> 00:03,0\nlost\n\n3\n00:03 --> 00:04\nb\n", "line 6"),
        ("a.vtt", "WEBVTT\n\n00:01.0 --> 00:02.0\na\n\n00:02.0 --> soon\nlost\n\n00:03.0 --> 00:04.0\nb\n", "line 6"),
        ("a.csv", "start,end,text\n1,2,a\n2,3,lost, too\n3,4,b\n", "row 2"),
        ("a.csv", "start,end,text\n1,2,a\nsoon,3,lost\n3,4,b\n", "row 2"),
        ("a.json", {"start": [1, "x", 3], "end": [2, 3, 4], "text": ["a", "lost", "b"]}, "row 2"),
        (
            "a.json",
            {"segments": [{"start": s, "end": s + 1, "text": t} for s, t in ((1, "a"), (2, 5), (3, "b"))]},
            "row 2",
        ),
    ],
)
def test_a_row_that_is_none_is_skipped_and_named(tmp_path, name, content, named):
    path = write(tmp_path / name, content)
    with pytest.warns(UserWarning, match=f"{path}, {named}: .*; skipped 1 of 3 captions"):
        assert rows(read_captions(path)) == [(1, 2, "a"), (3, 4, "b")]


def test_an_open_quote_is_named(tmp_path):
    path = write(tmp_path / "a.csv", 'start,end,text\n1,2,a\n2,3,"lost\n3,4,b\n')
    with pytest.warns(UserWarning, match="row 2 and what follows: .*quote"):
        assert rows(read_captions(path)) == [(1, 2, "a")]


def test_text_goes_on_after_an_empty_line(tmp_path):
    srt = "1\n00:01 --> 00:02\nchop\n\nthe onion\n\n2\n00:03 --> 00:04\n1984\n3\n00:05 --> 00:06\n7\n\n"
    srt += "00:07 --> 00:08\n8\n"
    said = [(1, 2, "chop the onion"), (3, 4, "1984"), (5, 6, "7"), (7, 8, "8")]
    assert read(write(tmp_path / "a.srt", srt)) == said
    spaced = write(tmp_path / "b.srt", "1\n\n00:01 --> 00:02\n\nchop\n\n\n2\n\n00:03 --> 00:04\n\nfry --> eat\n")
    assert read(spaced) == [(1, 2, "chop"), (3, 4, "fry --> eat")]
    vtt = "WEBVTT\nKind: x\n\nSTYLE\n::cue {}\n\nintro\n00:01.0 --> 00:02.0\nchop\n\nthe onion\n\nNOTE not\nsaid\n\n"
    vtt += "end\n00:03.0 --> 00:04.0\nfry\n"
    assert read(write(tmp_path / "a.vtt", vtt)) == [(1, 2, "chop the onion"), (3, 4, "fry")]
    counted = write(tmp_path / "b.vtt", "WEBVTT\n\n00:01.0 --> 00:02.0\n2\n\n00:03.0 --> 00:04.0\n3\n")
    assert read(counted) == [(1, 2, "2"), (3, 4, "3")]


COSTLY = {
    "wide.csv": "start,end,text" + ",a" * 40_000 + "\n" + "1\n" * 40_000,
    "wide.tsv": "start\tend\ttext" + "\t" * 40_000 + "\n" + "1\n" * 40_000,
}


@pytest.mark.parametrize("name", COSTLY)
def test_the_cost_grows_with_the_file(tmp_path, name):
    script = (
        "import sys, vclip\ntry:\n    vclip.read_captions(sys.argv[1])\nexcept ValueError as error:\n    print(error)"
    )
    printed = run_limited(script, write(tmp_path / name, COSTLY[name]), seconds=6, megabytes=2000)
    assert "row 1: as many fields" in printed


def test_a_character_whose_number_is_too_long_is_left_out(tmp_path):
    path = write(tmp_path / "a.vtt", "WEBVTT\n\n00:01.0 --> 00:02.0\nchop &#" + "1" * 5000 + ";&#38; fry\n")
    assert read(path) == [(1, 2, "chop & fry")]


# captions in a video file

HEADER = (
    "[Script Info]\r\nScriptType: v4.00+\r\n\r\n[V4+ Styles]\r\nFormat: Name, Fontname, Fontsize, PrimaryColour, "
    "SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, "
    "BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding\r\nStyle: Default,Arial,16,&Hffffff,"
    "&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,0\r\n\r\n[Events]\r\n"
    "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\r\n"
)


def film(path, *streams, start=0):
    """A grey video of 8 s from `start`, with streams (codec, disposition, rows in milliseconds)."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libvpx-vp9" if path.suffix == ".webm" else "mpeg4", rate=1)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        texts = [out.add_stream(codec) for codec, _, _ in streams]
        for text, (_, disposition, _) in zip(texts, streams, strict=True):
            text.codec_context.subtitle_header = HEADER.encode()
            text.disposition = disposition
        for i in range(8):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90, np.uint8))
            frame.pts, frame.time_base = i + start, Fraction(1)
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        for text, (codec, _, said) in zip(texts, streams, strict=True):
            for begin, end, words in said:
                data = f"0,0,Default,,0,0,0,,{words}".encode() if codec == "ass" else words.encode()
                packet = av.Packet(len(data).to_bytes(2, "big") + data if codec == "mov_text" else data)
                packet.stream, packet.time_base = text, Fraction(1, 1000)
                packet.pts = packet.dts = begin + 1000 * start
                packet.duration = end - begin
                out.mux(packet)
    return path


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mkv", "subrip"),
        ("a.mkv", "ass"),
        ("a.MKV", "webvtt"),
        ("a.webm", "webvtt"),
        ("a.mp4", "mov_text"),
        ("a.mov", "mov_text"),
    ],
)
def test_text_in_a_video(tmp_path, name, codec):
    assert read(film(tmp_path / name, (codec, Disposition(0), MILLISECONDS))) == SAID


def test_styles_drawings_and_commas_in_a_video(tmp_path):
    said = [(0, 1000, r"{\an8}Chop, {\i1}the{\i0}\Nonion"), (1000, 2000, r"{\p1}m 0 0 l 9 9{\p0}"), (2000, 3000, "fry")]
    assert read(film(tmp_path / "a.mkv", ("ass", Disposition(0), said))) == [(0, 1, "Chop, the onion"), (2, 3, "fry")]


def test_the_default_stream_is_read_from_the_start_of_the_container(tmp_path):
    no, other = Disposition(0), [(0, 900, "forced or another")]
    streams = [
        ("subrip", no, other),
        ("subrip", Disposition.default, MILLISECONDS),
        ("subrip", Disposition.forced, other),
    ]
    assert read(film(tmp_path / "a.mkv", *streams, start=5)) == SAID
    assert read(film(tmp_path / "b.mkv", ("subrip", no, MILLISECONDS), ("subrip", no, other))) == SAID


def test_a_video_without_text_is_said_to_have_none(tmp_path, shared):
    with pytest.raises(NoCaptions, match=r"a\.mkv holds no captions as text: put a caption file beside it"):
        read_captions(film(tmp_path / "a.mkv", ("dvdsub", Disposition(0), [(0, 900, "x")])))
    with pytest.raises(NoCaptions, match="holds no captions as text"):
        read_captions(shared / "videos" / "rabbit320.mp4")
    with pytest.raises(FileNotFoundError):
        read_captions(tmp_path / "gone.mkv")
