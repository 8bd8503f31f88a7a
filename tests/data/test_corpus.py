import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from permissions import unprivileged
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from vclip.data import storage
from vclip.data.captions import Captions
from vclip.data.corpus import Corpus
from vclip.data.spec import vocabulary_hash
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


def test_videos_by_id_and_in_turn_are_what_create_takes(tmp_path):
    corpus = Corpus.create(tmp_path / "c", corpora.spec(), corpora.videos(3))
    again = Corpus.create(tmp_path / "again", corpora.spec(), corpus)
    for video_id in corpus.video_ids:
        video, other = corpus[video_id], again[video_id + ".mp4"]
        assert video.video_id == other.video_id == video_id and video.captions.text == other.captions.text
        np.testing.assert_array_equal(video.features, other.features)
    with pytest.raises(KeyError, match="unknown"):
        corpus["unknown"]


def test_a_buffer_that_is_filled_again_gives_each_video_its_own_features(tmp_path):
    def rows():
        buffer = np.zeros((3, corpora.DIM), np.float16)
        for i in range(4):
            buffer[:] = i
            yield f"v{i}", buffer, None

    corpus = Corpus.create(tmp_path / "c", corpora.spec(), rows())
    assert [corpus.features(i)[0, 0] for i in range(4)] == [0, 1, 2, 3]


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


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A tokenized corpus of 8 videos in 3 shards."""
    folder = tmp_path_factory.mktemp("whole") / "c"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(storage, "SHARD_VIDEOS", 3)
        corpora.make(folder, 8)
    return folder


@pytest.fixture
def copied(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "c")


def use(folder):
    """All that a corpus gives, each thing by itself."""
    corpus = Corpus.open(folder)
    features = [corpus.features(i) for i in range(len(corpus))]
    captions = [corpus.captions(i) for i in range(len(corpus))]
    every, none = np.arange(len(corpus)), np.zeros(len(corpus), int)
    rows, _ = Corpus.open(folder).gather_features(every, none, corpus.seconds)
    np.testing.assert_array_equal(rows, np.concatenate(features))
    times = [(c.start.tolist(), c.end.tolist(), c.text) for c in captions]
    return rows.tolist(), times, corpus.token_ids.tolist(), corpus.token_offsets.tolist(), corpus.video_ids


def column(folder, file, name, values):
    table = pq.read_table(folder / file)
    changed = values(table[name].to_pylist()) if callable(values) else pa.array(values)
    pq.write_table(table.set_column(table.column_names.index(name), name, pa.array(changed)), folder / file)


def value(file, name, new, row=4):
    def damage(folder):
        other = name != "video_id" and (isinstance(new, str) or name != "input_ids" and isinstance(new, list))
        column(folder, file, name, lambda old: [new] * len(old) if other else [*old[:row], new, *old[row + 1 :]])

    return pytest.param(file, damage, id=f"{name} {new!r}")


def without(file, name):
    def damage(folder):
        pq.write_table(pq.read_table(folder / file).drop_columns([name]), folder / file)

    return pytest.param(file, damage, id=f"{file} without {name}")


def twice(file, name):
    def damage(folder):
        table = pq.read_table(folder / file)
        pq.write_table(table.append_column(name, table[name]), folder / file)

    return pytest.param(file, damage, id=f"{file} with two {name}")


SHARD = "features-00001.safetensors"


def tensors(what, file=SHARD, **changes):
    def damage(folder):
        found = load_file(folder / SHARD)
        for name, change in changes.items():
            found[name] = np.ascontiguousarray(change(found[name].copy()))
        save_file(found, folder / SHARD)

    return pytest.param(file, damage, id=what)


def put(at, new):
    def change(array):
        array[at] = new
        return array

    return change


def described(what, **changes):
    def damage(folder):
        meta = json.loads((folder / "corpus.json").read_text())
        (folder / "corpus.json").write_text(
            json.dumps(meta | {k: change(meta.get(k)) for k, change in changes.items()})
        )

    return pytest.param("corpus.json", damage, id=what)


def instead(file, content):
    return pytest.param(file, lambda folder: (folder / file).write_bytes(content), id=f"{file} is {content[:10]!r}")


def folder_for(file):
    return pytest.param(file, lambda folder: ((folder / file).unlink(), (folder / file).mkdir()), id=f"{file} folder")


def gone(file):
    return pytest.param(file, lambda folder: (folder / file).unlink(), id=f"{file} gone")


FILES = ("corpus.json", "videos.parquet", "captions.parquet", SHARD)
NUMBERS = ("seconds", "shard", "row")
DAMAGE = [
    *(gone(file) for file in FILES[1:]),
    *(folder_for(file) for file in FILES[1:]),
    *(
        instead(file, content)
        for file in FILES
        for content in (b"", b"<!DOCTYPE html><html>", b"version https://git-lfs")
    ),
    *(instead("corpus.json", content) for content in (b"[1]", b"null", b"3", b"NaN", b'"\xff"', b"[" * 100_000)),
    *(value("videos.parquet", "seconds", new) for new in (-1, 0, 1, 2**62, -(2**63), None, "x", 0.5, [1])),
    *(value("videos.parquet", "row", new) for new in (-1, 0, 3, 2**62, -(2**63), None, "x", 0.5, [1])),
    *(value("videos.parquet", "video_id", new) for new in (None, "another")),
    *(value("captions.parquet", name, new) for name in ("start", "end") for new in (np.nan, np.inf, None, "x")),
    *(value("captions.parquet", "video_id", new) for new in (None, "nobody", "video 7")),
    *(value("captions.parquet", "input_ids", new) for new in (None, [None], [-1], [2**40], [0.5])),
    *(without("videos.parquet", name) for name in ("video_id", *NUMBERS, "media")),
    *(without("captions.parquet", name) for name in ("video_id", "start", "end", "text")),
    *(twice("videos.parquet", name) for name in NUMBERS),
    *(twice("captions.parquet", name) for name in ("video_id", "start", "text")),
    tensors("float32", features=lambda a: a.astype("f4")),
    tensors("int16", features=lambda a: a.view("i2")),
    tensors("narrower", features=lambda a: a[:, :-1]),
    tensors("1-d", features=np.ravel),
    tensors("NaN", features=put((3, 2), np.nan)),
    tensors("infinity", features=put((3, 2), -np.inf)),
    tensors("fewer rows", features=lambda a: a[:-1]),
    tensors("more rows", features=lambda a: np.concatenate([a, a])),
    tensors("starts that fall", starts=put(1, 10**6)),
    tensors("starts too long", starts=lambda a: np.append(a, a[-1] + 5)),
    tensors("starts too short", starts=lambda a: a[:-1]),
    tensors("starts beyond the rows", starts=lambda a: put(-1, a[-1] + 5)(a)),
    tensors("starts below 0", starts=put(0, -2)),
    tensors("starts elsewhere", "videos.parquet", starts=lambda a: put(1, a[1] + 1)(a)),
    tensors("starts of floats", starts=lambda a: a.astype("f8")),
    tensors("starts 2-d", starts=lambda a: a[:, None]),
    tensors("no starts", starts=lambda a: a[:0]),
    described("no spec", spec=lambda spec: None),
    described("a list as spec", spec=lambda spec: [1]),
    described("dim as text", spec=lambda spec: spec | {"dim": "8"}),
    described("encoder a number", spec=lambda spec: spec | {"encoder": 3}),
    pytest.param(SHARD, described("", spec=lambda spec: spec | {"dim": 7}).values[1], id="another dim"),
    described("tokenizer a list", tokenizer=lambda tokenizer: [1]),
]


@pytest.mark.parametrize(("file", "damage"), DAMAGE)
def test_damage_is_said_in_a_sentence_that_names_the_file(copied, file, damage):
    damage(copied)
    with pytest.raises((ValueError, FileNotFoundError)) as raised:
        use(copied)
    assert raised.type in (ValueError, FileNotFoundError) and "\n" not in str(raised.value)
    assert str(copied) in str(raised.value) and re.search(r"copy|open the folder again|a spec has", str(raised.value))
    named = file if file != SHARD else "features-0000"
    assert named in str(raised.value) or "captions.parquet" in str(raised.value)


@pytest.mark.parametrize("name", ["videos.parquet", "captions.parquet"])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@example(at=0.3063246528033503, bit=0)  # the texts' column is read as empty
def test_a_flipped_bit_of_a_table_changes_nothing_or_is_refused(whole, tmp_path, name, at, bit):
    folder = shutil.copytree(whole, tmp_path / "c", dirs_exist_ok=True)
    content = bytearray((whole / name).read_bytes())
    content[int(at * len(content))] ^= 1 << bit
    (folder / name).write_bytes(content)
    try:
        found = use(folder)
    except ValueError as error:
        assert type(error) is ValueError and str(folder) in str(error) and "\n" not in str(error)
    else:
        assert found == use(whole)


def test_other_types_that_hold_the_same_are_read(whole, copied):
    table = pq.read_table(copied / "captions.parquet")
    kinds = {"start": pa.float32(), "text": pa.large_string(), "video_id": pa.large_string()}
    for name, kind in kinds.items():
        table = table.set_column(table.column_names.index(name), name, table[name].cast(kind))
    pq.write_table(table.select(table.column_names[::-1]), copied / "captions.parquet", row_group_size=5)
    assert use(copied) == use(whole)


def test_older_corpora_name_their_tokenizer_in_the_json(copied):
    table = pq.read_table(copied / "captions.parquet")
    named = json.loads(table.schema.metadata[b"tokenizer"])
    pq.write_table(table.replace_schema_metadata(None), copied / "captions.parquet")
    meta = json.loads((copied / "corpus.json").read_text())
    (copied / "corpus.json").write_text(json.dumps(meta | {"tokenizer": named}))
    before = (copied / "captions.parquet").stat().st_mtime_ns
    corpus = Corpus.open(copied).tokenize(corpora.tokenizer())
    assert corpus.tokenizer == named and (copied / "captions.parquet").stat().st_mtime_ns == before
    other = corpora.tokenizer()
    other.add_tokens(["w60"])
    assert Corpus.open(copied).tokenize(other).tokenizer != named
    assert Corpus.open(copied).tokenizer == {"name": "", "vocabulary": vocabulary_hash(other)}


def test_tokenizing_stopped_at_any_point_leaves_a_corpus_that_is_whole(copied, monkeypatch):
    """The new tokens and their tokenizer's name come with one rename."""
    old, other = Corpus.open(copied).tokenizer, corpora.tokenizer()
    other.add_tokens(["w60"])
    calls = 0

    class Killed(BaseException):
        pass

    rename = storage.os.replace

    def killed(*names):
        nonlocal calls
        calls += 1
        if calls == stop:
            raise Killed
        rename(*names)

    monkeypatch.setattr(storage.os, "replace", killed)
    stop = 1
    with pytest.raises(Killed):
        Corpus.open(copied).tokenize(other)
    assert Corpus.open(copied).tokenizer == old
    assert Corpus.open(copied).tokenize(other).tokenizer == Corpus.open(copied).tokenizer != old
    assert calls == 2


def test_a_folder_that_cannot_be_written_is_tokenized_for_this_object_alone(tmp_path):
    rows = list(corpora.videos(3))
    Corpus.create(tmp_path / "c", corpora.spec(), rows)
    before = {file.name: file.read_bytes() for file in (tmp_path / "c").iterdir()}
    for file in (tmp_path / "c").iterdir():
        file.chmod(0o644)
    for folder in tmp_path.parents[:2]:
        folder.chmod(0o755)
    with unprivileged(tmp_path):
        corpus = Corpus.open("c").tokenize(corpora.tokenizer())
        ids = corpus.token_ids.tolist()
        assert [corpus.captions(i).text for i in range(3)] == [captions.text for _, _, captions in rows]
    assert {file.name: file.read_bytes() for file in (tmp_path / "c").iterdir()} == before
    assert corpus.tokenizer and Corpus.open(tmp_path / "c").tokenizer is None
    assert ids == Corpus.open(tmp_path / "c").tokenize(corpora.tokenizer()).token_ids.tolist()


SCALE = """
import sys, time
sys.path.insert(0, {tests!r})
import corpora, memory
from vclip.data.corpus import Corpus
tokenizer = corpora.tokenizer()
tokenizer(["w1"])
before = memory.peak_mb()
corpus = Corpus.open({folder!r})
opened = memory.peak_mb()
corpus.tokenize(tokenizer)
print(len(corpus.caption_start), opened - before, memory.peak_mb() - opened)
"""


@pytest.mark.long
def test_memory_of_tokenizing_does_not_grow_with_the_captions(tmp_path):
    """As Python's objects the tokens of 160,000 captions would take 600 MB."""
    said = Captions(np.arange(4000), np.arange(4000) + 1, [" ".join(corpora.WORDS[:20])] * 4000)
    rows = ((f"v{i}", np.ones((1, corpora.DIM)), said) for i in range(40))
    Corpus.create(tmp_path / "c", corpora.spec(), rows)
    script = SCALE.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path / "c"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    captions, opening, tokenizing = map(float, done.stdout.split())
    assert captions == 160_000 and opening < 100 and tokenizing < 300


@pytest.mark.parametrize("name", ["file.mp4", "empty", "features.h5", "nothing"])
def test_what_is_no_corpus_is_named(tmp_path, name):
    for folder in ("empty", "features.h5"):
        (tmp_path / folder).mkdir()
    (tmp_path / "file.mp4").write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match=rf"{name} (is not a folder|has no corpus\.json)"):
        Corpus.open(tmp_path / name)


def test_a_path_may_be_any_string_and_begin_with_a_tilde(whole, monkeypatch):
    class Text(str):
        pass

    monkeypatch.setenv("HOME", str(whole.parent))
    assert len(Corpus.open("~/c")) == len(Corpus.open(Text("~/c"))) == 8
