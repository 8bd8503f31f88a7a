"""The browser's Python side, as a page would speak to it; tests/browser drives real pages."""

import html
import io
import json
from dataclasses import replace

import av
import indexes
import pandas as pd
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
    shown = browser._as_text().data
    assert html.escape(MARKUP) in shown and f"{browser.hits[0]['score']:.3f}" in shown
    assert "<img" not in shown and "<b>" not in shown
    assert not any(isinstance(value, (bytes, memoryview)) for value in browser.get_state().values())
    browser.found[0] = replace(browser.found[0], video="a\x1b[2J\r\u202e4pm.\u2028\x9b\udc80 Тёст.mov")
    assert "a\\x1b[2J\\r\\u202e4pm.\\u2028\\x9b\\udc80 Тёст.mov" in browser._as_text().data
    alone = RetrievalBrowser(browser.index)
    alone.search(QUERY, files="nothing")
    assert alone.hits == [] and alone.searched["videos"] == alone.searched["windows"] == 0


def test_the_page_knows_lengths_and_new_videos(tmp_path):
    indexes.write(tmp_path / "a.mov", 40, 0)
    browser = RetrievalBrowser(MomentIndex.build(indexes.clip(), tmp_path))
    assert browser.searched == {"videos": 1}
    indexes.write(tmp_path / "b.mov", 20, 1)
    browser.index.update()
    browser.search(QUERY)
    assert {k: browser.searched[k] for k in ("videos", "seconds", "windows")} == {
        "videos": 2,
        "seconds": 60,
        "windows": len(browser.index._windows.video),
    }
    lengths = zip((row["video"] for row in browser.hits), browser.searched["lengths"], strict=True)
    assert dict(lengths) == {"a.mov": 40, "b.mov": 20}
    browser.search(QUERY, "b.mov")
    assert (browser.searched["videos"], browser.searched["seconds"], browser.searched["windows"]) == (1, 20, 1)


def test_answers_and_errors_go_to_the_page(browser, index):
    first = browser.search(QUERY)[0]
    key = browser.searched["first"]
    assert ask(browser, "explain", key=key)["answer"]["scores"] == [float(s) for s in index.explain(first).scores]
    other = ask(browser, "explain", key=key, text="w9")["answer"]["scores"]
    assert other == [float(s) for s in index.explain(replace(first, query="w9")).scores]
    assert Image.open(io.BytesIO(ask(browser, "thumbnail", key=key, time=1.5)["buffers"][0])).format == "JPEG"
    clip = ask(browser, "clip", key=key, start=4, end=9, codecs=["mpeg4"])
    assert not clip["answer"]["whole"], "a page plays no .mov"
    with av.open(io.BytesIO(clip["buffers"][0])) as container:
        assert container.format.name == "matroska,webm" and container.duration / av.time_base == 5
    assert "takes a text" in ask(browser, "search", text=" ", files="")["error"]
    browser.search(QUERY)
    assert "search again" in ask(browser, "explain", key=key)["error"], "keys of an earlier search are void"
    assert ask(browser, "delete", key=key)["error"]


def test_a_video_that_goes_is_said_in_the_page(tmp_path):
    for seed, name in enumerate(("a.mov", "b.mov")):
        indexes.write(tmp_path / name, 3, seed)
    browser = RetrievalBrowser(MomentIndex.build(indexes.clip(), tmp_path))
    browser.search(QUERY)
    (tmp_path / browser.hits[0]["video"]).unlink()
    for action, values in (("thumbnail", {"time": 1}), ("clip", {"start": 0, "end": 1, "codecs": []})):
        assert "no longer in" in ask(browser, action, key=browser.searched["first"], **values)["error"]


def test_warnings_reach_the_page(browser):
    answer = ask(browser, "search", text="洋葱 w1", files="")["answer"]
    assert answer["notes"] == ["2 of 3 tokens of '洋葱 w1' are unknown to the model"]
    key = browser.searched["first"]
    assert ask(browser, "explain", key=key, text="洋葱 w2")["answer"]["notes"] == [
        "2 of 3 tokens of '洋葱 w2' are unknown to the model"
    ]
    long = " ".join(f"w{i % 40}" for i in range(100))
    (note,) = ask(browser, "search", text=long, files="")["answer"]["notes"]
    assert "too long: the model does not read its end" in note and long[-20:] in note
    assert ask(browser, "search", text=" ".join(long.split()[:40]), files="")["answer"]["notes"] == []
    assert ask(browser, "search", text=QUERY, files="")["answer"]["notes"] == []


def test_a_search_from_python_warns_here_and_on_the_page(browser):
    said = "2 of 3 tokens of '洋葱 w1' are unknown to the model"
    with pytest.warns(UserWarning, match=said) as caught:
        browser.search("洋葱 w1")
    assert len(caught) == 1 and browser.searched["notes"] == [said]
    browser.search(QUERY)
    assert browser.searched["notes"] == []


def test_more_like_a_hit(browser, index):
    first = browser.search(QUERY)[0]
    ask(browser, "like", key=browser.searched["first"], files="")
    assert browser.found == index.search(first) and first not in browser.found and browser.searched["liked"]
    assert browser.query == f"{first.video}, {first.start:g} to {first.end:g} s"
    json.dumps(browser.hits, allow_nan=False)
    again = browser.found[0]  # a hit whose query is a hit
    ask(browser, "like", key=browser.searched["first"], files="a.mov")
    assert {row["video"] for row in browser.hits} == {"a.mov"} and browser.found == index.search(again, videos="a.mov")
    json.dumps(browser.hits, allow_nan=False)
    assert browser.found.to_frame()["query"].unique().tolist() == [str(again)] and browser.searched["liked"]
    browser.search(QUERY)
    assert not browser.searched["liked"]


def test_tags_are_in_the_hits_and_in_their_csv(browser, tmp_path):
    hits, first = browser.search(QUERY), browser.searched["first"]
    before = list(hits)
    for key, tag in ((first, "wrong"), (first + 1, "=good"), (first, ""), (first, "right")):
        assert "error" not in ask(browser, "tag", key=key, text=tag)
    assert hits is browser.found and hits == before and [hit.tag for hit in hits[:3]] == ["right", "=good", ""]
    assert [row["tag"] for row in browser.hits[:3]] == ["right", "=good", ""]
    hits.save(tmp_path / "hits.csv")
    tags = pd.read_csv(tmp_path / "hits.csv", keep_default_na=False)["tag"].tolist()
    assert tags == ["right", "'=good", *[""] * (len(hits) - 2)]
    browser.search("w5")
    ask(browser, "tag", key=browser.searched["first"], text="third")
    assert [(hit.query, hit.tag) for hit in browser.tagged] == [(QUERY, "=good"), (QUERY, "right"), ("w5", "third")]
    assert "search again" in ask(browser, "tag", key=first, text="late")["error"]


def test_the_page_sets_text_and_loads_nothing():
    for name in SCRIPTS:
        source = (STATIC / name).read_text(encoding="utf-8")
        for forbidden in ("innerHTML", "insertAdjacentHTML", "outerHTML", "document.write", "import ", "fetch("):
            assert forbidden not in source, f"{name}: {forbidden}"
        assert "http" not in source.replace("http://www.w3.org/2000/svg", "")
