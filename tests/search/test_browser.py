"""The browser's Python side, as a page would speak to it; tests/browser drives real pages."""

import csv
import io
import json

import av
import indexes
import pytest
from PIL import Image

from vclip.search.browser import COLUMNS, SCRIPTS, STATIC, RetrievalBrowser, _named
from vclip.search.index import MomentIndex

MARKUP = "<img src=x onerror=alert(1)>"
NAMES = (f"sub/{MARKUP}.mov", "=cmd()|x.mov", "a.mov")
QUERY = "w3 w17"


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> MomentIndex:
    folder = tmp_path_factory.mktemp("videos")
    for seed, name in enumerate(NAMES):
        indexes.write(folder / name, 40 + seed, seed)
    (folder / "=cmd()|x.vtt").write_text("WEBVTT\n\n00:00.000 --> 01:00.000\n+1 spoon\n")
    return MomentIndex.build(indexes.clip(), folder)


@pytest.fixture
def browser(index):
    return RetrievalBrowser(index)


def ask(browser, action: str, **values) -> dict:
    sent: list[dict] = []
    browser.send = lambda message, buffers=None: sent.append(message | {"buffers": buffers})
    browser._answer(browser, {"id": "1", "action": action, "values": values}, [])
    (message,) = sent
    return message


def test_filters_by_name_and_quantile(browser):
    def names(**filters) -> set[str]:
        return {found.video for found in browser.search(QUERY, **filters)}

    assert names() == set(NAMES) and {row["video"] for row in browser.hits} == set(NAMES)
    assert names(files="A.MOV") == {"a.mov"} and names(files="sub/*") == {NAMES[0]}
    best = max(found.quantile for found in browser.search(QUERY))
    assert all(found.quantile >= best for found in browser.search(QUERY, min_quantile=best))
    assert browser.search(QUERY, min_quantile=best) and not browser.search(QUERY, files="no such")


def test_what_is_saved_in_a_notebook_is_json_and_text(browser):
    browser.search(f"{QUERY} <b>")
    json.dumps(browser.hits, allow_nan=False)
    shown = browser._as_text()
    assert MARKUP in shown["text/plain"] and f"{browser.hits[0]['score']:.3f}" in shown["text/plain"]
    assert "<img" not in shown["text/html"] and "<b>" not in shown["text/html"]
    assert not any(isinstance(value, (bytes, memoryview)) for value in browser.get_state().values())
    browser.hits = [browser.hits[0] | {"video": "a\x1b[2J\r\u202e4pm.\u2028\x9b\udc80 Тёст.mov"}]
    for text in browser._as_text().values():
        assert "a\\x1b[2J\\r\\u202e4pm.\\u2028\\x9b\\udc80 Тёст.mov" in text, "a terminal would obey it"
    alone = RetrievalBrowser(browser.index)
    alone.search(QUERY, files="nothing")
    assert alone.hits == []


def test_csv_is_whole_and_computes_nothing(browser, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = browser.search(f"={QUERY} / it")
    path = browser.save()
    assert path == tmp_path / "hits-w3-w17-it.csv" and [p.name for p in tmp_path.iterdir()] == [path.name]
    data = path.read_bytes()
    assert data.startswith(b'\xef\xbb\xbf"rank","video"'), "the mark by which spreadsheets know UTF-8; all cells quoted"
    head, *rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
    assert head == list(COLUMNS) and len(rows) == len(found)
    for row, hit in zip(rows, found, strict=True):
        risky = hit.video.startswith("=")
        assert row[:2] == [str(hit.rank), "'" * risky + hit.video] and float(row[4]) == hit.score
        assert row[-2:] == [f"'={QUERY} / it", "'+1 spoon" if risky else ""]
    with pytest.raises(OSError):
        browser.save(tmp_path / "no such folder" / "hits.csv")
    downloaded = ask(browser, "csv")
    assert downloaded["answer"] == {"name": path.name} and downloaded["buffers"] == [data]


@pytest.mark.parametrize("first", "=+-@\t\r")
def test_no_cell_begins_as_a_formula(browser, first):
    texts = (f"{first}cmd|'/C calc'!A0", f'{first}"a";b,c\n', "stir = mix; 1-2 @ home", "")
    browser.search(QUERY)
    browser.hits = [browser.hits[0] | {"text": text, "margin": None, "score": -1.5} for text in texts]
    rows = list(csv.DictReader(io.StringIO(browser._csv().decode("utf-8-sig"), newline="")))
    assert [row["text"] for row in rows] == [f"'{texts[0]}", f"'{texts[1]}", *texts[2:]]
    assert {(row["score"], row["margin"]) for row in rows} == {("-1.5", "")}, "numbers stay numbers"


def test_the_page_knows_lengths_and_new_videos(tmp_path):
    indexes.write(tmp_path / "a.mov", 40, 0)
    browser = RetrievalBrowser(MomentIndex.build(indexes.clip(), tmp_path))
    assert browser.videos == 1
    indexes.write(tmp_path / "b.mov", 20, 1)
    browser.index.update()
    browser.search(QUERY)
    assert browser.videos == 2 and {row["video"]: row["seconds"] for row in browser.hits} == {"a.mov": 40, "b.mov": 20}


def test_answers_and_errors_go_to_the_page(browser, index):
    first = browser.search(QUERY)[0]
    key = browser.hits[0]["key"]
    assert ask(browser, "explain", key=key)["answer"] == {"scores": [float(s) for s in index.explain(first).scores]}
    others = ask(browser, "confusions", key=key)["answer"]["rows"]
    assert others and first.video not in {other["video"] for other in others}
    assert ask(browser, "explain", key=others[0]["key"])["answer"]
    assert Image.open(io.BytesIO(ask(browser, "thumbnail", key=key)["buffers"][0])).format == "JPEG"
    for end, seconds in ((9, 5), (1000, 60)):
        with av.open(io.BytesIO(ask(browser, "clip", key=key, start=4, end=end)["buffers"][0])) as container:
            assert container.format.name == "matroska,webm" and container.duration / av.time_base == seconds
    assert "takes a text" in ask(browser, "search", text=" ", files="", min_quantile=0)["error"]
    browser.search(QUERY)
    assert "search again" in ask(browser, "explain", key=key)["error"], "keys of an earlier search are void"
    assert ask(browser, "delete", key=key)["error"]


def test_a_video_that_goes_is_said_in_the_page(tmp_path):
    for seed, name in enumerate(("a.mov", "b.mov")):
        indexes.write(tmp_path / name, 3, seed)
    browser = RetrievalBrowser(MomentIndex.build(indexes.clip(), tmp_path))
    browser.search(QUERY)
    gone = browser.hits[0]
    (tmp_path / gone["video"]).unlink()
    assert "no longer in" in ask(browser, "thumbnail", key=gone["key"])["error"]
    (note,) = ask(browser, "search", text=QUERY, files="", min_quantile=0)["answer"]["notes"]
    assert gone["video"] in note and "gone" in note


def test_the_page_sets_text_and_loads_nothing():
    for name in SCRIPTS:
        source = (STATIC / name).read_text(encoding="utf-8")
        for forbidden in ("innerHTML", "insertAdjacentHTML", "outerHTML", "document.write", "import ", "fetch("):
            assert forbidden not in source, f"{name}: {forbidden}"
        assert "http" not in source.replace("http://www.w3.org/2000/svg", "")


def test_brackets_in_a_name_are_found():
    name = "How to fry [abc123].mp4"
    assert all(_named(files)(name) for files in ("[ABC123]", name, "how*.mp4", "fry"))
    assert not any(_named(files)(name) for files in ("[xyz]", "*.mov"))
