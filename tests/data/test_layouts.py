import json
import os
import re
import sys
from fractions import Fraction
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vclip.data import corpus as corpus_module
from vclip.data.corpus import Corpus
from vclip.data.layouts import one_a_second

import corpora


def test_a_folder_of_npy_files(tmp_path):
    rows = list(corpora.videos(3))
    for video_id, features, _ in rows:
        np.save(tmp_path / f"{video_id}.npy", features.astype(np.float16))
    (tmp_path / "video 0.csv").write_text("start,end,text\n0,2,w1 w2\n")
    columns = {"start": [1.0], "end": [2.0], "text": ["w3"]}
    (tmp_path / "video 1.json").write_text(json.dumps({"video 1": columns}))
    (tmp_path / "._video 1.npy").write_bytes(b"what macOS leaves")
    corpus = Corpus.open(tmp_path)
    assert corpus.video_ids == [video_id for video_id, _, _ in rows] and corpus.dim == corpora.DIM
    np.testing.assert_array_equal(corpus.features(2), rows[2][1].astype(np.float16))
    assert [corpus.captions(i).text for i in range(3)] == [["w1 w2"], ["w3"], []]
    before = sorted(tmp_path.iterdir())
    assert corpus.tokenize(corpora.tokenizer()).token_ids.tolist() == [105, 106, 107]
    assert sorted(tmp_path.iterdir()) == before


class Evil:
    def __init__(self, path: Path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_npy_files_that_hold_objects_or_nonsense(tmp_path):
    np.save(tmp_path / "a.npy", np.array([Evil(tmp_path / "ran")], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"a\.npy"):
        Corpus.open(tmp_path)
    assert not (tmp_path / "ran").exists()
    np.save(tmp_path / "a.npy", np.ones((2, 8)))
    np.save(tmp_path / "b.npy", np.ones((2, 7)))
    with pytest.raises(ValueError, match=r"b\.npy.*\(2, 7\)"):
        Corpus.open(tmp_path)
    with pytest.raises(FileNotFoundError, match="right folder"):
        Corpus.open(tmp_path / "nowhere" if (tmp_path / "nowhere").mkdir() is None else tmp_path)


def write(folder: Path, kind: str, rows: dict[str, np.ndarray]) -> None:
    """Features as other tools save them, some of them beside what is no feature."""
    for i, (video_id, features) in enumerate(rows.items()):
        boxes = np.ones((3, 4), int)
        if kind == "npz":
            np.savez_compressed(folder / f"{video_id}.npz", features, **({"boxes": boxes} if i else {}))
        elif kind in ("pt", "pth"):
            beside = {"features": torch.from_numpy(features), "fps": 1, "boxes": torch.from_numpy(boxes)}
            torch.save(beside if i else torch.from_numpy(features), folder / f"{video_id}.{kind}")
        else:
            with h5py.File(folder / f"features.{kind}", "a") as file:
                file[video_id] = features


@pytest.mark.parametrize("kind", ["npz", "pt", "pth", "h5", "hdf5"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_features_in_formats_of_other_tools(tmp_path, kind, dtype):
    rows = {video_id: features.astype(dtype) for video_id, features, _ in corpora.videos(3)}
    write(tmp_path, kind, rows)
    (tmp_path / "video 1.csv").write_text("start,end,text\n0,2,w1 w2\n")
    for hidden in (f"._video 1.{kind}", f".features.{kind}"):
        (tmp_path / hidden).write_bytes(b"what macOS leaves")
    opened = [Corpus.open(tmp_path)] + ([Corpus.open(tmp_path / f"features.{kind}")] if "h" in kind[0] else [])
    for corpus in opened:
        assert corpus.video_ids == list(rows) and corpus.dim == corpora.DIM
        for i, features in enumerate(rows.values()):
            np.testing.assert_array_equal(corpus.features(i), features.astype(np.float16))
        gathered, _ = corpus.gather_features(np.array([2, 0]), np.array([1, 3]), np.array([5, 4]))
        expected = [rows["video 2"][1:5], rows["video 0"][3:4]]
        np.testing.assert_array_equal(gathered, np.concatenate(expected).astype(np.float16))
        assert [corpus.captions(i).text for i in range(3)] == [[], ["w1 w2"], []]
        assert corpus.tokenize(corpora.tokenizer()).token_ids.tolist() == [105, 106]


def test_files_that_hold_several_arrays_or_none_are_named(tmp_path):
    np.savez(tmp_path / "a.npz", rgb=np.ones((2, 8)), flow=np.ones((2, 8)), fps=np.float32(1))
    with pytest.raises(
        ValueError, match=r"a\.npz holds 'rgb' float64 \(2, 8\), 'flow' float64 \(2, 8\), 'fps'.*keep one"
    ):
        Corpus.open(tmp_path)
    np.savez(tmp_path / "a.npz", np.array([Evil(tmp_path / "ran")], dtype=object))
    with pytest.raises(ValueError, match=r"a\.npz is damaged \(.*allow_pickle"):
        Corpus.open(tmp_path)
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(ValueError, match=r"a\.npz is damaged \(its end is missing"):
        Corpus.open(tmp_path)
    (tmp_path / "a.npz").unlink()
    torch.save({"rgb": torch.ones(2, 8), "flow": torch.ones(2, 8)}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a\.pt holds 'rgb' float16 \(2, 8\), 'flow'.*keep one"):
        Corpus.open(tmp_path)
    torch.save({"state": "nothing"}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a\.pt holds no array"):
        Corpus.open(tmp_path)
    torch.save(Evil(tmp_path / "ran"), tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a\.pt .*mkdir"):
        Corpus.open(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_hdf5_files_that_are_not_one_dataset_a_video(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["v"], file["w/features"] = np.ones((2, 8), np.float32), np.ones((2, 8), np.float32)
    with pytest.raises(ValueError, match=r"a\.h5: 'w' is .* \(1,\), expected \(seconds > 0, 8\) floats"):
        Corpus.open(tmp_path)
    (tmp_path / "b.h5").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=r"holds 2 \.h5 files: Corpus\.open\(file\) says which"):
        Corpus.open(tmp_path)
    with pytest.raises(ValueError, match=r"b\.h5 is damaged \(.*signature"):
        Corpus.open(tmp_path / "b.h5")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"b\.h5: .*pip install h5py"):
        Corpus.open(tmp_path / "b.h5")


def plain_loop(features: np.ndarray, rate: Fraction) -> np.ndarray:
    rows = []
    for second in range(100_000):
        if rate >= 1:
            own = [row for i, row in enumerate(features) if second <= i / rate < second + 1]
        else:
            middle = second + Fraction(1, 2)
            own = [row for i, row in enumerate(features) if i / rate <= middle < (i + 1) / rate]
        if not own:
            return np.array(rows or [features[0]])
        rows.append(np.mean(own, axis=0))
    raise AssertionError("endless")


@given(n=st.integers(1, 16), rate=st.fractions(Fraction(1, 12), 40, max_denominator=24))
def test_one_feature_a_second_equals_the_loop(n, rate):
    features = np.random.default_rng(n).standard_normal((n, 3))
    made = one_a_second(features, float(rate))
    np.testing.assert_allclose(made, plain_loop(features, rate), rtol=1e-3, atol=1e-3)  # float16
    assert abs(len(made) - n / rate) <= 1 or n / rate < 1


@pytest.mark.parametrize("kind", ["npy", "h5", "corpus"])
@pytest.mark.parametrize("rate", [0.5, 1.5, 2, 2.0, 30])
def test_features_at_another_rate(tmp_path, kind, rate):
    """Each second's features say its number."""
    rows = {f"v{i}": (np.arange(int(n * rate)) // rate).repeat(8).reshape(-1, 8) for i, n in enumerate((24, 40, 6))}
    if kind == "npy":
        for video_id, features in rows.items():
            np.save(tmp_path / f"{video_id}.npy", features.astype(np.float32))
    elif kind == "h5":
        write(tmp_path, "h5", {video_id: features.astype(np.float32) for video_id, features in rows.items()})
    else:
        Corpus.create(tmp_path, corpora.spec(), [(*row, None) for row in rows.items()])
    corpus = Corpus.open(tmp_path, rate=rate)
    assert corpus.seconds.tolist() == [24, 40, 6] and corpus.rate == rate and Corpus.open(tmp_path).rate is None
    for i, n in enumerate(corpus.seconds):
        seconds = np.arange(n) if rate >= 1 else np.arange(n) // 2 * 2
        np.testing.assert_array_equal(corpus.features(i)[:, 3], seconds)
        assert corpus.features(i).dtype == np.float16
    gathered, lengths = corpus.gather_features(np.array([1, 0]), np.array([2, 4]), np.array([9, 8]))
    np.testing.assert_array_equal(gathered, np.concatenate([corpus.features(1)[2:9], corpus.features(0)[4:8]]))
    assert lengths.tolist() == [7, 4]


def test_captions_that_cannot_be_read_cost_one_warning(tmp_path):
    for name in "abc":
        np.save(tmp_path / f"{name}.npy", np.ones((5, 8), np.float32))
    (tmp_path / "a.csv").write_text("start,end,text\n2,1,backwards\n")
    (tmp_path / "b.vtt").write_bytes(b"WEBVTT\n\n\xff\n")
    (tmp_path / "c.csv").write_text("start,end,text\n0,2,w1 w2\n")
    with pytest.warns(
        UserWarning, match=r"2 of 3 videos are without captions: .*a\.csv, row 1.*b\.vtt, line 3"
    ) as warned:
        corpus = Corpus.open(tmp_path)
    assert len(warned) == 1 and warned[0].filename == __file__
    assert [corpus.captions(i).text for i in range(3)] == [[], [], ["w1 w2"]]


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [(np.nan, "f4", "NaN or infinity"), (-np.inf, "f2", "NaN or infinity"), (1e6, "f4", "beyond float16")],
)
def test_a_bad_video_is_named_when_it_is_first_read_and_costs_no_other(tmp_path, value, kind, message):
    for name in "abc":
        np.save(tmp_path / f"{name}.npy", np.ones((5, 8), kind))
    bad = np.ones((5, 8), kind)
    bad[3, 2] = value
    np.save(tmp_path / "b.npy", bad)
    corpus = Corpus.open(tmp_path)
    assert corpus.features(0).shape == corpus.features(2).shape == (5, 8)
    message = f"'b': features hold .*{message}.* second 3"
    for _ in range(2):
        with pytest.raises(ValueError, match=message):
            corpus.features(1)
    with pytest.raises(ValueError, match=message):  # although the seconds asked for are good
        corpus.gather_features(np.array([0, 1]), np.array([0, 0]), np.array([2, 2]))


def maps(folder: Path) -> int:
    return Path("/proc/self/maps").read_text().count(f"{folder}/")


def test_no_more_files_are_mapped_than_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(corpus_module, "FILES_OPEN", 4)
    for i in range(40):
        np.save(tmp_path / f"{i:02d}.npy", np.full((3, 8), i, np.float16))
    corpus = Corpus.open(tmp_path)
    assert maps(tmp_path) == 0
    for i in range(40):
        assert (corpus.features(i) == i).all()
    rows, _ = corpus.gather_features(np.arange(40), np.zeros(40, int), np.full(40, 2))
    np.testing.assert_array_equal(rows[:, 0], np.repeat(np.arange(40), 2))
    assert 0 < maps(tmp_path) <= 4
    kept = [corpus.features(i) for i in range(40)]  # a view stays good although its file is no longer open
    assert all((view == i).all() for i, view in enumerate(kept))


def test_a_folder_of_several_kinds_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((5, 8), np.float32))
    np.savez(tmp_path / "b.npz", np.ones((5, 8), np.float32))
    with pytest.raises(ValueError, match=r"several kinds, 1 like a\.npy, 1 like b\.npz: keep one kind"):
        Corpus.open(tmp_path)


@pytest.mark.parametrize("kind", ["npy", "npz", "h5", "pt"])
def test_files_cut_short_are_named(tmp_path, kind):
    file, rows = tmp_path / f"b.{kind}", np.ones((50, 8), np.float32)
    np.save(file, rows) if kind == "npy" else write(tmp_path, kind, {"b": rows})
    file = next(tmp_path.iterdir())
    whole = file.read_bytes()
    for end in (0, 3, 30, 100, 200, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:end])
        with pytest.raises(ValueError, match=re.escape(str(file))) as raised:
            Corpus.open(tmp_path)
        assert raised.type is ValueError and "\n" not in str(raised.value)
    file.unlink()
    file.mkdir()
    with pytest.raises(FileNotFoundError, match="right folder"):
        Corpus.open(tmp_path)
