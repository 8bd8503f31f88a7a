"""A large index, made small by its constant: cells that outlast updates, beside a rebuild and an exact search."""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import indexes
import numpy as np
import pytest
from kills import run

from vclip.data.corpus import Corpus
from vclip.data.feature_store import Entry, writing
from vclip.models.hub import MeanPooled
from vclip.search import vectors
from vclip.search.index import MomentIndex

DIM, SECONDS, CENTRES = 12, 50, np.random.default_rng(9).standard_normal((60, 12))


def features(seed: int) -> np.ndarray:
    """50 seconds around one of 60 points, or, of seeds from 1,000 on, around others."""
    rng = np.random.default_rng(seed)
    centre = CENTRES[rng.integers(60)] if seed < 1000 else rng.standard_normal(DIM)
    return (centre + 0.4 * rng.standard_normal((SECONDS, DIM))).astype(np.float16)


def texts(sentences) -> np.ndarray:
    rows = [np.random.default_rng([*sentence.encode()]).standard_normal(DIM) for sentence in sentences]
    return np.array(rows, np.float32) / DIM**0.5


def clip() -> MeanPooled:
    """Its windows are seconds, its vectors their features."""
    return MeanPooled("itself", indexes.Quadrants(), texts, {"texts": "themselves"})


def store(path: Path, seeds: dict[str, int], gone: Sequence[str] = ()) -> None:
    """Put videos into a corpus as an index does that encodes them: in a new shard."""
    with writing(path, indexes.Quadrants().spec) as store:
        store.commit([], forget=[video for video in gone if video in store.entries])
        for video, seed in seeds.items():
            store.save(Entry(video, video, b"", -1, -1, "", SECONDS), None, features(seed))
        store.flush()
        store.finish()


def best(index: MomentIndex, query: np.ndarray, n: int = 10) -> list[tuple[str, int]]:
    found = index._windows.ranked(query)
    return [
        (index.videos[index._windows.video[w]], int(index._windows.start[w]))
        for w, _ in (next(found) for _ in range(n))
    ]


def recall(index: MomentIndex, queries: np.ndarray) -> float:
    """Of the ten best of an exact search, by a plain product over all seconds."""
    c, hits = clip(), 0
    rows = np.concatenate(c.encode_seconds([index.corpus.features(i) for i in range(len(index))]))
    owner = [(video, second) for video in index.videos for second in range(SECONDS)]
    for query in queries:
        hits += len({owner[i] for i in np.argsort(-(rows @ query))[:10]} & {*best(index, query)})
    return hits / (10 * len(queries))


@pytest.fixture
def cells(monkeypatch):
    monkeypatch.setattr("vclip.search.vectors.EXACT_UP_TO", 3000)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("cells") / "corpus"
    for first in range(0, 400, 100):
        store(path, {f"{i:04d}": i for i in range(first, first + 100)})
    return path


def state(index: MomentIndex) -> dict:
    return json.loads((index._vectors / "index.json").read_text())


def rebuilt(index: MomentIndex, path: Path) -> MomentIndex:
    return MomentIndex.build(clip(), index.corpus, path)


@pytest.mark.long
def test_twenty_updates_are_as_good_as_a_rebuild(cells, made, tmp_path):
    path, rng = shutil.copytree(made, tmp_path / "corpus"), np.random.default_rng(0)
    index = MomentIndex.build(clip(), path)
    names = set()
    for update in range(20):
        held = [*index.videos]
        some = [held[i] for i in rng.choice(len(held), 4, replace=False)]
        # two of another kind come, two change, two go
        store(
            path,
            {f"new {update}": 1000 + update, f"other {update}": 2000 + update} | dict.fromkeys(some[:2], 500 + update),
            some[2:],
        )
        index.update()
        assert some[2] not in index.videos and f"new {update}" in index.videos
        names.add(state(index)["cells"]["name"])
    assert 1 < len(names) < 8  # of 400 videos a sixteenth is 25: trained anew at every fifth update or so
    again = MomentIndex.open(path, clip())
    fresh = rebuilt(index, tmp_path / "fresh")
    queries = np.concatenate(
        [
            texts([f"query {i}" for i in range(40)]),
            fresh.clip.encode_clips([features(s)[:3] for s in (*range(20), *range(1000, 1020))]),
        ]
    )
    ours, theirs = recall(index, queries), recall(fresh, queries)
    assert ours >= theirs - 0.01 and theirs > 0.8
    assert [best(again, q) for q in queries] == [best(index, q) for q in queries]
    everything = np.concatenate(clip().encode_seconds([index.corpus.features(i) for i in range(len(index))]))
    usual, mean = clip().encode_texts(vectors.SENTENCES), everything.mean(0)
    reached = [max(row @ z_t for row in everything) - mean @ z_t / 2 for z_t in usual]
    for some in (index, fresh):
        found, *level = state(some)["background"]
        np.testing.assert_allclose(found, mean, atol=1e-5)
        np.testing.assert_allclose(level, [np.mean(reached), np.std(reached)], atol=1e-5)
    for window in (0, 7777, len(index._windows.video) - 1):
        video, second = index._windows.video[window], index._windows.start[window]
        (rows,) = clip().encode_seconds([index.corpus.features(int(video))])
        np.testing.assert_allclose(index._windows.vector(window), rows[second], rtol=2e-3, atol=2e-3)


def test_cells_are_written_again_only_when_they_have_drifted(cells, made, tmp_path):
    path = shutil.copytree(made, tmp_path / "corpus")
    index = MomentIndex.build(clip(), path)
    (file,) = index._vectors.glob("*.faiss")
    before = file.stat()
    store(path, {f"a{i}": 1000 + i for i in range(20)}, ["0001", "0002", "0003", "0004", "0005"])
    index.update()  # 25 of 400 videos: a sixteenth
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert {v for q in CENTRES for v, _ in best(index, q.astype(np.float32), 100)}.isdisjoint({"0001", "0002", "0003"})
    store(path, {}, ["0006"])
    index.update()
    assert [f.name for f in index._vectors.glob("*.faiss")] == ["cells-2.faiss"]
    assert state(index)["cells"] == {"name": "cells-2", "windows": SECONDS * 414}


def test_features_that_are_as_they_were_are_not_read_again(cells, made, tmp_path, monkeypatch):
    path = shutil.copytree(made, tmp_path / "corpus")
    index = MomentIndex.build(clip(), path)
    read, real = [], vectors._hash
    monkeypatch.setattr("vclip.search.vectors._hash", lambda file: read.append(file.name) or real(file))
    store(path, {"new": 1}, ["0007"])
    index.update()
    assert read == ["features-00005.safetensors"]
    (path / "features-00001.safetensors").touch()  # copied, say
    for _ in range(2):
        index.update()
    assert read[1:] == ["features-00001.safetensors"]


def test_features_of_another_tool_that_change_in_place(cells, tmp_path):
    for i in range(80):
        np.save(tmp_path / f"{i:04d}.npy", features(i).astype(np.float32))
    index = MomentIndex.build(clip(), Corpus.open(tmp_path))
    name, query = state(index)["cells"]["name"], clip().encode_clips([features(2000)])[0]
    np.save(tmp_path / "0003.npy", features(2000).astype(np.float32))
    index.update()
    assert state(index)["cells"]["name"] == name and {v for v, _ in best(index, query)} == {"0003"}


def grow(path: str) -> None:
    vectors.EXACT_UP_TO = 3000
    MomentIndex.build(clip(), path)


@pytest.mark.long
@pytest.mark.parametrize("came", [2, 40])  # beside the cells, or enough to train others
def test_an_update_killed_at_ten_moments_leaves_the_old_index_or_the_new(cells, made, tmp_path, came):
    path, queries, finished = tmp_path / "corpus", texts([f"query {i}" for i in range(20)]), []
    shutil.copytree(made, path)
    index = MomentIndex.build(clip(), path)
    old, folder = index.corpus, index._vectors
    before = [best(index, query) for query in queries]
    shutil.copytree(folder, tmp_path / "kept")
    store(path, {f"new {i}": 1000 + i for i in range(came)}, ["0001"])
    start = time.monotonic()
    assert run(grow, str(path)) == 0
    longest = time.monotonic() - start
    after = [best(MomentIndex.open(path, clip()), query) for query in queries]
    assert before != after
    for kill in range(10):
        shutil.rmtree(folder)
        shutil.copytree(tmp_path / "kept", folder)
        killed = run(grow, str(path), kill_after=longest * (kill + 0.5) / 10)
        found = []
        for corpus in (old, Corpus.open(path)):
            index.corpus, index.videos = corpus, corpus.video_ids
            try:
                index._windows, _ = vectors.load(folder, corpus, clip())
            except ValueError as error:
                assert "has changed since it was indexed: call MomentIndex.build again" in str(error)
            else:
                found.append([best(index, query) for query in queries])
        assert found in ([before], [after]) and (killed or found == [after])
        finished.append(found == [after])
        grow(str(path))
        assert [best(MomentIndex.open(path, clip()), query) for query in queries] == after
        assert not [*folder.glob(".*")] and len([*folder.glob("cells-*")]) == 2
    assert not finished[0]


def again(features_in: str, path: str) -> None:
    MomentIndex.build(clip(), Corpus.open(features_in), path)


@pytest.mark.long
def test_of_files_changed_in_place_an_update_killed_at_ten_moments_shows_no_mixture(tmp_path):
    source, path, kept = (tmp_path / name for name in ("features", "index", "kept"))
    source.mkdir()

    def write(first: int) -> None:
        for i in range(12):
            np.save(source / f"{i}.npy", features(first + i))

    def found(folder: Path) -> list[tuple[str, int]]:
        return best(MomentIndex.open(folder, clip()), texts(["a query"])[0], 12 * SECONDS)

    write(0)
    again(str(source), str(kept))
    before = found(kept)
    write(1000)
    start = time.monotonic()
    assert run(again, str(source), str(tmp_path / "new")) == 0
    longest, after, refused = time.monotonic() - start, found(tmp_path / "new"), 0
    assert before != after
    for kill in range(10):
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(kept, path)
        killed = run(again, str(source), str(path), kill_after=longest * (kill + 0.5) / 10)
        try:
            assert found(path) in ([before, after] if killed else [after])
        except ValueError as error:
            assert "has changed since it was indexed: call MomentIndex.build again" in str(error)
            refused += 1
        again(str(source), str(path))
        assert found(path) == after
    assert refused < 10
