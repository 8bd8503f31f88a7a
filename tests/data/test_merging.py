import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from stops import Stop, stopping
from test_extraction import MeanColour, content, make, rows
from videos import grey, write_video

from vclip.data import storage
from vclip.data.corpus import Corpus
from vclip.data.extraction import extract, merge
from vclip.datasets.minihowto import minihowto
from vclip.encoders.loading import from_spec

import corpora

NAMES = ["a", "b", "c", "d", "x/a", "x/e", "f"]


def shards_of(folder: Path, out: Path, n: int) -> list[Path]:
    """Corpora of the n shards, each extracted alone."""
    for k in range(1, n + 1):
        extract(folder, out / f"{k}", MeanColour(), (k, n))
    return [out / f"{k}" for k in range(1, n + 1)]


def snapshot(folders: list[Path]) -> dict[Path, tuple[bytes, int]]:
    return {f: (f.read_bytes(), f.stat().st_mtime_ns) for folder in folders for f in folder.rglob("*") if f.is_file()}


def test_shards_become_what_one_machine_extracts(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "SHARD_VIDEOS", 3)
    folder = make(tmp_path / "videos", NAMES)
    (folder / "bad.mov").write_bytes(b"")
    report = extract(folder, tmp_path / "whole", MeanColour())
    shards = shards_of(folder, tmp_path, 3)
    before = snapshot(shards)
    whole, merged = Corpus.open(tmp_path / "whole"), merge(reversed(shards), tmp_path / "merged")
    assert merged.video_ids == whole.video_ids == ["a.mov", "b", "c", "d", "f", "x/a.mov", "e"]
    assert content(tmp_path / "merged") == content(tmp_path / "whole") and merged.spec == whole.spec
    np.testing.assert_array_equal(merged.caption_offsets, whole.caption_offsets)
    assert snapshot(shards) == before and len(list((tmp_path / "merged").glob("features-*"))) == 3
    # merged, it is a corpus like any other: extract knows its files
    encoder = MeanColour()
    assert extract(folder, merged.path, encoder) == report and encoder.seconds == 0
    write_video(folder / "c.mov", range(0, 5000, 500), grey(*range(10)))
    assert rows(extract(folder, merged.path, encoder))[3] == ("c", 5, "ok") and encoder.seconds == 5
    for shard in shards:
        shutil.rmtree(shard)
    assert merged.tokenize(corpora.tokenizer()).tokenizer is not None


def test_other_corpora_may_be_merged_too_and_grow_then(tmp_path):
    videos = list(corpora.videos(10))
    first = Corpus.create(tmp_path / "1", corpora.spec(), videos[5:], split="train", licence="CC0")
    second = Corpus.create(tmp_path / "2", corpora.spec(), videos[:5], split="train", licence="CC0")
    second.tokenize(corpora.tokenizer())
    merged = merge([first.path, str(second.path)], tmp_path / "deep/merged")
    assert merged.video_ids == first.video_ids + second.video_ids  # without paths, as given
    assert (merged.split, merged.licence, merged.tokenizer) == ("train", "CC0", None)
    for i, (video, features, captions) in enumerate(videos[5:] + videos[:5]):
        np.testing.assert_array_equal(merged.features(i), features.astype(np.float16))
        found = merged.captions(i)
        assert (merged.video_ids[i], found.text) == (video, captions.text)
        np.testing.assert_array_equal([found.start, found.end], [captions.start, captions.end])


def test_a_corpus_that_does_not_know_its_files_is_merged_before_it_grows(tmp_path):
    folder, encoder = make(tmp_path / "videos", "abc"), MeanColour()
    extract([folder / "a.mov", folder / "b.mov"], tmp_path / "old", encoder)
    before = content(tmp_path / "old")
    for name in ("store.sqlite", "store.lock"):
        (tmp_path / "old" / name).unlink()
    with pytest.raises(FileExistsError, match=r"no store.sqlite: vclip.merge\(\['.*old'\], new\) makes one"):
        extract(folder, tmp_path / "old", encoder)
    assert content(merge([tmp_path / "old"], tmp_path / "new").path) == before
    encoder.seconds = 0
    extract(folder, tmp_path / "new", encoder)
    assert encoder.seconds == 3 and list(content(tmp_path / "new")) == ["a", "b", "c"]
    write_video(folder / "a.mov", range(0, 5000, 500), grey(*range(10)))
    extract(folder, tmp_path / "new", encoder)
    assert encoder.seconds == 8 and len(content(tmp_path / "new")["a"][0]) == 5


def test_a_stop_at_any_write_is_gone_on_from(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "SHARD_VIDEOS", 2)
    shards = shards_of(make(tmp_path / "videos", NAMES[:5]), tmp_path, 2)
    before, whole = snapshot(shards), content(merge(shards, tmp_path / "whole").path)
    stop_at = stopping(monkeypatch, (os, "replace"), (Path, "unlink"))
    for n in range(1, 50):
        out = tmp_path / f"{n} merged"
        try:
            with stop_at(n):
                merge(shards, out)
        except Stop:
            if not (out / "corpus.json").is_file():
                with pytest.raises(FileNotFoundError):
                    Corpus.open(out)
                merge(shards, out)
            assert content(out) == whole
        else:
            break
    assert n > 4 and snapshot(shards) == before


def test_refused(tmp_path):
    folder = make(tmp_path / "videos", ["a", "b"])
    a, both, other, plain = (tmp_path / name for name in ("a", "both", "other", "plain"))
    extract([folder / "a.mov"], a, MeanColour())
    extract(folder, both, MeanColour())
    extract([folder / "b.mov"], other, MeanColour(fps=4))
    plain.mkdir()
    np.save(plain / "c.npy", np.ones((2, 3)))
    val = Corpus.create(tmp_path / "val", MeanColour().spec, [("v", np.ones((2, 3)), None)], split="val").path
    shutil.copytree(a, tmp_path / "half")
    (tmp_path / "half/corpus.json").unlink()
    for given, error, message in (
        ([a, other], ValueError, "the spec of .*/a is .*fps=2.* that of .*/other .*fps=4"),
        ([a, both], ValueError, "video 'a' is in .*/a and in .*/both"),
        ([a, a], ValueError, "video 'a' is in .*/a and in .*/a"),
        ([a, val], ValueError, "the split of .*/a is None, that of .*/val 'val'"),
        ([a, plain], ValueError, "the spec of .*/a is .* that of .*/plain None"),
        ([plain], ValueError, "no corpora to merge"),
        ([a, tmp_path / "nowhere"], FileNotFoundError, "nowhere"),
        ([tmp_path / "half"], FileNotFoundError, "half is not finished: call extract"),
        ([], ValueError, "no corpora to merge"),
    ):
        with pytest.raises(error, match=message):
            merge(given, tmp_path / "out")
    with pytest.raises(FileExistsError, match="both already holds a corpus; pass a new output folder"):
        merge([a], both)
    with pytest.raises(FileExistsError, match=f"{tmp_path.name} holds something else"):
        merge([a], tmp_path)
    assert not (tmp_path / "out").exists()
    (file,) = both.glob("features-*")
    file.write_bytes(file.read_bytes()[:-2])
    with pytest.raises(ValueError, match=r"features-\d+.safetensors is damaged"):
        merge([both], tmp_path / "out")


def test_a_shard_that_never_came_is_made_up_for(tmp_path):
    folder = make(tmp_path / "videos", NAMES)
    shards = shards_of(folder, tmp_path, 2)
    merge(shards[:1], tmp_path / "merged")
    encoder = MeanColour()
    extract(folder, tmp_path / "merged", encoder)
    extract(folder, tmp_path / "whole", MeanColour())
    assert content(tmp_path / "merged") == content(tmp_path / "whole")
    assert encoder.seconds == Corpus.open(shards[1]).seconds.sum() > 0


def test_a_shard_that_lacks_a_file_is_named(tmp_path):
    shards = shards_of(make(tmp_path / "videos", NAMES), tmp_path, 2)
    (file,) = shards[1].glob("features-*")
    file.unlink()
    with pytest.raises(
        FileNotFoundError,
        match=f"{file} is missing: open the folder again if it was updated",
    ):
        merge(shards, tmp_path / "out")
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


def test_the_projection_comes_along(tmp_path):
    shutil.copytree(minihowto() / "val", tmp_path / "val")
    shutil.copy(minihowto() / "projection.safetensors", tmp_path / "val")
    merged = merge([tmp_path / "val"], tmp_path / "all")
    assert from_spec(merged.spec, merged.path).spec == merged.spec
