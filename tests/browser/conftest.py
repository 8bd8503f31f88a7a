"""A small indexed folder, JupyterLab and Voila that serve a notebook on it, and Debian's Chromium to open them."""

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import av
import nbformat
import pytest

import vclip

PATIENCE = 120_000  # ms; JupyterLab, a kernel that imports torch and Chromium share the cores with whatever else runs
NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
MARKUP = "<img src=x onerror=alert(1)>"
# a search, the scores and the encoding of a clip wait while a file of that name is there; `encoded` is a line a clip
SET_UP = """import os
import time
from pathlib import Path

import vclip
from vclip import RetrievalBrowser
from vclip.search import playback


def held(work, name):
    def slow(*given, **named):
        if name == "hold clip":
            with open("encoded", "a") as file:
                file.write(f"{given[1]}\\n")
        while Path(name).exists():
            time.sleep(0.05)
        return work(*given, **named)

    return slow


Path("pid").write_text(str(os.getpid()))
index = vclip.MomentIndex.open("../videos/.vclip", vclip.load(vclip.minihowto() / "checkpoint"))
index.search, index.explain = held(index.search, "hold search"), held(index.explain, "hold scores")
playback.clip = held(playback.clip, "hold clip")"""
SETTINGS = {
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
    # every cell stays in the page, whether it is in view or not
    "notebook-extension/tracker": '{"windowingMode": "none"}',
}


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory) -> Path:
    """Where screenshots are kept: $VCLIP_ARTEFACTS, else pytest's temporary folder."""
    path = Path(os.environ.get("VCLIP_ARTEFACTS") or tmp_path_factory.mktemp("artefacts"))
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="session")
def world(tmp_path_factory, shared) -> Path:
    """A folder with `home` and `videos`: their index, four of MiniHowTo's, one named and captioned in markup, and one
    with sound. A page plays test0002 and the one with sound as they are, and clips of the others, in Matroska."""
    world = tmp_path_factory.mktemp("world")
    (world / "videos").mkdir()
    (world / "home").mkdir()
    for name in ("test0000", "test0001", "test0002", "test0003"):
        for suffix in (".mp4", ".vtt"):
            stem = MARKUP if name == "test0003" else name
            copied = shutil.copy(vclip.minihowto() / "videos" / f"{name}{suffix}", world / "videos" / f"{stem}{suffix}")
            if suffix == ".mp4" and name != "test0002":
                to_matroska(Path(copied))
    said = f"WEBVTT\n\n00:00.000 --> 10:00.000\n{MARKUP.replace('<', '&lt;').replace('>', '&gt;')} we stir\n"
    (world / "videos" / f"{MARKUP}.vtt").write_text(said)
    shutil.copy(shared / "videos" / "rabbit320.mp4", world / "videos")
    vclip.load(vclip.minihowto() / "checkpoint").index(world / "videos")
    return world


def to_matroska(path: Path) -> None:
    """Put the packets of a file of one stream into Matroska, beside it."""
    with av.open(str(path)) as read, av.open(str(path.with_suffix(".mkv")), "w") as out:
        stream = out.add_stream_from_template(read.streams[0])
        for packet in read.demux():
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    path.unlink()


def write_notebook(world: Path, name: str, cell: str = "RetrievalBrowser(index)") -> Path:
    cells = [nbformat.v4.new_code_cell(source) for source in (SET_UP, cell)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path = world / "home" / name
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)
    return path


def serve(command: list[str], world: Path, path: str):
    """Start a server of ours, which tries one port only; yields the port once it answers, and stops it in the end."""
    settings = world / "settings" / "@jupyterlab"
    for name, text in SETTINGS.items():
        file = settings / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    own = {f"JUPYTER_{name}_DIR": str(world / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    own |= {"JUPYTERLAB_SETTINGS_DIR": str(world / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(world / "workspaces")}
    own |= {"IPYTHONDIR": str(world / "ipython")}
    for attempt in range(3):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        log = world / f"{command[0]}-{attempt}.log"
        with open(log, "wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", *command, f"--port={port}"],
                cwd=world / "home", env=os.environ | own, stdout=file, stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            if _answers(process, f"http://127.0.0.1:{port}{path}"):
                yield port
                return
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if "already in use" not in log.read_text():  # else somebody took the free port meanwhile
            break
    pytest.fail(f"{command[0]} does not answer: {log.read_text()}")


def _answers(process: subprocess.Popen, url: str) -> bool:
    end = time.monotonic() + PATIENCE / 1000
    while process.poll() is None and time.monotonic() < end:
        try:
            urllib.request.urlopen(url, timeout=10).close()
        except urllib.error.HTTPError:
            pass  # it answers
        except OSError:
            time.sleep(0.2)
            continue
        return process.poll() is None
    return False


@pytest.fixture(scope="session")
def lab(world):
    """JupyterLab's address, with `{}` where the notebook's name goes."""
    token = secrets.token_hex(16)
    command = [
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        f"--IdentityProvider.token={token}",
        "--ServerApp.ip=127.0.0.1",
    ]
    command += ["--LabApp.expose_app_in_browser=True", "--ServerApp.port_retries=0"]
    for port in serve(command, world, f"/api/status?token={token}"):
        yield f"http://127.0.0.1:{port}/doc/tree/{{}}?token={token}"


@pytest.fixture(scope="session")
def chromium():
    executable = shutil.which("chromium")
    if executable is None:
        message = "no chromium: apt-get install chromium to run this test"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"], timeout=PATIENCE)
        yield browser
        browser.close()


class Console(list):
    """What a page complains of: console errors, exceptions, dialogs."""

    def listen(self, page):
        page.on("console", lambda m: self.append(f"{m.text} {m.location.get('url')}") if m.type == "error" else None)
        page.route(re.compile(r"https?://(?!127\.0\.0\.1)"), lambda route: route.abort())  # there is no network
        page.on("pageerror", lambda error: self.append(str(error)))
        page.on("dialog", lambda dialog: (self.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        return page


@pytest.fixture(scope="session")
def complaints() -> Console:
    return Console()


@pytest.fixture
def console(complaints) -> Console:
    """What any page complained of in this test."""
    complaints.clear()
    return complaints


@pytest.fixture(scope="session")
def open_notebook(world, lab, chromium, complaints):
    """Opens a notebook in JupyterLab, the project's or one of ours, runs it, gives the page with the browser."""

    def opened(name: str, run: bool = True, **cell):
        if (NOTEBOOKS / name).exists():
            notebook = nbformat.read(NOTEBOOKS / name, 4)
            for cell in notebook.cells:
                cell.update({"outputs": [], "execution_count": None} if cell.cell_type == "code" else {})
            nbformat.write(notebook, world / "home" / name)
        elif run:
            write_notebook(world, name, **cell)
        page = complaints.listen(chromium.new_page(viewport={"width": 1300, "height": 1100}))
        page.set_default_timeout(PATIENCE)
        page.goto(lab.format(name))
        page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        if run:
            kernel = "window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel"
            page.wait_for_function(f"{kernel}?.status === 'idle'")  # or it would ask for a kernel
            page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
            page.wait_for_selector(".vclip-browser", timeout=2.5 * PATIENCE)
        return page

    return opened


@pytest.fixture(scope="session")
def shared_page(open_notebook):
    """One notebook with the browser, in which most tests search: a kernel takes long to start."""
    return open_notebook("browser.ipynb")


@pytest.fixture
def page(shared_page, world, artefacts, request):
    """The shared page; what a test asked of it, or left held when it failed, is not the next one's."""
    yield shared_page
    shared_page.screenshot(path=artefacts / f"{request.node.name}.png")
    for hold in (world / "home").glob("hold *"):
        hold.unlink()
    shared_page.fill(".vclip-files", "")
