"""Video vectors, neighbours and clusters: the original's numbers, brute force, and what must hold for any vectors."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import given, settings
from hypothesis import strategies as st

from vclip.training.clusters import VideoIndex, sample_clusters, shuffled_batches, video_vectors


@pytest.fixture(scope="module")
def golden(shared):
    folder = shared / "golden" / "retrieval_clusters"
    return dict(np.load(folder / "vectors.npz", allow_pickle=False)), json.loads((folder / "clusters.json").read_text())


def numbers(record: dict, lists: str) -> list[list[int]]:
    place = {video_id: i for i, video_id in enumerate(record["video_ids"])}
    return [[place[video_id] for video_id in ids] for ids in record[lists]]


def brute_force(vectors: np.ndarray, i: int, n: int) -> list[int]:
    """Video i, then the others by distance in float64; equal distances by number."""
    v = vectors.astype(np.float64)
    distance = np.square(v - v[i]).sum(axis=1)
    return [i, *(j for j in np.argsort(distance, kind="stable") if j != i)][:n]


def test_video_vectors_equal_golden(golden):
    arrays, _ = golden
    z = video_vectors(arrays["pooled_video"], arrays["pooled_text"])
    np.testing.assert_allclose(z, arrays["z_video"], atol=1e-6)
    tensors = video_vectors(torch.from_numpy(arrays["pooled_video"]), torch.from_numpy(arrays["pooled_text"]))
    np.testing.assert_allclose(tensors, arrays["z_video"], atol=1e-6)


@pytest.mark.parametrize("as_given", [np.asarray, torch.from_numpy])
def test_exact_neighbours_equal_golden(golden, as_given):
    arrays, record = golden
    index = VideoIndex(as_given(arrays["z_video"]))
    expected = numbers(record, "exact_neighbours")
    np.testing.assert_array_equal(index.neighbours(np.arange(200), record["num_cands"]), expected)
    np.testing.assert_array_equal([index.neighbours(i, record["num_cands"]) for i in range(200)], expected)


CUDA = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"))


@pytest.mark.parametrize("device", ["cpu", CUDA])
@pytest.mark.parametrize("at_once", [7, 59, 5000])
def test_neighbours_equal_brute_force_block_by_block(at_once, device, monkeypatch):
    monkeypatch.setattr("vclip.training.clusters.COMPARED_AT_ONCE", at_once)
    monkeypatch.setattr("vclip.training.clusters.QUERIES_AT_ONCE", at_once)
    vectors = (9 + np.random.default_rng(0).standard_normal((60, 5))).astype(np.float32)
    index = VideoIndex(vectors, device)
    for n in (1, 7, 60):
        expected = [brute_force(vectors, i, n) for i in range(60)]
        np.testing.assert_array_equal(index.neighbours(np.arange(60), n), expected)
    assert index.neighbours(np.zeros(0, int), 5).shape == (0, 5)


def test_nearly_equal_vectors_keep_their_neighbours():
    """An untrained model's videos: a thousandth apart, a hundred from the origin."""
    rng = np.random.default_rng(1)
    vectors = (100 + 1e-3 * rng.standard_normal((300, 64))).astype(np.float32)
    found = VideoIndex(vectors).neighbours(np.arange(300), 10)
    np.testing.assert_array_equal(found, [brute_force(vectors, i, 10) for i in range(300)])


@st.composite
def small_index(draw):
    n = draw(st.integers(1, 90))
    # whole numbers in few dimensions: many videos share a vector
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return VideoIndex(rng.integers(-2, 3, (n, draw(st.integers(1, 3)))).astype(np.float32))


@settings(max_examples=60, deadline=None)
@given(small_index(), st.data())
def test_neighbours_of_any_vectors(index, data):
    vectors, n = index.vectors, data.draw(st.integers(1, len(index)))
    videos = np.array(data.draw(st.lists(st.integers(0, len(vectors) - 1), max_size=5)), dtype=np.int64)
    found = index.neighbours(videos, n)
    assert found.shape == (len(videos), n) and found.dtype == np.int64
    for i, row in zip(videos.tolist(), found.tolist(), strict=True):
        assert row[0] == i and len(set(row)) == n and min(row) >= 0
        v = vectors.astype(np.float64)
        distance = np.square(v - v[i]).sum(axis=1)
        # up to the choice among equals
        np.testing.assert_allclose(distance[row], distance[brute_force(vectors, i, n)], atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(small_index(), st.data())
def test_clusters_of_any_vectors(index, data):
    n = len(index)
    size, candidates = data.draw(st.integers(1, n)), data.draw(st.integers(1, 2 * n))
    n_clusters, seed = data.draw(st.integers(1, 2 * n)), data.draw(st.integers(0, 2**32 - 1))
    clusters = sample_clusters(index, n_clusters, size, candidates, np.random.default_rng(seed))
    assert len(clusters) == n_clusters
    seeds = np.random.default_rng(seed).choice(n, n_clusters, replace=n_clusters > n)
    if n_clusters <= n:
        assert len(set(seeds.tolist())) == n_clusters
    nearest = index.neighbours(seeds, min(candidates, n))
    for cluster, near in zip(clusters, nearest.tolist(), strict=True):
        assert len(set(cluster.tolist())) == len(cluster) == min(size, candidates, n)
        assert set(cluster.tolist()) <= set(near)
        if candidates <= size:
            assert cluster.tolist() == near
    again = sample_clusters(index, n_clusters, size, candidates, np.random.default_rng(seed))
    np.testing.assert_array_equal(clusters, again)


@pytest.mark.parametrize("lists", ["exact_neighbours", "ivf6_nprobe1_neighbours"])
def test_golden_clusters_have_the_properties_of_ours(golden, lists):
    arrays, record = golden
    size, candidates = record["num_video_per_batch"], record["num_cands"]
    nearest = [set(row) for row in numbers(record, lists)]
    theirs = numbers(record, "clusters_exact" if lists == "exact_neighbours" else "clusters_ivf6")
    index, rng = VideoIndex(arrays["z_video"]), np.random.default_rng(record["seed"])
    ours = sample_clusters(index, record["n_clusters"], size, candidates, rng)
    exact = [set(row) for row in numbers(record, "exact_neighbours")]
    for clusters, near in ((theirs, nearest), ([c.tolist() for c in ours], exact)):
        assert len(clusters) == record["n_clusters"] == 200 // size
        for cluster in clusters:
            assert len(cluster) == len(set(cluster)) == size
            assert any(set(cluster) <= candidates_of_a_seed for candidates_of_a_seed in near)


def test_the_seed_drops_out_as_often_as_any_candidate():
    vectors = np.arange(8, dtype=np.float32)[:, None]
    clusters = np.stack(sample_clusters(VideoIndex(vectors), 8000, 2, 4, np.random.default_rng(0)))
    seeds = np.random.default_rng(0).choice(8, 8000)
    kept = (clusters == seeds[:, None]).any(axis=1).mean()
    # 2 of 4 candidates
    assert abs(kept - 0.5) < 4 * np.sqrt(0.25 / 8000)


def one_of_three(rank: int, folder: str) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "3"}
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=3)
    index, asked = VideoIndex(np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32)), []
    index.neighbours = lambda seeds, n: asked.append(len(seeds)) or VideoIndex.neighbours(index, seeds, n)
    for n_clusters in (2, 7):
        clusters = sample_clusters(index, n_clusters, 4, 8, np.random.default_rng(1), Accelerator(cpu=True))
        np.save(f"{folder}/{rank}-{n_clusters}.npy", np.stack(clusters))
    Path(folder, f"{rank}.txt").write_text(str(asked))
    torch.distributed.destroy_process_group()


@pytest.mark.long
def test_processes_search_a_part_each_and_draw_the_same(tmp_path):
    torch.multiprocessing.spawn(one_of_three, (str(tmp_path),), nprocs=3)
    index = VideoIndex(np.random.default_rng(0).standard_normal((40, 6)).astype(np.float32))
    for n_clusters in (2, 7):
        alone = np.stack(sample_clusters(index, n_clusters, 4, 8, np.random.default_rng(1)))
        for rank in range(3):
            np.testing.assert_array_equal(np.load(tmp_path / f"{rank}-{n_clusters}.npy"), alone)
    assert [(tmp_path / f"{rank}.txt").read_text() for rank in range(3)] == ["[1, 3]", "[1, 2]", "[0, 2]"]


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 2**32 - 1))
def test_shuffled_batches_hold_a_video_once(n_videos, size, seed):
    size = min(size, n_videos)
    batches = shuffled_batches(n_videos, size, np.random.default_rng(seed))
    assert all(len(batch) == size for batch in batches) and len(batches) == n_videos // size
    videos = np.concatenate(batches)
    assert len(np.unique(videos)) == len(videos) and videos.min() >= 0 and videos.max() < n_videos
    np.testing.assert_array_equal(videos, np.concatenate(shuffled_batches(n_videos, size, np.random.default_rng(seed))))


def test_bad_requests_say_what_is_wrong():
    vectors = np.random.default_rng(0).standard_normal((9, 3)).astype(np.float32)
    index, rng = VideoIndex(vectors), np.random.default_rng(0)
    for value in (np.nan, np.inf, 1e30):
        bad = vectors.copy()
        bad[4, 1] = value
        with pytest.raises(ValueError, match="video 4"):
            VideoIndex(bad)
    with pytest.raises(ValueError, match="at least one"):
        VideoIndex(np.zeros((0, 3), np.float32))
    with pytest.raises(ValueError, match="10 neighbours of 9"):
        index.neighbours(0, 10)
    with pytest.raises(IndexError):
        index.neighbours(9, 2)
    with pytest.raises(ValueError, match="10 videos from 9"):
        sample_clusters(index, 2, 10, 20, rng)
    with pytest.raises(ValueError, match="0 neighbours of 9"):
        sample_clusters(index, 2, 4, 0, rng)


HOLD = """
import numpy as np
from memory import peak_mb
from vclip.training import clusters
from vclip.training.clusters import VideoIndex

clusters.COMPARED_AT_ONCE = 4096
def grown(n):
    vectors, start = np.random.default_rng(0).standard_normal((n, 256), np.float32), peak_mb()
    VideoIndex(vectors).neighbours(np.arange(100), 64)
    return peak_mb() - start
grown(5000)  # what the libraries load at the first use
print(grown(100_000), 100_000 * 256 * 4 / 2**20)
"""


def test_an_exact_index_holds_no_second_copy_of_the_vectors():
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", HOLD], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    grown, vectors = map(float, done.stdout.split())
    assert grown < vectors / 3, done.stdout  # MB
