import os
import shutil
from pathlib import Path

import indexes
import numpy as np
import pytest
from permissions import unprivileged

from vclip.data.extraction import extract_one
from vclip.search.store import Store
from vclip.search.update import Change, UpdateReport, update


def ones(videos):
    return [np.ones((1, 2), "f4") for _ in videos]


def run(store, folder, encoder):
    entries, failed, report = update(store, folder, lambda: encoder, ones)
    store.publish("..", store.pack(entries), failed)
    return {entry.path: entry for entry in store.entries}, sorted((row.video, row.change) for row in report)


@pytest.fixture
def folder(tmp_path):
    return indexes.folder(tmp_path / "videos", (1, 2, 3))


def test_only_what_changed_is_encoded(tmp_path, folder):
    store, encoder = Store.prepare(tmp_path / "index", {}, ".."), indexes.Quadrants()
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
    store, encoder = Store.prepare(tmp_path / "index", {}, ".."), indexes.Quadrants()
    run(store, folder, encoder)
    for old, new in (("0", "x"), ("1", "0"), ("x", "1")):
        (folder / f"video {old}.mov").rename(folder / f"video {new}.mov")
    entries, report = run(store, folder, encoder)
    assert report == [("video 0.mov", "moved"), ("video 1.mov", "moved")] and encoder.calls == 3
    assert [entry.seconds for entry in entries.values()] == [2, 1, 3]
    np.testing.assert_array_equal(store.features(entries["video 1.mov"]), pictures(1, 0).astype("f2"))


def test_a_renamed_file_whose_name_another_takes_is_not_encoded_again(tmp_path, folder):
    store, encoder = Store.prepare(tmp_path / "index", {}, ".."), indexes.Quadrants()
    run(store, folder, encoder)
    (folder / "sub").mkdir()
    (folder / "video 1.mov").rename(folder / "sub/old.mov")
    indexes.write(folder / "video 1.mov", 5, 9)
    (folder / "video 2.mov").rename(folder / "z.mov")
    entries, report = run(store, folder, encoder)
    assert report == [("sub/old.mov", "moved"), ("video 1.mov", "changed"), ("z.mov", "moved")] and encoder.calls == 4
    np.testing.assert_array_equal(store.features(entries["sub/old.mov"]), pictures(2, 1).astype("f2"))


def test_a_copy_is_another_video(tmp_path, folder):
    store, encoder = Store.prepare(tmp_path / "index", {}, ".."), indexes.Quadrants()
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


def test_a_failed_file_is_tried_again_when_it_changes(tmp_path, folder):
    store, encoder = Store.prepare(tmp_path / "index", {}, ".."), indexes.Quadrants()
    bad = folder / "bad.mov"
    bad.write_bytes(b"no video")
    entries, report = run(store, folder, encoder)
    assert ("bad.mov", "added") in report and "bad.mov" not in entries
    before = [row for row in update(Store(store.path), folder, lambda: encoder, ones)[2] if row.video == "bad.mov"]
    for _ in range(2):
        assert run(store, folder, encoder)[1] == [("bad.mov", "skipped")] and encoder.calls == 3
    assert [(row.change, row.status) for row in before] == [("skipped", "failed")] and "bad.mov" in before[0].error
    os.utime(bad, (0, 0))
    assert run(store, folder, encoder)[1] == [("bad.mov", "added")]
    indexes.write(bad, 2, 5)
    assert "bad.mov" in run(store, folder, encoder)[0] and store.state.failed == []
    bad.write_bytes(b"no video")
    assert run(store, folder, encoder)[1] == [("bad.mov", "changed")]
    assert run(store, folder, encoder)[1] == [("bad.mov", "skipped")]
    bad.unlink()
    assert run(store, folder, encoder)[1] == [] and store.state.failed == [] and encoder.calls == 4


def test_a_lost_shard_is_made_again(tmp_path, folder):
    store, encoder = Store.prepare(tmp_path / "index", {}, ".."), indexes.Quadrants()
    run(store, folder, encoder)
    for shard in store.path.glob("features-*"):
        shard.write_bytes(b"")
    store = Store(store.path)
    entries, report = run(store, folder, encoder)
    assert encoder.calls == 6 and all(len(store.features(entry)) == entry.seconds for entry in entries.values())
    assert report == [(f"video {i}.mov", "repaired") for i in range(3)]


def test_a_video_of_which_the_model_makes_nan_has_failed_until_it_changes(tmp_path, folder):
    store, encoder = Store.prepare(tmp_path / "index", {}, ".."), indexes.Quadrants()

    def embed(videos):
        return [np.full((1, 2), np.inf if len(features) == 2 else 1, "f4") for features in videos]

    entries, failed, report = update(store, folder, lambda: encoder, embed)
    assert [entry.path for entry in entries] == ["video 0.mov", "video 2.mov"]
    row = next(row for row in report if row.status == "failed")
    assert row.video == "video 1.mov" and "NaN or infinity" in row.error and len(report) == 3
    store.publish("..", store.pack(entries), failed)
    again = update(store, folder, lambda: encoder, embed)
    assert again[:2] == (store.entries, failed) and encoder.calls == 3
    assert [(r.video, r.change, r.error) for r in again[2]] == [("video 1.mov", "skipped", row.error)]


def test_a_file_that_changes_while_it_is_encoded_is_tried_again(tmp_path, folder, monkeypatch):
    def while_it_is_written(name, path, encoder):
        row = extract_one(name, path, encoder)
        if path.name == "video 1.mov":
            os.utime(path, (0, store.path.stat().st_mtime + encoder.calls))
        return row

    monkeypatch.setattr("vclip.data.extraction.extract_one", while_it_is_written)
    (folder / "video 1.mov").write_bytes(b"the first half")
    store, encoder = Store.prepare(tmp_path / "index", {}, ".."), indexes.Quadrants()
    assert ("video 1.mov", "added") in run(store, folder, encoder)[1] and store.state.failed == []


def test_an_emptied_folder_empties_no_index(tmp_path, folder):
    store, encoder = Store.prepare(tmp_path / "index", {}, ".."), indexes.Quadrants()
    before, _ = run(store, folder, encoder)
    away = folder.rename(tmp_path / "away")
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match=r"videos is empty: mount it, or remove the index .*index"):
        run(store, folder, encoder)
    indexes.write(folder / "other.mov", 4, 9)
    (folder / "same size.mov").write_bytes(b"\0" * before["video 0.mov"].size)
    with pytest.raises(FileNotFoundError, match="holds none of the 3 videos of the index: mount it"):
        run(store, folder, encoder)
    assert encoder.calls == 3 and store.readable(list(before.values())) == list(before.values())
    (away / "video 1.mov").rename(folder / "another name.mov")
    entries, report = run(store, folder, encoder)
    assert {"another name.mov", "other.mov"} == entries.keys() and ("another name.mov", "moved") in report


def test_what_links_to_a_drive_that_is_away_is_kept(tmp_path, folder):
    farm = tmp_path / "farm"
    farm.mkdir()
    for i in range(2):
        (farm / f"{i}.mov").symlink_to(folder / f"video {i}.mov")
    (farm / "all").symlink_to(folder)
    indexes.write(farm / "own.mov", 2, 8)
    store, encoder = Store.prepare(tmp_path / "index", {}, ".."), indexes.Quadrants()
    before, _ = run(store, farm, encoder)
    assert len(before) == 6 and encoder.calls == 6
    away = folder.rename(tmp_path / "away")
    (farm / "own.mov").rename(farm / "renamed.mov")
    entries, _, report = update(store, farm, lambda: encoder, ones)
    assert [(row.video, row.change, row.status) for row in sorted(report)] == [
        ("0.mov", "kept", "unreadable"),
        ("1.mov", "kept", "unreadable"),
        ("all", "unlisted", "failed"),
        ("renamed.mov", "moved", "ok"),
    ]
    assert {e.path for e in entries} == before.keys() - {"own.mov"} | {"renamed.mov"}
    assert "cannot be read (No such file or directory)" in repr(report) and "is its drive away?" in repr(report)
    away.rename(folder)
    (farm / "renamed.mov").rename(farm / "own.mov")
    assert run(store, farm, encoder) == (before, []) and encoder.calls == 6


def test_names_that_a_reader_confuses_are_told_apart(tmp_path):
    names = ["caf\xe9.mov", "cafe\u0301.mov", "A.mov", "a.mov", "d\\udcff.mov", "d\udcff.mov", ".hidden/e.mov"]
    for i, name in enumerate(names):
        indexes.write(tmp_path / "v" / "plain.mov", i + 1, i)
        (tmp_path / "v" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "v" / "plain.mov").rename(tmp_path / "v" / name)
    store = Store.prepare(tmp_path / "index", {}, "..")
    entries, _, report = update(store, tmp_path / "v", indexes.Quadrants, ones)
    assert {entry.path: entry.seconds for entry in entries} == {name: i + 1 for i, name in enumerate(names[:5])}
    said = {row.video + str(row.seconds): (row.status, row.error) for row in report}
    assert said["caf\xe9.mov1"] == ("named alike", r"its name looks like 'cafe\u0301.mov', another file")
    assert said["a.mov4"] == ("named alike", "its name looks like 'A.mov', another file")
    assert said["d\\udcff.mov5"] == ("ok", "")
    assert said["d\\udcff.mov0"] == ("failed", "another file's name is printed just like this one's: rename it")


def test_what_may_not_be_read_is_reported(tmp_path, folder):
    indexes.write(folder / "sub" / "b.mov", 2, 7)
    store, encoder = Store.prepare(tmp_path / "index", {}, ".."), indexes.Quadrants()
    before, _ = run(store, folder, encoder)
    (folder / "sub").chmod(0)
    (folder / "video 0.mov").chmod(0)
    os.utime(folder / "video 0.mov")
    try:
        with unprivileged(tmp_path):
            entries, failed, report = update(Store("index"), Path("videos"), lambda: encoder, lambda videos: [])
    finally:
        (folder / "sub").chmod(0o755)
    assert entries == [before[path] for path in ("sub/b.mov", "video 0.mov", "video 1.mov", "video 2.mov")]
    assert failed == [] and [(row.video, row.change, row.status) for row in report] == [
        ("sub", "unlisted", "failed"),
        ("video 0.mov", "kept", "unreadable"),
    ]
    assert all("Permission denied" in row.error for row in report)


def test_work_is_saved_as_it_goes(tmp_path, folder, monkeypatch):
    saved = []
    add = Store.add
    monkeypatch.setattr(Store, "add", lambda self, rows: saved.append(len(rows)) or add(self, rows))
    store = Store.prepare(tmp_path / "index", {}, "..")
    update(store, folder, indexes.Quadrants, ones)
    monkeypatch.setattr("vclip.search.update.SAVE_EVERY", 0)
    store = Store.prepare(tmp_path / "other", {}, "..")
    update(store, folder, indexes.Quadrants, ones)
    assert saved == [3, 1, 1, 1]


def test_a_report_shows_what_is_wrong():
    report = UpdateReport([Change("a.mp4", "added", 3, "ok", ""), Change("<b>\x1b", "changed", 0, "failed", "<i>")])
    assert repr(report) == "1 added, 1 failed\n  <b>\\x1b (changed) failed: <i>"
    assert "<b>" not in report._repr_html_() and report._repr_html_().count("<tr") == 3
    assert repr(UpdateReport()) == "nothing changed"
