import numpy as np
import pytest
from safetensors.numpy import load_file

from vclip.data import parts, storage
from vclip.data.corpus import Corpus

import corpora


def row(video: str, seconds: int) -> dict:
    values = {"video": video, "seconds": seconds, "status": "ok", "error": "", "sizes": None}
    return values | {"media": f"{video}.mp4", "captions": None}


def write(out, video: str, seconds: int) -> parts.Part:
    return parts.write(out, [np.full((seconds, corpora.DIM), seconds, np.float16)], [row(video, seconds)])


@pytest.fixture
def out(tmp_path):
    parts.prepare(tmp_path / "out", corpora.spec())
    return tmp_path / "out"


def test_several_parts_become_one_and_a_stop_in_between_loses_none(out):
    few = [write(out, video, seconds) for video, seconds in (("a", 2), ("../b", 3))]
    kept = {path: path.read_bytes() for part in few for path in (part.features, part.table)}
    packed = parts.pack(out, few)
    assert parts.read(out) == [packed] and [r["video"] for r in packed.rows] == ["a", "../b"]
    assert load_file(packed.features)["starts"].tolist() == [0, 2, 5]
    for path, content in kept.items():  # as if stopped before they were removed
        path.write_bytes(content)
    assert parts.read(out) == [packed]
    assert parts.pack(out, [packed]) is packed


def test_features_without_a_table_do_not_count_and_are_swept_away(out):
    part, whole = write(out, "a", 2), write(out, "b", 1)
    part.table.unlink()
    assert parts.read(out) == [whole]
    parts.prepare(out, corpora.spec())
    assert not part.features.exists() and whole.features.exists()
    with pytest.raises(ValueError, match="fps: 1 against 2"):
        parts.prepare(out, corpora.spec(fps=2))


def test_a_shard_is_full_by_videos_or_by_bytes(out, monkeypatch):
    few = [write(out, video, 2) for video in "ab"]
    assert not parts.fill_a_shard(few)
    monkeypatch.setattr(storage, "SHARD_VIDEOS", 2)
    assert parts.fill_a_shard(few) and not parts.fill_a_shard(few[:1])
    monkeypatch.setattr(storage, "SHARD_BYTES", 2 * corpora.DIM * 2)
    assert parts.fill_a_shard(few[:1])


def test_parts_become_a_corpus_in_the_order_asked(out):
    for video, seconds in (("a", 2), ("b", 3), ("c", 1)):
        write(out, video, seconds)
    parts.merge(out, corpora.spec(), [row("d", 0) | {"status": "failed"}], ["c", "a"])
    corpus = Corpus.open(out)
    assert corpus.video_ids == ["c", "a", "b"] and corpus.seconds.tolist() == [1, 2, 3]
    assert all((corpus.features(i) == corpus.seconds[i]).all() for i in range(3))
    assert {r["video"]: r["status"] for r in parts.read_report(out)} == dict.fromkeys("abc", "ok") | {"d": "failed"}
    assert not (out / "unmerged").exists()
