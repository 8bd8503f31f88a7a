"""The browser's Python side, as a page would speak to it; tests/browser drives real pages."""

import io
import json

import av
import indexes
import pytest
from PIL import Image

from vclip.search.browser import SCRIPTS, STATIC, RetrievalBrowser
from vclip.search.index import MomentIndex

MARKUP = "<img src=x onerror=alert(1)>"
NAMES = (f"sub/{MARKUP}.mov", "fry [dQw4].mov", "a.mov")
QUERY = "w3 w17"


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> MomentIndex:
    folder = tmp_path_factory.mktemp("videos")
    for seed, name in enumerate(NAMES):
        indexes.write(folder / name, 40 + seed, seed)
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


def test_only_some_files_are_searched(browser):
    def names(files: str) -> set[str]:
        return {found.video for found in browser.search(QUERY, files)}

    assert names("") == set(NAMES) and {row["video"] for row in browser.hits} == set(NAMES)
    assert names("A.MOV") == {"a.mov"} and names("sub/") == {NAMES[0]} and names(" [dQw4") == {NAMES[1]}
    assert not names("no such")


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
    assert Image.open(io.BytesIO(ask(browser, "thumbnail", key=key)["buffers"][0])).format == "JPEG"
    for end, seconds in ((9, 5), (1000, 60)):
        with av.open(io.BytesIO(ask(browser, "clip", key=key, start=4, end=end)["buffers"][0])) as container:
            assert container.format.name == "matroska,webm" and container.duration / av.time_base == seconds
    assert "takes a text" in ask(browser, "search", text=" ", files="")["error"]
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


def test_the_page_sets_text_and_loads_nothing():
    for name in SCRIPTS:
        source = (STATIC / name).read_text(encoding="utf-8")
        for forbidden in ("innerHTML", "insertAdjacentHTML", "outerHTML", "document.write", "import ", "fetch("):
            assert forbidden not in source, f"{name}: {forbidden}"
        assert "http" not in source.replace("http://www.w3.org/2000/svg", "")
