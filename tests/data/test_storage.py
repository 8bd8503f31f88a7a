import os
import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclip.data import layouts, storage
from vclip.data.captions import Captions
from vclip.data.feature_store import as_json


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    file = tmp_path / "a.json"
    storage.write_json(file, {"a": 1})

    def half(temporary):
        temporary.write_text("{")
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space"):
        storage.replace(file, half)
    assert file.read_text() == '{\n "a": 1\n}\n' and list(tmp_path.iterdir()) == [file]


def test_bytes_reach_the_disk_before_the_name_does(tmp_path, monkeypatch):
    done = []
    fsync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda opened: done.append(os.fstat(opened).st_ino) or fsync(opened))
    monkeypatch.setattr(os, "replace", lambda *names: done.append("renamed") or rename(*names))
    storage.write_json(tmp_path / "a.json", {"a": 1})
    assert done == [(tmp_path / "a.json").stat().st_ino, "renamed"]


def test_files_are_as_readable_as_the_umask_allows(tmp_path):
    before = os.umask(0o027)
    try:
        storage.write_shard(tmp_path / "f.safetensors", [np.ones((2, 3))])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "f.safetensors").stat().st_mode) == 0o640


def test_a_shard_holds_the_videos_end_to_end(tmp_path):
    file = tmp_path / storage.shard_name(7)
    assert file.name == "features-00007.safetensors"
    videos = [np.arange(6.0).reshape(2, 3), np.full((1, 3), 0.1)]
    storage.write_shard(file, videos)
    rows = layouts.read_rows(file)
    np.testing.assert_array_equal(rows, np.concatenate(videos).astype(np.float16))
    assert rows.dtype == np.float16 and storage.read_tensor(file, "starts").tolist() == [0, 2, 3]
    np.save(tmp_path / "v.npy", videos[0])
    np.testing.assert_array_equal(layouts.read_rows(tmp_path / "v.npy"), videos[0])


@pytest.mark.parametrize("kind", ["<f2", ">f4", "<i8"])
@pytest.mark.parametrize("array", [np.arange(12).reshape(4, 3), np.arange(12).reshape(3, 4).T, np.zeros((0, 3))])
def test_npy_files_are_read_as_numpy_reads_them(tmp_path, array, kind):
    np.save(tmp_path / "v.npy", array.astype(kind))
    rows, expected = storage.read_npy(tmp_path / "v.npy"), np.load(tmp_path / "v.npy")
    np.testing.assert_array_equal(rows, expected, strict=True)
    assert rows.strides == expected.strides and not rows.flags.writeable


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="Linux lists a process's descriptors")
@pytest.mark.parametrize("suffix", ["npy", "safetensors"])
def test_a_map_keeps_no_file_open(tmp_path, suffix):
    """Of maps Linux allows 65,530, of open files often 1,024."""
    file = tmp_path / f"f.{suffix}"
    storage.write_shard(file, [np.ones((2, 3))]) if suffix == "safetensors" else np.save(file, np.ones((2, 3)))
    layouts.read_rows(file)  # which may import what keeps files of its own open
    before = os.listdir("/proc/self/fd")
    rows = layouts.read_rows(file)
    assert os.listdir("/proc/self/fd") == before and str(file) in Path("/proc/self/maps").read_text()
    assert (rows == 1).all()


@pytest.mark.parametrize(
    ("video_id", "features", "message"),
    [
        ("v", np.array([[1.0, None]], dtype=object), "'v': features are object .* expected numbers"),
        ("v", np.ones((3, 1)), r"'v': features are float64 \(3, 1\), expected numbers \(seconds > 0, 2\)"),
        ("v", np.ones((0, 2)), r"'v': features are float64 \(0, 2\)"),
        (7, np.ones((1, 2)), "non-empty string, not 7"),
    ],
)
def test_bad_features_and_ids_are_named(video_id, features, message):
    with pytest.raises(ValueError, match=message):
        storage.check_features(video_id, features, 2)


def test_features_of_any_number_type_become_float16():
    for kind in ("f2", "f4", "f8", "i4", "u1"):
        assert storage.check_features("v", np.ones((1, 2), kind), 2).dtype == np.float16


@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("others", [0.0, -1.0, 65504.0, -65504.0])
def test_one_value_that_is_not_finite_is_found_among_any_others(value, others):
    features = np.full((3, 4), others, np.float16)
    np.testing.assert_array_equal(storage.check_features("v", features, 4), features)
    features[1, 2] = value
    with pytest.raises(ValueError, match="'v': features hold NaN or infinity, first in second 1"):
        storage.check_features("v", features, 4)


said = st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6), st.text(st.characters(codec="utf-8"))), max_size=4)


@given(st.lists(said, min_size=1, max_size=5))
def test_the_table_of_captions_as_json_is_that_of_the_captions(videos):
    rows = {f"v{i}": list(zip(*rows, strict=True)) or [[], [], []] for i, rows in enumerate(videos)}
    captions = {video: Captions(*map(list, columns)) for video, columns in rows.items()}
    found = storage.captions_of_json([*captions], [as_json(of_video) for of_video in captions.values()])
    assert found.equals(storage.captions_table(captions.items())) and found.schema == storage.CAPTIONS
