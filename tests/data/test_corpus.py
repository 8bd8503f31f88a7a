import dataclasses
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from vclip.data import storage
from vclip.data.captions import Captions
from vclip.data.corpus import Corpus
from vclip.models.config import VideoCLIPConfig

import corpora


def test_what_goes_in_comes_out(tmp_path):
    rows = list(corpora.videos(5))
    corpus = Corpus.create(tmp_path / "c", corpora.spec(), rows, split="val", licence="CC0")
    assert (len(corpus), corpus.spec, corpus.split, corpus.licence) == (5, corpora.spec(), "val", "CC0")
    assert corpus.video_ids == [video_id for video_id, _, _ in rows]
    for i, (video_id, features, captions) in enumerate(rows):
        assert corpus.features(i).dtype == np.float16
        np.testing.assert_array_equal(corpus.features(i), features.astype(np.float16))
        np.testing.assert_array_equal(corpus.captions(i).start, captions.start)
        np.testing.assert_array_equal(corpus.captions(i).end, captions.end)
        assert corpus.captions(i).text == captions.text
        assert video_id in corpus and corpus.index(video_id) == i
    assert "video" not in " ".join(path.name for path in (tmp_path / "c").iterdir() if path.suffix == ".safetensors")


@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_any_ids_texts_and_lengths(tmp_path_factory, data):
    ids = data.draw(
        st.lists(st.text(min_size=1).filter(lambda t: t.isprintable()), unique=True, min_size=1, max_size=5)
    )
    rows = []
    for video_id in ids:
        n = data.draw(st.integers(0, 3))
        texts = data.draw(st.lists(st.text(alphabet=st.characters(exclude_categories=["Cs"])), min_size=n, max_size=n))
        captions = Captions(np.arange(n) * 2.0, np.arange(n) * 1.0, texts)  # the released clean-up makes end < start
        rows.append((video_id, np.random.rand(data.draw(st.integers(1, 4)), corpora.DIM), captions))
    corpus = Corpus.create(tmp_path_factory.mktemp("c") / "c", corpora.spec(), rows)
    assert corpus.video_ids == ids
    assert [corpus.captions(i).text for i in range(len(ids))] == [captions.text for _, _, captions in rows]


def test_gather_equals_the_loop_over_shards(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "SHARD_VIDEOS", 3)
    corpus = corpora.make(tmp_path / "c", n=8)
    assert len(list((tmp_path / "c").glob("features-*.safetensors"))) == 3
    rng = np.random.default_rng(0)
    videos = rng.integers(len(corpus), size=40)
    starts = rng.integers(0, 10, size=40)
    ends = starts + rng.integers(0, 9, size=40)
    rows, lengths = corpus.gather_features(videos, starts, ends)
    loop = [corpus.features(v)[a:b] for v, a, b in zip(videos, starts, ends, strict=True)]
    np.testing.assert_array_equal(rows, np.concatenate(loop))
    np.testing.assert_array_equal(lengths, [len(clip) for clip in loop])


def test_reading_maps_the_file(tmp_path):
    corpus = corpora.make(tmp_path / "c")
    with open("/proc/self/maps") as maps:
        before = maps.read().count("features-00000.safetensors")
    view = corpus.features(0)
    with open("/proc/self/maps") as maps:
        assert maps.read().count("features-00000.safetensors") > before
    assert view.base is not None


def test_word_pieces(tmp_path):
    rows = [
        ("a", np.ones((3, corpora.DIM)), Captions([0, 1], [1, 2], ["w1 w2 " * 40, ""])),
        ("b", np.ones((1, 8)), None),
    ]
    corpus = Corpus.create(tmp_path / "c", corpora.spec(), rows)
    with pytest.raises(ValueError, match="tokenize"):
        corpus.token_ids  # noqa: B018
    corpus.tokenize(corpora.tokenizer())
    for c in (corpus, Corpus.open(tmp_path / "c")):
        assert np.diff(c.token_offsets).tolist() == [32, 0]
        assert c.token_ids[:3].tolist() == [105, 106, 105]
        assert c.tokenizer["vocabulary"]
    changed = (tmp_path / "c" / "captions.parquet").stat().st_mtime_ns
    Corpus.open(tmp_path / "c").tokenize(corpora.tokenizer())
    assert (tmp_path / "c" / "captions.parquet").stat().st_mtime_ns == changed


def test_captions_are_cut_to_96_characters_then_32_tokens(tmp_path):
    vocabulary = ["[UNK]", "[PAD]", "a", "##a", "b", "##b"]
    words = Tokenizer(models.WordPiece({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]")
    said = Captions([0, 1, 2, 3], [1, 2, 3, 4], ["a ba", "", "a" * 40, " " * 95 + "ab"])
    corpus = Corpus.create(tmp_path / "c", corpora.spec(), [("a", np.ones((4, corpora.DIM)), said)])
    corpus.tokenize(tokenizer)
    tokens = [ids.tolist() for ids in np.split(corpus.token_ids, corpus.token_offsets[1:-1])]
    assert tokens == [[2, 4, 3], [], [2] + [3] * 31, [2]]
    silent = Corpus.create(tmp_path / "silent", corpora.spec(), [("a", np.ones((4, corpora.DIM)), None)])
    assert silent.tokenize(tokenizer).token_ids.tolist() == []


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (("a", np.ones((2, 8)), None), "'a' occurs twice"),
        (("", np.ones((2, 8)), None), "non-empty"),
        (("b", np.ones((2, 7)), None), r"'b'.*\(2, 7\)"),
        (("b", np.ones((0, 8)), None), "'b'.*seconds > 0"),
        (("b", np.array([[1.0] * 8, [np.nan] * 8]), None), "'b'.*NaN or infinity, first in second 1"),
        (("b", np.full((1, 8), 1e6), None), "'b'.*float16"),
    ],
)
def test_bad_videos_are_refused_and_nothing_is_left(tmp_path, bad, message):
    with pytest.raises(ValueError, match=message):
        Corpus.create(tmp_path / "c", corpora.spec(), [("a", np.ones((2, 8)), None), bad])
    assert list(tmp_path.iterdir()) == []


def test_an_existing_corpus_is_not_overwritten(tmp_path):
    corpora.make(tmp_path / "c")
    with pytest.raises(FileExistsError, match="not empty"):
        corpora.make(tmp_path / "c")


def test_positions_are_those_of_a_list(tmp_path):
    corpus = corpora.make(tmp_path / "c", 3)
    for i in (-1, np.int32(2), np.int64(-1)):
        np.testing.assert_array_equal(corpus.features(i), corpus.features(2))
        assert len(corpus.captions(i)) > 0 and corpus.captions(i).text == corpus.captions(2).text
    for read in (corpus.features, corpus.captions):
        for i in (3, -4):
            with pytest.raises(IndexError, match="out of range"):
                read(i)


@pytest.mark.parametrize("name", ["corpus.json", "videos.parquet", "captions.parquet", "features-00000.safetensors"])
def test_a_damaged_file_is_named(tmp_path, name):
    corpora.make(tmp_path / "c")
    file = tmp_path / "c" / name
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ValueError, match=re.escape(str(file))):
        Corpus.open(tmp_path / "c")


def test_a_duplicate_id_in_the_tables_is_refused(tmp_path):
    corpora.make(tmp_path / "c", 3)
    file = tmp_path / "c" / "videos.parquet"
    table = pq.read_table(file)
    pq.write_table(table.set_column(0, "video_id", pa.array(["video 0", "video 1", "video 1"])), file)
    with pytest.raises(ValueError, match="'video 1' occurs twice"):
        Corpus.open(tmp_path / "c")


def test_an_id_with_a_path_in_it_is_only_a_name(tmp_path):
    corpus = Corpus.create(tmp_path / "c", corpora.spec(), [("../../evil/x.mp4", np.ones((2, 8)), None)])
    assert corpus.video_ids == ["../../evil/x.mp4"]
    assert {p.name for p in tmp_path.iterdir()} == {"c"}


def test_another_encoders_features_are_refused(tmp_path):
    corpus = corpora.make(tmp_path / "c")
    corpus.check(VideoCLIPConfig())
    corpus.check(VideoCLIPConfig(feature_spec=corpora.spec()))
    other = dataclasses.asdict(corpora.spec(fps=30))
    with pytest.raises(ValueError, match=r"fps: 1 against 30"):
        corpus.check(VideoCLIPConfig(feature_spec=other))
    del other["crop"]
    with pytest.raises(ValueError, match=r"the feature spec of the model lacks 'crop'"):
        corpus.check(VideoCLIPConfig(feature_spec=other))


def test_a_split_that_is_not_there_is_refused(tmp_path):
    corpora.make(tmp_path / "c", 3)
    assert Corpus.open(tmp_path / "c", "train").split == "train"
    with pytest.raises(ValueError, match="holds the split 'train', not 'val'"):
        Corpus.open(tmp_path / "c", "val")


def test_a_video_suffix_makes_no_other_id(tmp_path):
    ids = ["a", "b.mov", "c.", "twice.mp4", "twice.avi", "part.1", "part.2.mp4", "UP.MOV"]
    rows = [(video_id, np.full((1, corpora.DIM), i), None) for i, video_id in enumerate(ids)]
    corpus = Corpus.create(tmp_path / "c", corpora.spec(), rows)
    assert [corpus.index(video_id) for video_id in ids] == list(range(len(ids)))
    same = {"a.mp4": 0, "a.MOV": 0, "a.": 0, "a.3g2": 0, "b": 1, "b.avi": 1, "c": 2, "c.mov": 2, "twice.mp4": 3}
    assert {video_id: corpus.index(video_id) for video_id in same} == same and all(v in corpus for v in same)
    assert corpus.index("part.1.mp4") == 5 and corpus.index("part.2") == 6
    for other in ("twice", "twice.mov", "part", "part.3", "a.b", "A", "", ".", ".mp4", "a.vtt"):
        assert other not in corpus
        with pytest.raises(KeyError, match=re.escape(repr(other))):
            corpus.index(other)


@pytest.mark.parametrize("kind", ["npy", "h5"])
def test_what_is_exported_is_read_again(tmp_path, kind):
    corpus = corpora.make(tmp_path / "c", n=4)
    assert corpus.export(tmp_path / "out", kind) == tmp_path / "out"
    again = Corpus.open(tmp_path / "out")
    assert again.video_ids == corpus.video_ids
    for i in range(len(corpus)):
        np.testing.assert_array_equal(again.features(i), corpus.features(i))
    names = {"h5": ["features.h5"], "npy": [f"video {i}.npy" for i in range(4)]}[kind]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == names
    if kind == "npy":
        assert np.load(tmp_path / "out" / names[0]).dtype == np.float32
    with pytest.raises(FileExistsError, match="out is not empty"):
        corpus.export(tmp_path / "out", kind)
    with pytest.raises(TypeError, match="unknown kind of features 'hdf': did you mean"):
        corpus.export(tmp_path / "other", "hdf")
    slow = tmp_path / "half"
    Corpus.create(tmp_path / "two", corpora.spec(), [("a", np.ones((2, 8)), None)]).export(slow)
    half = Corpus.open(slow, rate=0.5)
    assert Corpus.open(half.export(tmp_path / "whole", kind)).seconds.tolist() == [4]


@settings(max_examples=15, deadline=None)
@given(
    ids=st.lists(st.text("a/\\.:*\0\n\u00e9", min_size=1, max_size=6), unique=True, min_size=1, max_size=4),
    h5=st.booleans(),
)
def test_an_exported_id_is_a_plain_file_name(tmp_path_factory, ids, h5):
    folder = tmp_path_factory.mktemp("c")
    corpus = Corpus.create(folder / "c", corpora.spec(), [(video_id, np.ones((1, 8)), None) for video_id in ids])
    try:
        corpus.export(folder / "out", "h5" if h5 else "npy")
    except ValueError as error:
        assert "two ids differ only in characters" in str(error) and sorted(f.name for f in folder.iterdir()) == ["c"]
        return
    assert sorted(f.name for f in folder.iterdir()) == ["c", "out"]
    files = list((folder / "out").rglob("*"))
    assert len(files) == (1 if h5 else len(ids)) and not any(f.is_dir() or f.name[0] == "." for f in files)
    assert len(Corpus.open(folder / "out")) == len(ids)
