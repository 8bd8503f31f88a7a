import os
import shutil
from pathlib import Path

import indexes
import numpy as np
import pytest
from permissions import unprivileged

from vclip.moments.store import Store
from vclip.moments.update import Change, UpdateReport, update


def run(store, folder, encoder):
    entries, report = update(store, folder, lambda: encoder, lambda videos: [np.ones((1, 2), "f4") for _ in videos])
    store.publish(store.pack(entries))
    return {entry.path: entry for entry in store.entries}, sorted((row.video, row.change) for row in report)


@pytest.fixture
def folder(tmp_path):
    return indexes.folder(tmp_path / "videos", (1, 2, 3))


def test_only_what_changed_is_encoded(tmp_path, folder):
    store, encoder = Store.prepare(tmp_path / "index", {}), indexes.Quadrants()
    entries, report = run(store, folder, encoder)
    assert report == [(f"video {i}.mov", "added") for i in range(3)] and encoder.calls == 3
    assert [entry.seconds for entry in entries.values()] == [1, 2, 3]
    (folder / "video 0.mov").touch()
    again, report = run(store, folder, encoder)
    assert report == [] and encoder.calls == 3 and again["video 0.mov"].mtime > entries["video 0.mov"].mtime
    (folder / "video 1.mov").rename(folder / "b.mov")
    indexes.write(folder / "video 2.mov", 4, 9)
    entries, report = run(store, folder, encoder)
    assert report == [("b.mov", "moved"), ("video 2.mov", "changed")] and encoder.calls == 4
    assert list(entries) == ["b.mov", "video 0.mov", "video 2.mov"]
    features = store.features(entries["video 2.mov"])
    np.testing.assert_allclose(features, pictures(4, 9), atol=2e-3)


def test_two_that_change_places_have_moved(tmp_path, folder):
    store, encoder = Store.prepare(tmp_path / "index", {}), indexes.Quadrants()
    run(store, folder, encoder)
    for old, new in (("0", "x"), ("1", "0"), ("x", "1")):
        (folder / f"video {old}.mov").rename(folder / f"video {new}.mov")
    entries, report = run(store, folder, encoder)
    assert report == [("video 0.mov", "moved"), ("video 1.mov", "moved")] and encoder.calls == 3
    assert [entry.seconds for entry in entries.values()] == [2, 1, 3]
    np.testing.assert_array_equal(store.features(entries["video 1.mov"]), pictures(1, 0).astype("f2"))


def test_a_renamed_file_whose_name_another_takes_is_not_encoded_again(tmp_path, folder):
    store, encoder = Store.prepare(tmp_path / "index", {}), indexes.Quadrants()
    run(store, folder, encoder)
    (folder / "sub").mkdir()
    (folder / "video 1.mov").rename(folder / "sub/old.mov")
    indexes.write(folder / "video 1.mov", 5, 9)
    (folder / "video 2.mov").rename(folder / "z.mov")
    entries, report = run(store, folder, encoder)
    assert report == [("sub/old.mov", "moved"), ("video 1.mov", "changed"), ("z.mov", "moved")] and encoder.calls == 4
    np.testing.assert_array_equal(store.features(entries["sub/old.mov"]), pictures(2, 1).astype("f2"))


def test_a_copy_is_another_video(tmp_path, folder):
    store, encoder = Store.prepare(tmp_path / "index", {}), indexes.Quadrants()
    run(store, folder, encoder)
    shutil.copy(folder / "video 2.mov", folder / "video 0.mov")
    assert run(store, folder, encoder)[1] == [("video 0.mov", "changed")] and encoder.calls == 4
    (folder / "video 0.mov").unlink()
    (folder / "video 2.mov").rename(folder / "x.mov")  # of two that are gone one has moved
    report = run(store, folder, encoder)[1]
    assert [change for _, change in report] == ["dropped", "moved"] and report[1][0] == "x.mov" and encoder.calls == 4


def pictures(seconds: int, seed: int) -> np.ndarray:
    """The features of what `indexes.write` writes."""
    shown = np.random.default_rng(seed).integers(0, 256, (seconds, 2, 2, 3), dtype=np.uint8)
    return (shown.reshape(seconds, 12) / 255).astype("f4")


def test_a_failed_file_is_tried_again_and_a_lost_shard_made_again(tmp_path, folder):
    store, encoder = Store.prepare(tmp_path / "index", {}), indexes.Quadrants()
    (folder / "bad.mov").write_bytes(b"no video")
    entries, report = run(store, folder, encoder)
    assert ("bad.mov", "added") in report and "bad.mov" not in entries
    assert run(store, folder, encoder)[1] == [("bad.mov", "added")] and encoder.calls == 3
    indexes.write(folder / "bad.mov", 2, 5)
    assert "bad.mov" in run(store, folder, encoder)[0]
    for shard in store.path.glob("features-*"):
        shard.write_bytes(b"")
    store = Store(store.path)
    entries, report = run(store, folder, encoder)
    assert encoder.calls == 8 and all(len(store.features(entry)) == entry.seconds for entry in entries.values())
    assert report == [(name, "repaired") for name in ("bad.mov", *(f"video {i}.mov" for i in range(3)))]


def test_a_video_of_which_the_model_makes_nan_has_failed(tmp_path, folder):
    store, encoder = Store.prepare(tmp_path / "index", {}), indexes.Quadrants()

    def embed(videos):
        return [np.full((1, 2), np.inf if len(features) == 2 else 1, "f4") for features in videos]

    entries, report = update(store, folder, lambda: encoder, embed)
    assert [entry.path for entry in entries] == ["video 0.mov", "video 2.mov"]
    failed = next(row for row in report if row.status == "failed")
    assert failed.video == "video 1.mov" and "NaN or infinity" in failed.error and len(report) == 3


def test_names_that_a_reader_confuses_are_told_apart(tmp_path):
    names = ["caf\xe9.mov", "cafe\u0301.mov", "A.mov", "a.mov", "d\\udcff.mov", "d\udcff.mov", ".hidden/e.mov"]
    for i, name in enumerate(names):
        indexes.write(tmp_path / "v" / "plain.mov", i + 1, i)
        (tmp_path / "v" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "v" / "plain.mov").rename(tmp_path / "v" / name)
    store = Store.prepare(tmp_path / "index", {})
    entries, report = update(store, tmp_path / "v", indexes.Quadrants, lambda v: [np.ones((1, 2), "f4") for _ in v])
    assert {entry.path: entry.seconds for entry in entries} == {name: i + 1 for i, name in enumerate(names[:5])}
    said = {row.video + str(row.seconds): (row.status, row.error) for row in report}
    assert said["caf\xe9.mov1"] == ("named alike", r"its name looks like 'cafe\u0301.mov', another file")
    assert said["a.mov4"] == ("named alike", "its name looks like 'A.mov', another file")
    assert said["d\\udcff.mov5"] == ("ok", "")
    assert said["d\\udcff.mov0"] == ("failed", "another file's name is printed just like this one's: rename it")


def test_what_may_not_be_read_is_reported(tmp_path, folder):
    indexes.write(folder / "sub" / "b.mov", 2, 7)
    store, encoder = Store.prepare(tmp_path / "index", {}), indexes.Quadrants()
    before, _ = run(store, folder, encoder)
    (folder / "sub").chmod(0)
    (folder / "video 0.mov").chmod(0)
    os.utime(folder / "video 0.mov")
    try:
        with unprivileged(tmp_path):
            entries, report = update(Store("index"), Path("videos"), lambda: encoder, lambda videos: [])
    finally:
        (folder / "sub").chmod(0o755)
    assert [entry.path for entry in entries] == ["sub/b.mov", "video 1.mov", "video 2.mov"]
    assert entries[0] == before["sub/b.mov"]
    assert [(row.video, row.change, row.status) for row in report] == [
        ("sub", "unlisted", "failed"),
        ("video 0.mov", "changed", "failed"),
    ]
    assert all("Permission denied" in row.error for row in report)


def test_work_is_saved_as_it_goes(tmp_path, folder, monkeypatch):
    saved = []
    add = Store.add
    monkeypatch.setattr(Store, "add", lambda self, rows: saved.append(len(rows)) or add(self, rows))
    store = Store.prepare(tmp_path / "index", {})
    update(store, folder, indexes.Quadrants, lambda videos: [np.ones((1, 2), "f4") for _ in videos])
    monkeypatch.setattr("vclip.moments.update.SAVE_EVERY", 0)
    store = Store.prepare(tmp_path / "other", {})
    update(store, folder, indexes.Quadrants, lambda videos: [np.ones((1, 2), "f4") for _ in videos])
    assert saved == [3, 1, 1, 1]


def test_a_report_shows_what_is_wrong():
    report = UpdateReport([Change("a.mp4", "added", 3, "ok", ""), Change("<b>\x1b", "changed", 0, "failed", "<i>")])
    assert repr(report) == "1 added, 1 failed\n  <b>\\x1b (changed) failed: <i>"
    assert "<b>" not in report._repr_html_() and report._repr_html_().count("<tr") == 3
    assert repr(UpdateReport()) == "nothing changed"
