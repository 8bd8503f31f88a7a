import os
import shutil

import numpy as np
import pytest
from permissions import unprivileged

from vclip.data import storage
from vclip.search import folder
from vclip.search.folder import stat_of
from vclip.search.state import Entry
from vclip.search.store import Store, full

MADE_BY = {"weights": "a"}


def rows(*names: str, seconds: int = 5) -> list[tuple[Entry, np.ndarray, np.ndarray]]:
    """Videos whose features and vectors are made of their name."""
    made = []
    for name in names:
        rng = np.random.default_rng([ord(letter) for letter in name])
        features, z_v = rng.standard_normal((seconds, 4)).astype(np.float16), rng.standard_normal((2, 3)).astype("f4")
        made.append((Entry(name, 1, 2, "hash of " + name, seconds, 2, "ok", ""), features, z_v))
    return made


def check(store: Store, entries: list[Entry]) -> None:
    for entry in entries:
        _, features, z_v = rows(entry.path, seconds=entry.seconds)[0]
        np.testing.assert_array_equal(store.features(entry), features)
        np.testing.assert_array_equal(store.z_v(entry), z_v)


def test_what_is_published_is_read_again(tmp_path):
    store = Store.prepare(tmp_path / "index", MADE_BY, "..")
    entries = store.add(rows("a", "b\udcff")) + store.add(rows("c"))
    check(store, entries)
    stopped = Store(store.path)
    assert stopped.entries == [] and {e.path for e in stopped.unpublished()} == {"a", "b\udcff", "c"}
    assert sorted(stopped.readable(entries)) == sorted(entries)
    packed = store.pack(entries)
    store.publish("..", packed, [entries[0]])
    again = Store(store.path)
    assert again.state == store.state and again.state.failed == [entries[0]] and again.state.folder == ".."
    assert (
        again.entries == packed == again.readable(packed)
        and [e.path for e in packed] == ["a", "b\udcff", "c"]
        and not again.unpublished()
    )
    check(again, again.entries)
    assert sorted(f.name for f in store.path.iterdir()) == [
        "features-00002.safetensors",
        "index.copy.json",
        "index.json",
    ]
    assert again.pack(packed) == packed  # one shard without a gap stays


def test_small_shards_are_packed_and_gaps_close(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "SHARD_VIDEOS", 4)
    store = Store.prepare(tmp_path, MADE_BY, "..")
    entries = [entry for name in "abcdefghi" for entry in store.add(rows(name))]
    packed = store.pack(entries)
    store.publish("..", packed)
    assert [len(list(filter(lambda e, s=s: e.shard == s, packed))) for s in sorted({e.shard for e in packed})] == [
        4,
        4,
        1,
    ]
    check(store, packed)
    fewer = [entry for entry in packed if entry.path not in "abci"]  # of the first shard one is left, of the last none
    again = store.pack(fewer)
    store.publish("..", again)
    check(store, again)
    assert [e.path for e in again] == [*"defgh"] and len([*tmp_path.glob("features-*")]) == 2
    assert [e for e in again if e.path in "efgh"] == [e for e in packed if e.path in "efgh"]


def test_a_number_is_never_used_twice(tmp_path):
    store = Store.prepare(tmp_path, MADE_BY, "..")
    store.publish("..", store.add(rows("a")))
    store.publish("..", [])
    assert not [*tmp_path.glob("features-*")]
    reader = Store(tmp_path)
    assert reader.add(rows("b"))[0].shard == 1
    names = []
    for _ in range(3):
        names.append(store.faiss_name())
        (tmp_path / names[-1]).touch()
        store.sign(tmp_path / names[-1])
        store.publish("..", [], faiss=names[-1])
    assert names == ["windows-00000.faiss", "windows-00001.faiss", "windows-00002.faiss"]


def test_a_shard_without_its_table_does_not_count(tmp_path):
    store = Store.prepare(tmp_path, MADE_BY, "..")
    kept, lost, torn = store.add(rows("a")), store.add(rows("b")), store.add(rows("c"))
    (tmp_path / "features-00001.json").unlink()
    (tmp_path / "features-00002.safetensors").unlink()
    assert store.readable(store.unpublished()) == kept and lost != torn
    (tmp_path / "features-00001.json").write_text('{"videos": [')
    (tmp_path / "features-00003.json").write_text('{"videos": [["a", 1]]}')
    (tmp_path / "features-00004.json").write_text("7")
    (tmp_path / "features-00005.json").mkdir()
    again = Store(tmp_path)
    assert again.readable(again.unpublished()) == kept
    (tmp_path / "features-00005.json").rmdir()
    store.publish("..", kept)
    assert len([*tmp_path.glob("features-*")]) == 1


def test_what_is_shut_or_damaged_says_so(tmp_path):
    store = Store.prepare(tmp_path / "index", MADE_BY, "..")
    with store.lock(), pytest.raises(RuntimeError, match="updated by somebody else"), Store(store.path).lock():
        pass
    with Store(store.path).lock():
        pass
    with pytest.raises(ValueError, match="weights: 'a' against 'b'"):
        Store.prepare(store.path, MADE_BY | {"weights": "b"}, "..")
    (entry,) = store.add(rows("a"))
    file = store.path / storage.shard_name(entry.shard)
    file.rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError, match="open the index again"):
        Store(store.path).features(entry)
    file.write_bytes((tmp_path / "away").read_bytes()[:50])
    with pytest.raises(ValueError, match=r"is damaged: remove it and call update\(\)"):
        Store(store.path).features(entry)


def test_full(monkeypatch):
    monkeypatch.setattr(storage, "SHARD_BYTES", 2 * 5 * 4 * 3)
    assert not full(rows("a", "b")) and full(rows("a", "b", "c"))


def test_what_is_lost_is_not_readable(tmp_path):
    store = Store.prepare(tmp_path, MADE_BY, "..")
    whole, lost, cut = (store.add(rows(*names)) for names in ("ab", "cd", "ef"))
    entries = [*whole, *lost, *cut]
    assert store.readable(entries) == entries
    (tmp_path / storage.shard_name(1)).unlink()
    os.truncate(tmp_path / storage.shard_name(2), 300)
    assert store.readable(entries) == whole
    for wrong in ({"row": 2}, {"row": -1}, {"seconds": 6}, {"windows": 3}, {"shard": 9}):
        assert store.readable([whole[0]._replace(**wrong)]) == []


def test_a_byte_that_is_not_as_it_was_written_is_noticed(tmp_path):
    store = Store.prepare(tmp_path, MADE_BY, "..")
    entries = store.add(rows("a")) + store.add(rows("b"))
    store.publish("..", entries)
    file = tmp_path / storage.shard_name(1)
    data = bytearray(file.read_bytes())
    data[-7] ^= 1
    file.write_bytes(data)
    assert Store(tmp_path).readable(entries) == entries[:1]


def test_a_file_is_read_again_only_if_its_time_has_changed(tmp_path, monkeypatch):
    hashed, sha256_of = [], folder.sha256_of
    store = Store.prepare(tmp_path / "one", MADE_BY, "..")
    entries = store.add(rows("a")) + store.add(rows("b"))
    store.publish("..", entries)
    monkeypatch.setattr(folder, "sha256_of", lambda file: hashed.append(file.name) or sha256_of(file))
    shutil.copytree(tmp_path / "one", tmp_path / "copy", copy_function=shutil.copyfile)
    for path, times in ((tmp_path / "one", 0), (tmp_path / "copy", 1), (tmp_path / "copy", 0)):
        hashed.clear()
        again = Store(path)
        assert again.readable(entries) == again.readable(entries) == entries
        again.publish("..", entries)
        assert sorted(hashed) == sorted({file.name for file in path.glob("features-*")} if times else [])


def test_what_is_the_same_is_not_written(tmp_path):
    store = Store.prepare(tmp_path, MADE_BY, "..")
    entries = store.add(rows("a"))
    store.publish("..", entries)
    before = stat_of(tmp_path / "index.json")
    Store(tmp_path).publish("..", entries)
    assert stat_of(tmp_path / "index.json") == before
    (tmp_path / "index.copy.json").unlink()
    store.publish("..", entries)
    assert Store(tmp_path).state == store.state and (tmp_path / "index.copy.json").is_file()


def test_vectors_that_are_no_numbers_are_refused(tmp_path):
    store = Store.prepare(tmp_path, MADE_BY, "..")
    (entry, features, z_v), *_ = rows("a")
    (placed,) = store.add([(entry, features, z_v * np.nan)])
    with pytest.raises(ValueError, match=r"features-00000.safetensors is damaged: remove it and call update\(\)"):
        store.z_v(placed)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "shut").mkdir(mode=0o555)
    Store.prepare(tmp_path / "index", MADE_BY, "..")
    (tmp_path / "index").chmod(0o555)
    with unprivileged(tmp_path):
        with pytest.raises(PermissionError, match=r"written to shut/.vclip \(Permission denied\).*path="):
            Store.prepare("shut/.vclip", MADE_BY, "..")
        with (
            pytest.raises(PermissionError, match="written to index .*path="),
            Store.prepare("index", MADE_BY, "..").lock(),
        ):
            pass
