"""JupyterLab and Voila in a real browser, on real videos: the shipped checkpoint finds, the page plays."""

import json
import os
import re
import signal
import time

import pytest
from browser.conftest import MARKUP, PATIENCE, serve, write_notebook

from vclip.search.browser import STATIC

pytestmark = pytest.mark.long
QUERY = "stir the soup"
# whether the video v has been played from its second t on, for more than n seconds: it may have ended by now
PLAYED = (
    "((t, n) => [...Array(v.played.length).keys()]"
    ".some(i => Math.abs(v.played.start(i) - t) < 0.05 && v.played.end(i) - t > n))"
)
AROUND = 2  # seconds of a clip before and after its hit, as in player.js


def search(page, text: str = QUERY) -> list[dict]:
    """The hits, read off the page."""
    page.evaluate("document.querySelectorAll('.vclip-hit').forEach(hit => { hit.dataset.old = 'yes' })")
    page.fill(".vclip-query", text)
    page.press(".vclip-query", "Enter")
    page.wait_for_selector(".vclip-hits .vclip-hit:not([data-old])")
    return hits(page)


def answered(page, text: str = QUERY) -> None:
    page.wait_for_function(f"document.querySelector('.vclip-status').textContent.includes('for “{text}”')")


def hits(page) -> list[dict]:
    name = "row.querySelector('.vclip-video').textContent"
    row = f"({{video: {name}, start: Number(row.dataset.start), end: Number(row.dataset.end)}})"
    return page.eval_on_selector_all(".vclip-hits .vclip-hit", f"rows => rows.map(row => {row})")


def state(page) -> dict:
    return page.eval_on_selector(
        ".vclip-stage video",
        "v => ({time: v.currentTime, paused: v.paused, ready: v.readyState, duration: v.duration})",
    )


def length(page) -> int:
    """Seconds of the video whose curve is shown."""
    return int(page.get_attribute(".vclip-plot svg", "data-seconds"))


def place(page) -> float:
    """Where on the whole video's curve the player stands, in seconds."""
    return float(page.get_attribute(".vclip-head", "x1")) * length(page) / 1000


def on_curve(page, second: float) -> dict[str, float]:
    """A second's place in the picture of the curve, which a click or a hover there first brings into view."""
    box = page.locator(".vclip-plot svg").bounding_box()
    return {"x": second / length(page) * box["width"], "y": box["height"] / 2}


def click_curve(page, second: float) -> None:
    page.locator(".vclip-plot svg").click(position=on_curve(page, second))


def played_from(hit: dict) -> str:
    """The beginning of a condition that `wait` takes: a file that is sent whole counts from its own start."""
    return f"{PLAYED}({hit['start'] if hit['video'].endswith('.mp4') else min(AROUND, hit['start'])}"


def wait(page, condition: str, timeout: float = PATIENCE):
    """What `condition` on the video `v` is once it holds."""
    video = "const v = document.querySelector('.vclip-stage video')"
    return page.wait_for_function(f"(() => {{ {video}; return {condition} }})()", timeout=timeout).json_value()


def pictures(page) -> list[int]:
    """Widths of the pictures of the hits in view, once all are there."""
    page.locator(".vclip-browser").evaluate("browser => browser.scrollIntoView()")
    bottom = "Math.min(hit.parentNode.getBoundingClientRect().bottom, innerHeight - 60)"
    seen = f"hit.getBoundingClientRect().bottom < {bottom}"
    rows = f"[...document.querySelectorAll('.vclip-hit')].filter(hit => {seen})"
    widths = f"{rows}.flatMap(hit => [...hit.querySelectorAll('img')].map(i => i.naturalWidth))"
    page.wait_for_function(f"(w => w.length && w.every(Boolean))({widths})")
    return page.evaluate(widths)


def test_pictures_are_there_at_first_view(open_notebook, console, artefacts):
    """Nobody has searched on the page: Python has, before JupyterLab attached it."""
    page = open_notebook("first.ipynb", cell=f"browser = RetrievalBrowser(index)\nbrowser.search({QUERY!r})\nbrowser")
    widths = pictures(page)
    assert len(widths) >= 6 and len(widths) % 3 == 0
    status = page.inner_text(".vclip-status")
    assert re.fullmatch(rf"\d+ moments for “{QUERY}”, the best of \d+ windows in 5 videos \(4 min\)", status), status
    page.screenshot(path=artefacts / "browser-first-view.png")
    page.close()
    assert not console


def test_a_moment_is_found_played_and_left(page, console, artefacts):
    found = search(page)
    assert "in 5 videos" in page.inner_text(".vclip-status")
    assert 5 <= len(found) <= 10 and f"{MARKUP}.mkv" in {hit["video"] for hit in found}
    plays(page, found, artefacts / "browser-playing.png")
    assert not console


def test_notebook_10_runs_and_its_moments_play(open_notebook, console, artefacts):
    page = open_notebook("10_error_analysis.ipynb")
    # scrubbers and a map have players of their own; JupyterLab attaches them when they come into view
    others = "document.querySelectorAll('.vclip-browser:not(:has(.vclip-query))').forEach(widget => widget.remove())"
    page.evaluate(
        f"() => {{ {others}; new MutationObserver(() => {others}).observe(document.body,"
        " { childList: true, subtree: true }); }"
    )
    assert "in 12 videos" in page.inner_text(".vclip-status")
    page.locator(".vclip-browser").scroll_into_view_if_needed()
    assert len(pictures(page)) >= 6, "nobody has searched on the page"
    plays_whole(page, search(page))
    page.screenshot(path=artefacts / "notebook-10.png")
    page.close()
    assert not console


def test_a_video_with_sound_plays(page, console, world):
    page.fill(".vclip-files", "RABBIT")
    (hit, *_) = found = search(page)
    assert {hit["video"] for hit in found} == {"rabbit320.mp4"}
    page.click(".vclip-hits .vclip-hit >> nth=0")
    wait(page, f"{PLAYED}({hit['start']}, 1)")
    assert page.eval_on_selector(".vclip-stage video", "v => v.webkitAudioDecodedByteCount") > 0
    page.wait_for_selector(".vclip-line[d^=M]")  # what is asked after the clip could say something else
    assert not console


def test_a_file_that_is_gone_is_named(page, console, world, artefacts):
    file = world / "videos" / "test0001.mkv"
    away = file.rename(world / "test0001.mkv")
    page.fill(".vclip-files", "test0001")
    search(page)
    page.wait_for_selector(".vclip-no-picture >> text=no longer in")
    page.click(".vclip-hits .vclip-hit >> nth=0")
    page.wait_for_function("document.querySelector('.vclip-wrong')?.textContent.includes('no longer in')")
    page.screenshot(path=artefacts / "browser-gone.png")
    assert not page.locator(".vclip-wait").is_visible() and not console
    away.rename(file)
    page.fill(".vclip-files", "no such file")
    page.press(".vclip-query", "Enter")
    page.wait_for_function("document.querySelector('.vclip-status').textContent.startsWith('No video is named so')")


def plays_whole(page, found: list[dict]) -> None:
    """The file is sent once, as it is: other moments of it and the whole curve need nothing more."""
    video = next(hit["video"] for hit in found if hit["video"].endswith(".mp4"))
    same = [i for i, hit in enumerate(found) if hit["video"] == video]
    page.click(f".vclip-hits .vclip-hit >> nth={same[0]}")
    hit = found[same[0]]
    wait(page, f"{PLAYED}({hit['start']}, 0.3)")
    wait(page, f"v.paused && Math.abs(v.currentTime - {hit['end']}) < 0.3")
    seconds, source = length(page), page.get_attribute(".vclip-stage video", "src")
    assert abs(state(page)["duration"] - seconds) < 1
    outside = 0.8 * seconds if hit["end"] < 0.6 * seconds else 3
    click_curve(page, outside)
    wait(page, f"{PLAYED}({outside}, 0.2) || [...Array(v.played.length).keys()].some(i => v.played.end(i) > {outside})")
    assert abs(place(page) - outside) < 5
    for i in same[1:2]:
        page.click(f".vclip-hits .vclip-hit >> nth={i}")
        wait(page, f"Math.abs(v.currentTime - {found[i]['start']}) < 3 && !v.seeking")
    assert page.get_attribute(".vclip-stage video", "src") == source


def test_a_file_that_the_page_plays_is_sent_whole(page, console, world):
    (world / "home" / "encoded").write_text("")
    page.fill(".vclip-files", "test0002")
    plays_whole(page, search(page))
    assert not (world / "home" / "encoded").read_text() and not console


def test_more_like_a_hit_a_tag_and_a_second_curve(page, console, artefacts):
    found = search(page)
    page.fill(".vclip-tag >> nth=1", "good one")
    page.press(".vclip-tag >> nth=1", "Enter")
    assert page.locator(".vclip-stage").is_hidden() and hits(page) == found, "a tag plays nothing"
    page.click(".vclip-hits .vclip-hit >> nth=1")
    page.wait_for_selector(".vclip-line[d^=M]")
    assert page.input_value(".vclip-tag >> nth=1") == "good one"
    page.fill(".vclip-against", "fry the cactus")
    page.press(".vclip-against", "Enter")
    page.wait_for_selector(".vclip-line.vclip-other[d^=M]")
    assert page.locator(".vclip-entry").all_inner_texts() == [QUERY, "fry the cactus"]
    page.locator(".vclip-plot svg").hover(position=on_curve(page, 10.5))
    assert re.fullmatch(r"0:10 · −?\d+\.\d\d · −?\d+\.\d\d", page.inner_text(".vclip-tip"))
    assert (
        page.locator(".vclip-tick").first.inner_text() == "0:00" and page.get_attribute(".vclip-zero", "x2") == "1000"
    )
    page.screenshot(path=artefacts / "browser-curves.png")
    page.fill(".vclip-against", "")
    page.press(".vclip-against", "Enter")
    page.wait_for_selector(".vclip-line.vclip-other[d='']", state="attached")

    page.click(".vclip-like >> nth=0")
    page.wait_for_function("document.querySelector('.vclip-status').textContent.includes('moments like “')")
    assert hits(page) != found and page.input_value(".vclip-query") == QUERY
    page.fill(".vclip-query", "洋葱 stir")
    page.press(".vclip-query", "Enter")
    page.wait_for_selector(".vclip-note >> text=tokens of '洋葱 stir' are unknown")
    search(page)
    assert page.locator(".vclip-note").count() == 0 and not console


def test_a_second_view_says_the_same(open_notebook, console):
    """A hit was searched for in one view, words with an unknown one from Python: both views say so."""
    page = open_notebook("views.ipynb", cell=f"browser = RetrievalBrowser(index)\nbrowser.search({QUERY!r})\nbrowser")

    def run_below(source: str) -> None:
        page.evaluate(
            """async source => {
                const { commands, shell } = window.jupyterapp, notebook = shell.currentWidget.content;
                notebook.activeCellIndex = notebook.widgets.length - 1;
                await commands.execute("notebook:insert-cell-below");
                notebook.activeCell.model.sharedModel.setSource(source);
                commands.execute("notebook:run-cell");
            }""",
            source,
        )

    run_below("browser")
    page.wait_for_function("document.querySelectorAll('.vclip-browser').length === 2")
    page.click(".vclip-like >> nth=0")
    told = "[...document.querySelectorAll('.vclip-status')].map(status => status.textContent)"
    page.wait_for_function(f"{told}.every(text => text.includes('moments like “'))")
    assert len(set(page.evaluate(told))) == 1 and page.input_value(".vclip-query >> nth=1") == QUERY
    run_below("browser.search('洋葱 stir');")
    noted = "[...document.querySelectorAll('.vclip-note')].map(note => note.textContent)"
    page.wait_for_function(f"{noted}.filter(text => text.includes(\"tokens of '洋葱 stir' are unknown\")).length === 2")
    page.close()
    assert not console


def luminance(colour: str) -> float:
    rgb = [float(x) / (1 if colour.startswith("color(") else 255) for x in re.findall(r"[\d.]+", colour)[:3]]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_is_read_in_the_light_and_the_dark_theme(page, artefacts):
    search(page)
    page.click(".vclip-hits .vclip-hit >> nth=0")
    page.wait_for_selector(".vclip-line[d^=M]")
    seen = """names => names.map(name => {
        const element = document.querySelector(name), style = getComputedStyle(element);
        let behind = element;
        while (getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentNode;
        return [name, style.color, getComputedStyle(behind).backgroundColor];
    })"""
    names = [".vclip-query", ".vclip-go", ".vclip-status", ".vclip-video", ".vclip-score", ".vclip-said", ".vclip-like"]
    names += [".vclip-hit[aria-selected=true] .vclip-score", ".vclip-tick", ".vclip-why", ".vclip-title"]
    pages = {}
    for theme in ("JupyterLab Dark", "JupyterLab Light"):
        page.evaluate("t => window.jupyterapp.commands.execute('apputils:change-theme', {theme: t})", theme)
        page.wait_for_function("t => document.body.dataset.jpThemeName === t", arg=theme)
        page.wait_for_timeout(500)
        page.screenshot(path=artefacts / f"browser-{theme.split()[1].lower()}.png")
        for name, colour, behind in page.evaluate(seen, names):
            low, high = sorted((luminance(colour), luminance(behind)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (theme, name, colour, behind)
        pages[theme] = luminance(page.evaluate(seen, [".vclip-why"])[0][2])
    assert pages["JupyterLab Dark"] < 0.05 and pages["JupyterLab Light"] > 0.9


def plays(page, found: list[dict], screenshot) -> None:
    """A click on a hit plays it from its start to its end, a click on the curve plays from there."""
    # pictures come as the list is scrolled
    pictures(page)
    i, hit = next((i, hit) for i, hit in enumerate(found) if hit["start"] > 4 and hit["video"].endswith(".mkv"))
    page.click(f".vclip-hits .vclip-hit >> nth={i}")
    wait(page, f"{PLAYED}({AROUND}, 0)")
    start, seconds = hit["start"] - AROUND, length(page)
    assert abs(state(page)["duration"] - (min(hit["end"] + AROUND, seconds) - start)) < 0.2
    wait(page, f"{PLAYED}({AROUND}, 0.5)")
    wait(page, f"v.paused && Math.abs(v.currentTime - {hit['end'] - start}) < 0.3")
    time.sleep(0.5)  # it stays there
    assert abs(state(page)["time"] - (hit["end"] - start)) < 0.3 and abs(place(page) - hit["end"]) < 0.3

    page.screenshot(path=screenshot)
    outside = 0.8 * seconds if hit["end"] + AROUND < 0.7 * seconds else 3
    click_curve(page, outside)
    wait(page, f"{PLAYED}({AROUND}, 0.2)")
    assert outside - 0.5 < place(page) < outside + 20
    source = page.get_attribute(".vclip-stage video", "src")
    by_hand(page, "v.pause()")
    click_curve(page, outside + 3)
    wait(page, f"!v.seeking && v.readyState > 1 && v.currentTime > {AROUND + 2.5}")
    assert page.get_attribute(".vclip-stage video", "src") == source, "a seek in the clip fetches nothing"


def test_a_seek_by_hand_holds(page, console):
    """The video's own bar and keys set currentTime: after that neither the hit's end nor its start holds."""
    found = [(i, hit) for i, hit in enumerate(search(page)) if hit["start"] >= 8 and hit["end"] <= 44]
    found = [(i, hit) for i, hit in found if hit["video"].endswith(".mkv")]
    i, hit = min(found, key=lambda numbered: numbered[1]["end"] - numbered[1]["start"])
    after = AROUND + hit["end"] - hit["start"] + 0.2
    # in a frame before the page's own work in it, so that the page sees the new time before it hears of the seek
    moved = f"v.src !== old && v.currentTime > {AROUND}"
    jump = f"{moved} ? (v.currentTime = {after}) : requestAnimationFrame(jump)"
    by_hand(page, f"const old = v.src, jump = () => {jump}; requestAnimationFrame(jump)")
    page.click(f".vclip-hits .vclip-hit >> nth={i}")
    wait(page, "v.ended && v.readyState > 1")  # not paused at the hit's end, and the last frame stays
    assert state(page)["time"] == state(page)["duration"]
    by_hand(page, "v.currentTime = 1; v.play()")
    wait(page, f"{PLAYED}(1, 0.5)")
    for time_of in ("0.5", "v.duration"):
        by_hand(page, f"v.pause(); v.currentTime = {time_of}")
        there = f"v.paused && v.readyState > 1 && !v.seeking && Math.abs(v.currentTime - {time_of}) < 0.2"
        wait(page, there)
        time.sleep(0.5)  # it stays there
        assert wait(page, f"[{there}]")[0]
    assert not console


def test_of_hurried_clicks_only_the_last_is_encoded(page, console, world):
    found, encoded, hold = search(page), world / "home" / "encoded", world / "home" / "hold clip"
    encoded.write_text("")
    hold.touch()
    first, second, third = [i for i, hit in enumerate(found) if hit["video"].endswith(".mkv")][:3]
    for i in (first, second, third):
        page.click(f".vclip-hits .vclip-hit >> nth={i}")
        assert page.inner_text(".vclip-wait") == "loading the moment…"
        while i == first and not encoded.read_text():
            page.wait_for_timeout(50)
    hold.unlink()
    wait(page, f"{PLAYED}({min(AROUND, found[third]['start'])}, 0)")
    assert [float(start) for start in encoded.read_text().split()] == [
        max(0, found[i]["start"] - AROUND) for i in (first, third)
    ]
    assert page.inner_text(".vclip-title").startswith(f"{found[third]['video']}, ")
    assert not page.locator(".vclip-wait").is_visible() and not console


def by_hand(page, statements: str) -> None:
    page.eval_on_selector(".vclip-stage video", f"v => {{ {statements} }}")


def test_the_curve_of_a_very_long_video_is_drawn(chromium, console):
    page = console.listen(chromium.new_page())
    page.set_content("<body></body>")
    for name in ("page.js", "curve.js"):
        page.add_script_tag(content=(STATIC / name).read_text(encoding="utf-8"))
    page.evaluate("""() => {
        const n = 200000, curve = makeCurve(() => {});
        document.body.append(curve.box);
        curve.open(n, 0, 9);
        curve.draw([...Array(n).keys()].map((i) => i / n - 0.5));
    }""")
    assert [page.inner_text(f".vclip-{end}") for end in ("low", "high")] == ["−0.50", "0.50"]
    assert 4 <= page.locator(".vclip-tick").count() <= 9 and page.get_attribute(".vclip-line", "d")[:2] == "M0"
    page.close()
    assert not console


def test_keys_files_and_markup(page, console, artefacts):
    found = search(page)
    page.press(".vclip-query", "ArrowDown")
    for _ in range(2):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    chosen = page.locator('.vclip-hit[aria-selected="true"]')
    assert chosen.count() == 1 and chosen.locator(".vclip-video").inner_text() == found[1]["video"]
    assert page.locator(".vclip-stage").is_hidden(), "arrow keys encode nothing"
    page.keyboard.press("Enter")
    wait(page, f"{played_from(found[1])}, 0.05)")

    assert page.locator(".vclip-browser img[src=x]").count() == 0
    page.fill(".vclip-files", MARKUP)
    page.press(".vclip-query", "Enter")
    page.wait_for_function(
        """name => {
            const shown = [...document.querySelectorAll(".vclip-hits .vclip-video")]
            return shown.length && shown.every(video => video.innerText === name)
        }""",
        arg=f"{MARKUP}.mkv",
    )
    assert {hit["video"] for hit in hits(page)} == {f"{MARKUP}.mkv"}
    assert MARKUP in page.locator(".vclip-said").first.inner_text()
    page.screenshot(path=artefacts / "browser-markup.png")
    answered(page)  # what the page says of this search would replace what it says next
    page.fill(".vclip-query", " ")
    page.press(".vclip-query", "Enter")
    assert "Type a few words" in page.inner_text(".vclip-status")
    assert not console


def test_a_moment_plays_before_its_scores_are_there(page, console, world):
    search(page, "something else")
    hold_search, hold_scores = world / "home" / "hold search", world / "home" / "hold scores"
    hold_search.touch()
    page.fill(".vclip-query", QUERY)
    page.press(".vclip-query", "Enter")
    page.fill(".vclip-query", "typed meanwhile")
    hold_scores.touch()
    hold_search.unlink()
    answered(page)
    assert page.input_value(".vclip-query") == "typed meanwhile"

    hit = hits(page)[1]
    page.click(".vclip-hits .vclip-hit >> nth=1")
    wait(page, f"{played_from(hit)}, 0)")
    assert not page.get_attribute(".vclip-line", "d")
    hold_scores.unlink()
    page.wait_for_function("document.querySelector('.vclip-line').getAttribute('d')")
    assert QUERY in page.inner_text(".vclip-status"), "playing says nothing over it"
    assert not console


def without_kernels(page) -> None:
    """End all kernels; returns once the server has ended them and the page knows."""
    page.evaluate("() => window.jupyterapp.serviceManager.sessions.shutdownAll()")
    page.wait_for_function("!window.jupyterapp.shell.currentWidget.sessionContext.session")


def test_a_saved_notebook_keeps_the_hits_as_text_and_without_a_kernel_nothing_is_found(open_notebook, world):
    page = open_notebook("saved.ipynb")
    kernel = int((world / "home" / "pid").read_text())
    found = search(page)
    page.click(".vclip-hits .vclip-hit >> nth=0")
    wait(page, "!v.paused && v.readyState > 2")
    page.evaluate("() => { window.jupyterapp.commands.execute('docmanager:save') }")
    path, end = world / "home" / "saved.ipynb", time.monotonic() + PATIENCE / 1000
    while found[0]["video"] not in path.read_text() and time.monotonic() < end:
        time.sleep(0.2)
    text = path.read_text()
    assert found[0]["video"] in text and len(text) < 60_000
    assert not re.search(r"[A-Za-z0-9+/=]{500,}", text), "binary data in the notebook"
    outputs = json.loads(text)["cells"][1]["outputs"]
    assert "text/plain" in outputs[-1]["data"]

    os.kill(kernel, signal.SIGSTOP)  # it cannot answer, and the page cannot know
    page.fill(".vclip-query", "something else")
    page.press(".vclip-query", "Enter")
    assert page.inner_text(".vclip-status") == "searching…"
    page.wait_for_selector(".vclip-status.vclip-wrong")
    late = page.inner_text(".vclip-status")
    assert "No answer from Python yet" in late and hits(page) == found
    # end this page's kernel; returns once the server has ended it and the page knows
    page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.wait_for_function("!window.jupyterapp.shell.currentWidget.sessionContext.session")
    page.press(".vclip-query", "Enter")
    page.wait_for_function("late => document.querySelector('.vclip-wrong')?.textContent !== late", arg=late)
    page.wait_for_selector(".vclip-status.vclip-wrong")
    page.close()
    later = open_notebook("saved.ipynb", run=False)
    later.wait_for_selector("details summary")
    assert later.locator("summary").inner_text() == f'As text: {len(found)} moments for "{QUERY}"'
    later.close()


def test_voila_shows_the_same_page(world, chromium, console, artefacts):
    notebook = write_notebook(world, "app.ipynb")
    command = ["voila", "--no-browser", "--Voila.ip=127.0.0.1", "--Voila.port_retries=0", str(notebook)]
    for port in serve(command, world, "/no-such-page"):
        page = console.listen(chromium.new_page(viewport={"width": 1300, "height": 1100}))
        page.set_default_timeout(PATIENCE)
        page.goto(f"http://127.0.0.1:{port}/")
        page.wait_for_selector(".vclip-browser")
        hit = search(page)[0]
        page.click(".vclip-hits .vclip-hit >> nth=0")
        wait(page, f"{played_from(hit)}, 0)")
        page.screenshot(path=artefacts / "browser-voila.png")
        pictures(page)
        search(page, "fry the cactus")
        assert not page.locator(".vclip-as-text:visible").count(), "it would be of an earlier search"
        assert not page.locator(".progress:visible, progress:visible, .widget-hprogress:visible").count()
        page.close()
    # Voila's own template asks a server for its icons
    assert not [complaint for complaint in console if "fontawesome" not in complaint]
