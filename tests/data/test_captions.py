import csv
import json
import math
import random
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import run_limited

from vclip.data.captions import Captions, deduplicate, read_captions

ROLLING = """WEBVTT
Kind: captions
Language: en

00:00:00.480 --> 00:00:02.230 align:start position:0%
 
so<00:00:00.719><c> today</c><00:00:00.960><c> we</c>

00:00:02.230 --> 00:00:02.240 align:start position:0%
so today we
 

00:00:02.240 --> 00:00:04.150 align:start position:0%
so today we
are<00:00:02.399><c> going</c><00:00:02.560><c.colorE5E5E5> to</c>

00:00:04.150 --> 00:00:04.160 align:start position:0%
are going to
 

01:00:04.160 --> 01:00:06.000 align:start position:0%
are going to
fry rice &amp; eggs at &lt; 3 min
"""


def write(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows(captions):
    return list(zip(captions.start.tolist(), captions.end.tolist(), captions.text, strict=True))


# Captions


def test_captions_make_float64_and_keep_length():
    captions = Captions([0, 1], [2, 0.5], ["a", None])
    assert captions.start.dtype == captions.end.dtype == np.float64
    assert len(captions) == 2 and captions.text == ["a", ""]


@pytest.mark.parametrize(
    ("columns", "error"),
    [
        (([0.0], [1.0, 2.0], ["a"]), "one of each"),
        (([0.0], [1.0], []), "one of each"),
        (([math.nan], [1.0], ["a"]), "caption 0 .* finite"),
        (([0.0, 1.0], [1.0, math.inf], ["a", "b"]), "caption 1 .* finite"),
    ],
)
def test_captions_refuse(columns, error):
    with pytest.raises(ValueError, match=error):
        Captions(*columns)


def test_captions_refuse_other_texts():
    with pytest.raises(TypeError, match="must be a string, not 3"):
        Captions([0], [1], [3])


def test_captions_count_what_is_irregular():
    captions = Captions([0, 2, 1, 9], [3, 4, 5, 9.5], list("abcd"))
    assert (captions.overlapping, captions.disordered) == (2, 1)
    assert "4 rows" in repr(captions) and "2 overlapping" in repr(captions)


# reading


def test_a_notebook_shows_a_table_of_escaped_texts():
    shown = Captions([0.0], [2.5], ["<b>peel & chop"])._repr_html_()
    assert "&lt;b&gt;peel &amp; chop" in shown and "2.5" in shown


def test_rolling_vtt(tmp_path):
    captions = read_captions(write(tmp_path / "a.vtt", ROLLING))
    assert rows(captions)[0] == (0.48, 2.23, "so today we")
    assert rows(captions)[2] == (2.24, 4.15, "so today we are going to")
    assert rows(captions)[4] == (3604.16, 3606.0, "are going to fry rice & eggs at < 3 min")
    plain = deduplicate(captions)
    assert plain.text == ["so today we", "are going to", "fry rice & eggs at < 3 min"]
    assert plain.start.tolist() == [0.48, 2.24, 3604.16]


def test_shared_vtt(shared):
    captions = read_captions(shared / "videos" / "gnome-launching-applications.en.vtt")
    assert len(captions) == 7 and captions.overlapping == captions.disordered == 0
    assert rows(captions)[2] == (7.5, 9.5, "Click the Show Applications icon.")
    assert rows(deduplicate(captions)) == rows(captions)


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).map(
    lambda t: " ".join(t.replace("-->", "").replace("\\h", "").split())
)
times = st.lists(st.tuples(st.integers(0, 10**7), st.integers(0, 10**5)), max_size=8)


@given(times=times, data=st.data())
def test_webvtt_round_trip(times, data, tmp_path_factory):
    path = tmp_path_factory.mktemp("vtt") / "a.vtt"
    wanted = [(s / 1000, (s + n) / 1000, data.draw(texts.filter(bool))) for s, n in times]
    cues = ["WEBVTT"]
    for start, end, text in wanted:
        escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        cues.append(f"{timestamp(start)} --> {timestamp(end)}\n{escaped}")
    path.write_text("\n\n".join(cues) + "\n", encoding="utf-8", newline="")
    assert rows(read_captions(path)) == [(pytest.approx(s), pytest.approx(e), t) for s, e, t in wanted]


def timestamp(seconds):
    milliseconds = round(seconds * 1000)
    return f"{milliseconds // 3600000:02}:{milliseconds // 60000 % 60:02}:{milliseconds // 1000 % 60:02}.{milliseconds % 1000:03}"  # noqa: E501


def test_srt(tmp_path):
    text = "1\r\n00:00:01,500 --> 00:00:02,000\r\n<i>5 < 6</i>\r\nand <font color='red'>7</font>\r\n\r\n"
    path = write(tmp_path / "a.srt", "\ufeff" + text + "2\n00:00:02,000 --> 01:00:03,250\n1984\n")
    assert rows(read_captions(path)) == [(1.5, 2.0, "5 < 6 and 7"), (2.0, 3603.25, "1984")]


def test_styles_and_short_fractions_in_srt(tmp_path):
    text = "1\n0:0:4,8 --> 0:0:7,45\n{\\an8}Chop {\\i1}the\\Nonion\n\n2\n00:07,45 --> 00:08,9999 X1:40 X2:600\nsalt\n"
    assert rows(read_captions(write(tmp_path / "a.srt", text))) == [
        (4.8, 7.45, "Chop the onion"),
        (7.45, 8.9999, "salt"),
    ]


def test_json_of_many_videos(tmp_path):
    videos = {
        "a/b": {"start": [0, 1.5, 3], "end": [2, 3, 4], "text": ["x &amp; <b>", None, math.nan]},
        "c": {"start": [], "end": [], "text": []},
    }
    path = write(tmp_path / "raw_caption.json", json.dumps(videos))
    assert rows(read_captions(path, "a/b")) == [(0.0, 2.0, "x &amp; <b>")]
    assert len(read_captions(path, "c")) == 0
    with pytest.raises(ValueError, match="holds 2 videos.*video_id"):
        read_captions(path)
    with pytest.raises(ValueError, match="no captions of video 'd'"):
        read_captions(path, "d")


def test_json_of_one_video(tmp_path):
    video = {"start": [0], "end": [2], "text": ["x"]}
    one = write(tmp_path / "one.json", json.dumps(video))
    keyed = write(tmp_path / "keyed.json", json.dumps({"a": video}))
    assert (
        rows(read_captions(one)) == rows(read_captions(keyed)) == rows(read_captions(keyed, "a")) == [(0.0, 2.0, "x")]
    )


def test_csv(tmp_path):
    path = write(tmp_path / "a.csv", 'text,start,end\n"salt, then",0.5,1\n,1,2\nnull,1,1\n')
    assert rows(read_captions(path)) == [(0.5, 1.0, "salt, then"), (1.0, 1.0, "null")]


def test_csv_of_many_videos(shared):
    path = shared / "annotations" / "howto100m" / "small_val_captions.csv"
    with pytest.raises(ValueError, match="holds 30 videos"):
        read_captions(path)
    with path.open() as file:
        expected = [row["text"] for row in csv.DictReader(file) if row["video_id"] == "RFE7qdhjgXc"]
    assert read_captions(path, "RFE7qdhjgXc").text == expected


@pytest.mark.parametrize(
    ("name", "content"), [("a.vtt", "WEBVTT\n"), ("a.srt", ""), ("a.csv", "start,end,text\n"), ("b.vtt", "WEBVTT")]
)
def test_files_without_captions(tmp_path, name, content):
    assert len(read_captions(write(tmp_path / name, content))) == 0


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("a.vtt", "", "not a vtt file"),
        ("a.json", "", "not JSON"),
        ("a.json", "[]", "expected a dict"),
        ("a.json", '{"start": [1], "end": [], "text": ["a"]}', "lists start, end, text"),
        ("a.json", '{"v": 3}', "lists start, end, text"),
        ("a.json", '{"start": [0, NaN], "end": [1, 2], "text": ["a", "b"]}', "row 2: .*nan"),
        ("a.json", '{"start": ["0s"], "end": [1], "text": ["a"]}', "row 1: .*'0s'"),
        ("a.json", '{"start": [0], "end": [1], "text": [["a"]]}', "row 1: .*not a text"),
        ("a.json", '{"start": [0, 0], "end": [1, 1e400], "text": ["a", "b"]}', "row 2: .*inf"),
        ("a.json", '{"start": [0], "end": [Infinity], "text": ["a"]}', "row 1: .*inf"),
        ("a.json", '{"start": [-Infinity], "end": [1], "text": ["a"]}', "row 1: .*-inf"),
        ("a.json", f'{{"start": [0, 0], "end": [1, {10**400}], "text": ["a", "b"]}}', "row 2: the times 0 to 1000*"),
        ("a.json", f'{{"start": [0], "end": [1{"0" * 5000}], "text": ["a"]}}', "not JSON.*digits"),
        ("a.csv", f"start,end,text\n0,1,a\n0,{10**400},b\n", "row 2: .*1000*"),
        ("a.csv", "start,end,text\n0,1e400,a\n", "row 1: .*1e400"),
        ("a.csv", "start,end,text\n-Infinity,1,a\n", "row 1: .*-Inf"),
        ("a.vtt", f"WEBVTT\n\n00:00:01.000 --> {10**400}:00:01.000\na\n", "row 1: .* to inf"),
        ("a.csv", "", "first line"),
        ("a.csv", "0,1,a\n", "first line"),
        ("a.csv", "start,end,text\n0,1,a\n-1,2,b\n", "row 2: the times '-1' to '2' are not"),
        ("a.csv", "start,end,text\n0,1,a\n3,2,b\n", "row 2: the times '3' to '2' are not"),
        ("a.csv", "start,end,text\nnan,1,a\n", "row 1: .*nan"),
        ("a.csv", "start,end,text\n0,soon,a\n", "row 1: .*'soon'"),
        ("a.csv", "start,end,text\n0,1,a, b\n", "row 1: .*quote"),
        ("a.csv", "start,end,text\n0,1\n", "row 1: .*fields"),
        ("a.csv", b"start,end,text\n0,1,caf\xe9\n", "line 2: byte 0xe9 is not UTF-8"),
        ("a.vtt", "WEBVTT\n\n00:03.000 --> 00:02.000\na\n", "row 1: the times 3.0 to 2.0 are not"),
        ("a.vtt", "WEBVTT\n\n-00:03.000 --> 00:02.000\na\n", r"row 1: the times -3\.0 to 2\.0 are not"),
        ("a.vtt", "WEBVTT\n\n00:00:61.000 --> 00:01:02.000\na\n", "line 3: .*not a pair"),
        ("a.srt", "1\n00:00:03,000 --> nan\na\n", "line 2: .*not a pair of times"),
        ("a.srt", "hello", "not a srt file"),
        ("a.txt", "hello", "unknown kind"),
    ],
)
def test_refusals_name_file_and_row(tmp_path, name, content, error):
    path = write(tmp_path / name, content)
    with pytest.raises(ValueError, match=error) as raised:
        read_captions(path)
    assert str(path) in str(raised.value)


# deduplicate


def test_howto100m_files(shared, tmp_path):
    with tarfile.open(shared / "annotations" / "howto100m" / "captions.tar.gz") as archive:
        archive.extractall(tmp_path)
    files = sorted((tmp_path / "captions").glob("*.csv"))
    read = [read_captions(path) for path in files]
    assert len(files) == 100 and sum(map(len, read)) == 11173
    assert sum(len(text.split()) for captions in read for text in captions.text) == 46794
    plain = [deduplicate(captions) for captions in read]
    for before, after in zip(read, plain, strict=True):
        assert_plain(before, after)
    assert sum(len(t.split()) for captions in plain for t in captions.text) < 0.65 * 46794
    assert plain[0].text[:5] == ["check pic tonight pick", "bowl", "night honest cause got", "little pat plant", "raspberries sticking"]  # fmt: skip  # noqa: E501
    for captions in read:
        assert len(deduplicate(captions, "reference")) <= len(captions)


def assert_plain(before, after):
    spoken = []
    for text in after.text:
        words = text.split()
        assert words and " ".join(words) == text
        assert not any(spoken[-n:] == words[:n] for n in range(1, len(words) + 1))
        spoken += words
    assert set(spoken) == {word for text in before.text for word in text.split()}
    assert (after.start[1:] >= after.start[:-1]).all() and (after.end >= after.start).all()
    assert set(after.start.tolist()) <= set(before.start.tolist())
    again = deduplicate(after)
    assert rows(again) == rows(after)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(-5, 20), st.text("ab \n", max_size=12))))
def test_words_are_plain_and_stay_plain(data):
    captions = Captions([s for s, _, _ in data], [s + n for s, n, _ in data], [t for _, _, t in data])
    assert_plain(captions, deduplicate(captions))


def test_words_prolong_what_is_still_shown_only():
    captions = Captions([0, 2, 60], [2, 4, 65], ["[Music]", "[Music]", "[Music]"])
    assert rows(deduplicate(captions)) == [(0.0, 4.0, "[Music]")]


def test_words_cut_no_letters():
    captions = Captions([0, 1], [1, 2], ["put the salt", "then add oil"])
    assert deduplicate(captions).text == ["put the salt", "then add oil"]


@pytest.fixture(scope="module")
def golden(shared):
    return json.loads((shared / "golden" / "dedup" / "captions.json").read_text())


def columns(captions):
    return {"start": captions.start.tolist(), "end": captions.end.tolist(), "text": captions.text}


@pytest.mark.parametrize("case", ["rolling", "mixed", "tiny", "all_gone", "blank_first", "all_blank"])
def test_reference_is_golden(golden, case):
    case = golden[case]
    captions = Captions(**case["input"])
    random.seed(case["python_random_seed"])
    assert columns(deduplicate(captions, "reference")) == case["seeded"]
    assert random.random() == case["next_random"]
    keep, move = (deduplicate(captions, "reference", coin=lambda value=value: value) for value in (1.0, 0.0))
    assert columns(keep) == case["always_keep_in_prev"]
    assert columns(move) == case["always_move_to_current"]


def test_every_golden_case_is_tested(golden):
    assert sorted(golden) == sorted(["rolling", "mixed", "tiny", "all_gone", "blank_first", "all_blank"])


@pytest.mark.parametrize("method", ["words", "reference"])
def test_empty_in_empty_out(method):
    assert len(deduplicate(Captions([], [], []), method)) == 0
    assert len(deduplicate(Captions([0, 1], [1, 2], [None, " \n"]), method)) == 0


def test_unknown_method():
    with pytest.raises(ValueError, match="'letters'"):
        deduplicate(Captions([], [], []), "letters")


# word pieces


def longest_run(spoken, words):
    for n in range(min(len(spoken), len(words)), 0, -1):
        if spoken[-n:] == words[:n]:
            return n
    return 0


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=12), max_size=8))
def test_what_is_repeated_against_a_loop(captions):
    spoken, expected = [], []
    for words in captions:
        while n := longest_run(spoken, words):
            words = words[n:]
        spoken += words
        expected += [" ".join(words)] if words else []
    times = list(range(len(captions)))
    assert deduplicate(Captions(times, times, list(map(" ".join, captions)))).text == expected


@pytest.mark.parametrize("texts", [("x " * 30_000 + "a", "a " * 60_000), ("a " * 49_000 + "b", "a " * 50_000)])
def test_time_to_deduplicate_grows_with_the_text(tmp_path, texts):
    cues = (f"00:0{i}.000 --> 00:0{i + 1}.000\n{text}\n\n" for i, text in enumerate(texts))
    path = write(tmp_path / "a.vtt", "WEBVTT\n\n" + "".join(cues))
    script = "import sys, vclip; print(len(vclip.deduplicate(vclip.read_captions(sys.argv[1]))))"
    assert run_limited(script, path, seconds=6) in ("1\n", "2\n")
