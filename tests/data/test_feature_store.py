import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from vclip.data import feature_store, storage
from vclip.data.captions import Captions
from vclip.data.corpus import Corpus
from vclip.data.feature_store import Entry, FeatureStore, content_of, still, writing

import corpora

SAID = '{"start": [0.0], "end": [1.0], "text": ["stir \\u00e9"]}'


def entry(video: str, seconds: int = 2, **changes) -> Entry:
    return Entry(video, f"{video}.mp4", b"d\xff.mp4", 1, 2, "hash", seconds)._replace(**changes)


def made(video: str, seconds: int = 2) -> np.ndarray:
    return np.random.default_rng([*video.encode()]).random((seconds, corpora.DIM)).astype(np.float16)


def add(store: FeatureStore, names: str, seconds: int = 2) -> None:
    """One shard."""
    for video in names:
        store.save(entry(video, seconds), SAID, made(video, seconds))
    store.flush()


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "deep/out"


def test_has_this_file_changed(tmp_path, monkeypatch):
    file, hashed = tmp_path / "a", []
    file.write_bytes(b"one")
    before, known = content_of(file), entry("a")._replace(**content_of(file)._asdict())
    monkeypatch.setattr(feature_store, "content_of", lambda file: hashed.append(file) or content_of(file))
    assert still(file, known) == before and not hashed
    os.utime(file, ns=(0, 7))
    assert still(file, known) == before._replace(mtime=7) and len(hashed) == 1
    file.write_bytes(b"two")
    assert still(file, known) is None and len(hashed) == 2
    file.write_bytes(b"three")
    assert still(file, known) is None and still(file, entry("a")) is None and len(hashed) == 2  # by its size
    file.unlink()
    with pytest.raises(FileNotFoundError):
        still(file, known)


def test_a_file_that_grows_while_it_is_read_has_changed(tmp_path, monkeypatch):
    file, digest = tmp_path / "a", feature_store.hashlib.file_digest
    file.write_bytes(b"half")

    def growing(opened, name):
        found = digest(opened, name)
        file.write_bytes(b"half and half")
        return found

    monkeypatch.setattr(feature_store.hashlib, "file_digest", growing)
    assert still(file, entry("a")._replace(**content_of(file)._asdict())) is None


def test_what_is_committed_is_read_again_and_published(out):
    with writing(out, corpora.spec()) as store:
        add(store, "ba")
        add(store, "c", 3)
        store.save(entry("bad", 0, status="failed", error="no video"), None)
        with pytest.raises(FileNotFoundError, match="out is not finished: call extract or MomentIndex.build again"):
            Corpus.open(out)
        store.remember(split="val", folder="..")
        store.finish()
    corpus, again = Corpus.open(out), FeatureStore(out)
    assert corpus.video_ids == ["a", "b", "c"] and corpus.media[2] == "c.mp4" and corpus.split == "val"
    for i, (video, seconds) in enumerate((("a", 2), ("b", 2), ("c", 3))):
        np.testing.assert_array_equal(corpus.features(i), made(video, seconds))
        assert corpus.captions(i).text == ["stir é"]
    assert again.entries["bad"] == entry("bad", 0, status="failed", error="no video")
    assert again.entries == store.entries and again.meta["folder"] == ".." and again.captions("a") == SAID
    assert os.fsencode(again.file(again.entries["a"])) == os.fsencode(out) + b"/d\xff.mp4"


def test_a_full_shard_is_written_and_what_is_forgotten_goes(out, monkeypatch):
    monkeypatch.setattr(storage, "SHARD_VIDEOS", 4)
    with writing(out, corpora.spec()) as store:
        add(store, "abcdefghi")

        def shards() -> dict[int, str]:
            found = [e.shard for e in store.entries.values()]
            return {s: "".join(sorted(v for v, e in store.entries.items() if e.shard == s)) for s in sorted(found)}

        assert shards() == {1: "abcd", 2: "efgh", 3: "i"}
        store.commit([], forget="abcei")
        store.finish()
        assert shards() == {1: "d", 2: "fgh"}
        assert Corpus.open(out).video_ids == [*"dfgh"] and len(list(out.glob("features-*"))) == 2
        store.commit([], forget="dfgh")
        store.finish()
        add(store, "x")
        assert len(Corpus.open(out)) == 0 and store.entries["x"].shard == 4  # no number is used twice


def test_what_readers_do_not_see_is_not_published(out):
    with writing(out, corpora.spec()) as store:
        add(store, "a")
        store.finish()
        Corpus.open(out).tokenize(corpora.tokenizer())
        store.commit([(store.entries["a"]._replace(mtime=9), store.captions("a"))])
        store.save(entry("bad", 0, status="failed"), None)
        store.finish()
        store.commit([], forget=["bad"])
        assert store.is_published()
        assert Corpus.open(out).tokenizer is not None and FeatureStore(out).entries["a"].mtime == 9
        store.commit([(store.entries["a"], None)])
        assert not FeatureStore(out).is_published()
        store.finish()
    assert Corpus.open(out).captions(0).text == []


def test_captions_that_stay_are_not_written_again(out, monkeypatch):
    """Features made anew, a video without captions, a kill at the flag: the table stays, with its tokens; else not."""
    written = []
    monkeypatch.setattr(FeatureStore, "_captions", lambda store, videos, real=FeatureStore._captions: (
        written.append(videos), real(store, videos))[1])  # fmt: skip
    with writing(out, corpora.spec()) as store:
        add(store, "abc")
        store.finish()
        Corpus.open(out).tokenize(corpora.tokenizer())
        add(store, "b", 5)
        store.save(entry("mute", 2), None, made("mute", 2))
    with writing(out, corpora.spec()) as store:  # what waited is flushed as it is opened
        assert store.meta["published"] == "captions" and not store.is_published()
        store.finish()
        assert store.is_published() and len(written) == 1
        corpus = Corpus.open(out)
        assert corpus.tokenizer is not None and corpus.seconds[corpus.index("b")] == 5 and len(corpus) == 4
        assert [len(corpus.captions(corpus.index(video)).text) for video in ("a", "b", "c", "mute")] == [1, 1, 1, 0]
        held = store.entries
        for n, change in enumerate((
            lambda: store.commit([(held["b"], None)]),
            lambda: store.commit([(held["a"]._replace(media="z.mp4"), SAID)]),
            lambda: store.save(entry("d", 2), SAID, made("d", 2)),
            lambda: [store.save(entry("mute", 2), said, made("mute", 2)) for said in (SAID, None)],
            lambda: store.save(entry("mute", 2), SAID, made("mute", 2)),
            lambda: [store.save(entry("mute", 2), said, made("mute", 2)) for said in (SAID, None)],
            lambda: (
                store.save(entry("a", 2)._replace(media="z.mp4"), SAID, made("a", 2)) or store.commit([], forget=["a"])
            ),
            lambda: store.remember(published="a hash, as stores had once"),
            lambda: store.save(entry("d", 0, status="failed"), None),
            lambda: (out / "captions.parquet").unlink() or store.save(entry("mute", 3), None, made("mute", 3)),
        ), 2):  # fmt: skip
            change()
            add(store, "c", n)  # the table of captions is no truer for a later change that leaves it alone
            store.flush()
            store.finish()
            corpus = Corpus.open(out)
            assert store.is_published() and len(written) == n, n
            told = {video: corpus.captions(i).text for i, video in enumerate(corpus.video_ids)}
            assert told == {v: ["stir é"] if store.captions(v) else [] for v, e in held.items() if e.shard is not None}


def test_captions_stay_with_their_video_whatever_its_id(out, monkeypatch):
    monkeypatch.setattr(storage, "VIDEOS_AT_ONCE", 3)
    ids = ["a\0b", "a", "null", '"', "7", "é", "\u2028", "😀", "mute"]
    with writing(out, corpora.spec()) as store:
        for i, video in enumerate(ids):
            said = feature_store.as_json(Captions([i, i], [i + 1, i + 2], [video, "and"])) if video != "mute" else None
            store.save(entry(video), said, made(video))
        store.flush()
        store.finish()
    said = {video.video_id: video.captions.text for video in Corpus.open(out)}
    assert said == {video: [video, "and"] for video in ids} | {"mute": []}


def test_features_that_wait_for_a_shard_survive_a_kill(out):
    with writing(out, corpora.spec()) as store:
        for video in "ab":
            store.save(entry(video), SAID, made(video))
    assert not list(out.glob("features-*"))
    with writing(out, corpora.spec()) as store:
        store.finish()
    corpus = Corpus.open(out)
    for i, video in enumerate("ab"):
        np.testing.assert_array_equal(corpus.features(i), made(video))


def test_features_without_rows_are_swept_away(out):
    with writing(out, corpora.spec()) as store:
        add(store, "a")
        add(store, "bc")
        storage.write_shard(out / "features-00009.safetensors", [made("x")])
        users = {"features-00009.safetensors", "features-mine.safetensors", ".notes.tmp", ".a.b.7.tmp", ".features.tmp"}
        left = {".features-00002.safetensors.7.tmp", ".videos.parquet.7.tmp", ".corpus.json.77.tmp"}
        for name in users | left:
            (out / name).touch()
        store.commit([], forget="bc")
        store.finish()
        names = {"store.sqlite", "store.lock", "features-00001.safetensors", "corpus.json"}
        assert {*os.listdir(out)} == users | names | {"captions.parquet", "videos.parquet"}


def test_a_second_writer_is_refused_and_a_reader_is_not(out):
    with writing(out, corpora.spec()):
        with pytest.raises(RuntimeError, match="out is being written by another process: run again"):
            writing(out, corpora.spec()).__enter__()
        assert FeatureStore(out).entries == {}
    with writing(out, corpora.spec()):
        pass


def test_what_is_something_else_or_damaged_says_so(tmp_path, out):
    def refused(error, match, path=out, **changes):
        with pytest.raises(error, match=match), writing(path, corpora.spec(**changes)):
            pass

    with writing(out, corpora.spec()) as store:
        add(store, "a")
        store.finish()
    refused(ValueError, "another encoder's features .fps: 1 against 2", fps=2)
    (tmp_path / "file").touch()
    refused(FileExistsError, "something else", tmp_path)
    refused(FileExistsError, "something else", tmp_path / "file")
    with pytest.raises(FileNotFoundError, match="has no store.sqlite"):
        FeatureStore(tmp_path)
    data = (out / "store.sqlite").read_bytes()
    for broken in (b"no database" * 99, data[:3000]):
        (out / "store.sqlite").write_bytes(broken)
        refused(ValueError, r"store.sqlite cannot be read .*vclip.merge\(")
    (out / "store.sqlite").write_bytes(b"")  # killed before its first commit
    with writing(out, corpora.spec()) as store:
        assert store.entries == {}


def test_no_row_is_half_written(out, monkeypatch):
    with writing(out, corpora.spec()) as store:
        add(store, "ab")
        with pytest.raises(sqlite3.Error):
            store.commit([(entry("c"), None), (entry("d", status=["no text"]), None)], forget=["a"])
        assert FeatureStore(out).entries.keys() == {"a", "b"}
