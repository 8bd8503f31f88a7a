import indexes
import numpy as np
import pytest

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
    expected = np.random.default_rng(9).integers(0, 256, (4, 2, 2, 3), dtype=np.uint8).reshape(4, 12) / 255
    np.testing.assert_allclose(features, expected, atol=2e-3)


def test_two_that_change_places_are_two_that_changed(tmp_path, folder):
    store, encoder = Store.prepare(tmp_path / "index", {}), indexes.Quadrants()
    run(store, folder, encoder)
    for old, new in (("0", "x"), ("1", "0"), ("x", "1")):
        (folder / f"video {old}.mov").rename(folder / f"video {new}.mov")
    entries, report = run(store, folder, encoder)
    assert report == [("video 0.mov", "changed"), ("video 1.mov", "changed")]
    assert [entry.seconds for entry in entries.values()] == [2, 1, 3]


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
    entries, _ = run(store, folder, encoder)
    assert encoder.calls == 8 and all(len(store.features(entry)) == entry.seconds for entry in entries.values())


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
