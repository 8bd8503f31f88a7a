"""`extract` on a Ray cluster of this machine, whose processes are killed. It needs an environment of its own."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from videos import grey, write_video

from vclip.data.corpus import Corpus
from vclip.data.extraction import extract
from vclip.data.spec import FeatureSpec
from vclip.datasets.minihowto import minihowto
from vclip.encoders.loading import load_encoder

ray = pytest.importorskip("ray")
from extract_on_ray import ray_map  # noqa: E402

pytestmark = pytest.mark.long
SCRIPT = minihowto().parent / "extract_on_ray.py"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster of two cores that outlives its drivers."""
    mark = str(tmp_path_factory.mktemp("ray"))
    files = (__file__, sys.modules["videos"].__file__, SCRIPT)
    path = os.pathsep.join(str(Path(file).resolve().parent) for file in files)
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "VCLIP_CLUSTER": mark}
    options = ["--num-cpus=2", "--object-store-memory=100000000", "--include-dashboard=false", "--port=0"]
    command = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--disable-usage-stats", *options]
    log = Path(mark, "log")
    for _ in range(3):  # Ray gives a cluster 30 s to start, which a busy machine may miss
        with open(log, "w") as file:
            head = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        wait(lambda head=head: "ray.init(" in log.read_text() or head.poll() is not None)
        if head.poll() is None:
            break
    assert head.poll() is None, log.read_text()
    yield mark
    ray.shutdown()
    head.terminate()
    head.wait(60)


def wait(until, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def actors(cluster: str) -> list[int]:
    """The processes at work on a video."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            ours = f"VCLIP_CLUSTER={cluster}".encode() in (process / "environ").read_bytes()
            if ours and (process / "cmdline").read_bytes().startswith(b"ray::Worker"):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def done(out: Path) -> int:
    if not (out / "store.sqlite").is_file():
        return 0
    with closing(sqlite3.connect(out / "store.sqlite")) as db:
        try:
            return db.execute("SELECT count(*) FROM videos").fetchone()[0]
        except sqlite3.OperationalError:  # not yet made
            return 0


def content(out: Path) -> dict:
    corpus = Corpus.open(out)
    return {
        v: (corpus.features(i).tobytes(), corpus.captions(i), corpus.media[i]) for i, v in enumerate(corpus.video_ids)
    }


def test_actor_and_driver_killed(cluster, tmp_path):
    folder, out = shutil.copytree(minihowto() / "videos", tmp_path / "videos"), tmp_path / "out"
    (folder / "bad.mp4").write_bytes(b"no video")
    torch.set_num_threads(1)  # as Ray's actors: sums are then the same
    report = extract(folder, tmp_path / "whole", load_encoder("efficientnet-lite0", fps=1))
    command = [sys.executable, SCRIPT, folder, out, "efficientnet-lite0", "--fps", "1"]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait(lambda: done(out) >= 1)
    os.kill(actors(cluster)[0], signal.SIGKILL)
    wait(lambda: done(out) >= 6)
    first.kill()
    first.communicate()
    before = done(out)
    assert 6 <= before < len(report) and not (out / "corpus.json").exists()
    wait(lambda: not actors(cluster))  # they end with their driver
    again = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert again.returncode == 0, again.stderr
    assert f"| {before}/{len(report)} " in again.stderr  # what is done, of all
    assert again.stdout.strip() == str(report).replace(str(tmp_path / "whole"), str(out))
    assert [row.status for row in report].count("failed") == 1
    ours, whole = content(out), content(tmp_path / "whole")
    different = [video for video in whole if repr(ours[video]) != repr(whole[video])]
    assert not different and len(ours) == len(whole) == len(report) - 1


class Fatal:
    """Mean colours; a picture of level 7 kills the process, one of level 8 is an error."""

    def __init__(self, loads: Path):
        self.spec = FeatureSpec("fatal", "0" * 16, 2, 16, "centre", "x / 255", "mean", None, 3)
        self.loads = loads

    def __setstate__(self, state):
        vars(self).update(state)
        with open(self.loads, "a") as file:
            file.write(f"{os.getpid()}\n")

    def __call__(self, frames):
        if (frames == 7).all():
            os.kill(os.getpid(), signal.SIGKILL)
        if (frames == 8).all():
            raise ValueError("no such picture")
        return frames.mean((1, 2, 3)).astype(np.float32)


def test_a_video_that_kills_costs_a_row_and_each_process_loads_once(cluster, tmp_path):
    folder, out, loads = tmp_path / "videos", tmp_path / "out", tmp_path / "loads"
    folder.mkdir()
    for level in range(12):
        if level != 8:
            write_video(folder / f"{level:02}.mov", [0, 500], grey(level, level))
    if not ray.is_initialized():
        ray.init("auto")
    # five actors on two cores: those that never start hold up none
    report = extract(folder, out, Fatal(loads), map=lambda function, items: ray_map(function, items, actors=5))
    assert [row.video for row in report if row.status != "ok"] == ["07"] and len(report) == 11
    assert "07.mov: its process died 3 times" in report[7].error
    assert content(out)["06"][0] == np.full((1, 3), 6, np.float16).tobytes()
    pids = loads.read_text().split()
    assert len(set(pids)) == len(pids) <= 5 + 3
    wait(lambda: not actors(cluster))
    write_video(folder / "08.mov", [0, 500], grey(8, 8))
    (folder / "07.mov").unlink()
    with pytest.raises(ValueError, match="no such picture"):  # of the encoder, not of a file
        extract(folder, out, Fatal(loads), map=ray_map)
    wait(lambda: not actors(cluster))
