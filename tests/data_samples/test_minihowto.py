"""The files that ship: counts, formats, and what the data card claims of them."""

import io
import json
from pathlib import Path

import numpy as np
import probes
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from transformers import AutoTokenizer
from vocabulary import ACTIONS, THINGS, TOPICS
from world import SIZES, held_out_pairs

from vclip.data.captions import deduplicate, read_captions
from vclip.data.corpus import Corpus
from vclip.data.video import read_seconds
from vclip.datasets import minihowto as shipped
from vclip.encoders.loading import from_spec


@pytest.fixture(scope="module")
def truth(minihowto) -> list[dict]:
    return pq.read_table(minihowto / "truth.parquet").to_pylist()


@pytest.fixture(scope="module")
def corpora(minihowto) -> dict[str, Corpus]:
    return {split: Corpus.open(minihowto / split) for split in SIZES}


def annotations(folder: Path, split: str) -> dict:
    path = folder / "youcook2" / split / "youcookii_annotations_trainval.json"
    return json.loads(path.read_text(encoding="utf-8"))["database"]


def test_the_folder_stays_small(minihowto):
    files = [f for f in minihowto.parent.rglob("*") if f.is_file() and f.parent.name != "__pycache__"]
    assert sum(f.stat().st_size for f in files) < 40e6


def test_counts_are_those_of_the_card(corpora):
    assert {split: len(corpus) for split, corpus in corpora.items()} == SIZES
    assert (len(THINGS), len(ACTIONS), len(TOPICS)) == (42, 12, 42)
    for corpus in corpora.values():
        assert corpus.seconds.min() >= 40
        assert corpus.seconds.max() <= 65
        assert corpus.spec == corpora["train"].spec
        assert len(corpus.token_ids) > 1000  # tokenized: opening it in a notebook changes no file


def test_features_are_finite_and_scaled(corpora):
    for corpus in corpora.values():
        features = np.concatenate([corpus.features(i) for i in range(len(corpus))]).astype(np.float32)
        assert np.isfinite(features).all()
        assert 0.5 < np.mean(features**2) < 2


@pytest.mark.parametrize("split", ["test", "unseen"])
def test_no_two_clips_share_action_and_thing(minihowto, truth, split):
    pairs = [(row["action"], row["thing"]) for row in truth if row["split"] == split]
    assert len(pairs) == len(set(pairs)) >= 400
    assert sum(len(video["annotations"]) for video in annotations(minihowto, split).values()) == len(pairs)


def test_held_out_pairs_are_seen_in_test_only(truth):
    pairs = {split: {(r["action"], r["thing"]) for r in truth if r["split"] == split} for split in SIZES}
    assert not held_out_pairs() & (pairs["train"] | pairs["val"])
    for split in ("test", "unseen"):
        assert len(held_out_pairs() & pairs[split]) >= 40


def test_no_topic_says_the_thing_and_a_batch_rarely_repeats_one(corpora, truth):
    shown = {(row["topic"], row["thing"]) for row in truth}
    for thing in THINGS:
        assert sum(thing == t for _, t in shown) >= 4
    topic = {row["video_id"]: row["topic"] for row in truth}
    counts = np.unique([topic[v] for v in corpora["train"].video_ids], return_counts=True)[1]
    assert len(counts) == 42
    assert counts.max() - counts.min() <= 1


def test_sentences_name_action_and_thing(minihowto, truth):
    rows = {(r["video_id"], r["step"]): r for r in truth}
    for split in SIZES:
        for video, entry in annotations(minihowto, split).items():
            assert entry["subset"] == ("training" if split == "train" else "validation")
            for step in entry["annotations"]:
                row, sentence = rows[video, step["id"]], step["sentence"]
                assert step["segment"] == [row["start"], row["end"]]
                assert any(sentence.startswith(verb) for verb, _ in ACTIONS[row["action"]].verbs)
                assert any(f" the {name}" in sentence for name in THINGS[row["thing"]][1])


def test_narration_leads_and_lags(truth):
    lag = np.array([row["narrated"] - (row["start"] + row["end"]) / 2 for row in truth])
    assert abs(lag.mean()) < 3
    assert 3 < lag.std() < 6
    assert np.mean(lag < -3) > 0.1
    assert np.mean(lag > 3) > 0.05


def test_shipped_videos_give_the_shipped_captions_and_features(minihowto, corpora):
    videos = sorted((minihowto / "videos").glob("*.mp4"))
    assert len(videos) == 12
    for path in videos:
        split = path.stem.rstrip("0123456789")
        corpus = corpora[split]
        stored = corpus.captions(corpus.index(path.stem))
        raw = read_captions(path.with_suffix(".vtt"))
        assert len(raw) > len(stored)
        assert deduplicate(raw).text == stored.text
    path = videos[0]
    corpus = corpora[path.stem.rstrip("0123456789")]
    encoder = from_spec(corpus.spec, minihowto)
    seconds = [block.copy() for block in read_seconds(path, encoder.spec.fps, encoder.spec.size)]
    stored = corpus.features(corpus.index(path.stem))
    assert len(seconds) == len(stored)
    np.testing.assert_allclose(encoder(np.stack(seconds[:12])), stored[:12].astype(np.float32), atol=0.05)


def test_tokenizer_has_bert_special_ids(minihowto):
    tokenizer = AutoTokenizer.from_pretrained(minihowto / "tokenizer")
    special = [tokenizer.convert_tokens_to_ids(t) for t in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")]
    assert special == [0, 100, 101, 102, 103]
    assert len(tokenizer) <= 1500
    ids = tokenizer("Dice the aubergine into small pieces")["input_ids"]
    assert (ids[0], ids[-1]) == (101, 102)
    assert 100 not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "dice the aubergine into small pieces"


def test_thumbnails_open(minihowto, truth):
    table = pq.read_table(minihowto / "thumbnails.parquet").to_pydict()
    clips = [row for row in truth if row["split"] in ("test", "unseen")]
    seconds = set(zip(table["video_id"], table["second"], strict=True))
    for row in clips:
        assert any((row["video_id"], s) in seconds for s in range(row["start"], row["end"]))
    for jpeg in table["jpeg"][::97]:
        assert Image.open(io.BytesIO(jpeg)).size == (96, 96)


def test_one_contact_sheet_a_topic(minihowto):
    assert {f.stem.replace("_", " ") for f in (minihowto / "contact_sheets").glob("*.jpg")} == set(TOPICS)


def test_probes_find_the_action_in_the_motion_and_the_thing_in_the_unseen_style(minihowto):
    torch.manual_seed(0)
    x, y, _ = probes.seconds(minihowto, "train")
    x, y = x[::4], {target: labels[::4] for target, labels in y.items()}
    whole = {split: probes.seconds(minihowto, split)[:2] for split in ("test", "unseen")}
    still = {split: probes.stills(minihowto, split) for split in ("train", "test", "unseen")}

    def accuracy(train, test, target):
        weights = probes.probe(train[0], train[1][target], len(probes.names()[target]))
        return np.mean(probes.log_probabilities(weights, test[0]).argmax(1) == test[1][target])

    for split in ("test", "unseen"):
        assert accuracy((x, y), whole[split], "action") > accuracy(still["train"], still[split], "action") + 0.2
    assert accuracy((x, y), whole["unseen"], "thing") > 4 / 42


def test_the_topic_alone_does_not_find_the_clip(minihowto):
    assert probes.topic_only(minihowto, "test") < 0.03


def test_the_folder_is_found_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(Corpus.open(shipped.minihowto() / "val")) == 64


def test_an_installation_without_it_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "site-packages" / "data_samples" / "minihowto")
    with pytest.raises(FileNotFoundError, match="install from a clone"):
        shipped.minihowto()
