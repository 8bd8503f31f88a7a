"""The packed batch: the original's rows, and a loop over clips."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vclip.data.captions import Captions
from vclip.data.corpus import Corpus
from vclip.data.samplers import AlignedClips, Clips, MILNCEClips, OverlappedClips
from vclip.models.config import VideoCLIPConfig
from vclip.training.batches import pack

from corpora import Video, make, narrated, spec, tokenizer, write_corpus

CONFIG = VideoCLIPConfig()
SAMPLERS = [OverlappedClips(), AlignedClips(), AlignedClips(text_tokens=None, first=True), MILNCEClips()]


@pytest.fixture(scope="module")
def golden(shared, tmp_path_factory):
    """The golden videos as a corpus and as they are, and the folder of the original's draws."""
    folder = shared / "golden" / "sampling"
    records = json.loads((folder / "inputs.json").read_text())["videos"]
    videos = [Video(**{name: record[name] for name in Video.__dataclass_fields__}) for record in records]
    return write_corpus(tmp_path_factory.mktemp("sampling") / "corpus", videos), videos, folder


@pytest.mark.parametrize("name", ["overlapped", "varied", "fixed", "start"])
def test_rows_equal_golden(golden, name):
    corpus, videos, folder = golden
    expected = np.load(folder / f"{name}.npz", allow_pickle=False)
    for k in range(len(videos)):
        places = (expected[f"v{k}_{part}"] for part in ("video_start", "video_end", "text_start", "text_end"))
        batch = pack(corpus, k, Clips(*places), CONFIG)
        frames = expected[f"v{k}_frame_index"]
        np.testing.assert_array_equal(batch.video_lengths, expected[f"v{k}_vmasks"].sum(axis=1))
        np.testing.assert_array_equal(batch.features[:, 0], frames[frames >= 0])
        # the original's rows carry the video's [SEP] at slot 1
        used = expected[f"v{k}_cmasks"] & (np.arange(expected[f"v{k}_caps"].shape[1]) != 1)
        np.testing.assert_array_equal(batch.ids, expected[f"v{k}_caps"][used])
        np.testing.assert_array_equal(batch.text_lengths, used.sum(axis=1))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(narrated(), min_size=1, max_size=3), st.sampled_from(SAMPLERS), st.booleans(), st.integers(0, 2**32 - 1)
)
def test_pack_is_the_loop_over_clips(tmp_path_factory, videos, sampler, separate, seed):
    corpus = write_corpus(tmp_path_factory.mktemp("some") / "corpus", videos)
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(videos), size=3)
    clips = sampler.sample(corpus, chosen, 2, rng)
    limits = VideoCLIPConfig(max_video_tokens=7, max_text_tokens=9, cls_token_id=1001, sep_token_id=1002)
    batch = pack(corpus, chosen, clips, limits, separate)
    seconds, rows, owner = [], [], []
    for b, (v, start, end, first, last) in enumerate(zip(np.repeat(chosen, 2), *clips, strict=True)):
        seconds.append(corpus.features(v)[start : min(end, start + 7)])
        for captions in [[c] for c in range(first, last)] if separate else [range(first, last)]:
            rows.append([1001, *[i for c in captions for i in videos[v].cap[c]][:9], 1002])
            owner.append(b)
    np.testing.assert_array_equal(batch.features, np.concatenate(seconds))
    np.testing.assert_array_equal(batch.video_lengths, [len(s) for s in seconds])
    np.testing.assert_array_equal(batch.ids, np.concatenate(rows))
    np.testing.assert_array_equal(batch.text_lengths, [len(r) for r in rows])
    np.testing.assert_array_equal(np.arange(6) if batch.owner is None else batch.owner, owner)
    assert (batch.owner is not None) == separate
    assert batch.features.dtype == np.float16 and batch.ids.dtype == np.int64


def test_mil_nce_candidates_are_rows_of_their_own(golden):
    corpus, videos, _ = golden
    clips = MILNCEClips(candidates=3).sample(corpus, np.array([3, 1]), 2, np.random.default_rng(0))
    batch = pack(corpus, np.array([3, 1]), clips, CONFIG, separate_captions=True)
    # video 3 has a single caption
    np.testing.assert_array_equal(batch.owner, [0, 1, 2, 2, 2, 3, 3, 3])
    np.testing.assert_array_equal(batch.text_lengths[:2], [len(videos[3].cap[0]) + 2] * 2)


def test_text_behind_the_features_has_a_clip_without_seconds(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", [Video([50.0], [52.0], [[7, 8]], 10)])
    clips = AlignedClips().sample(corpus, 0, 3, np.random.default_rng(0))
    assert pack(corpus, 0, clips, CONFIG).video_lengths.tolist() == [0, 0, 0]


def test_a_tokenized_caption_becomes_its_row(tmp_path):
    video = "a", np.ones((4, 2), np.float32), Captions([0.0], [2.0], ["w1 w2"])
    corpus = Corpus.create(tmp_path / "corpus", spec(dim=2), [video]).tokenize(tokenizer())
    batch = pack(corpus, 0, OverlappedClips().sample(corpus, 0, 1, np.random.default_rng(0)), CONFIG)
    assert batch.ids.tolist() == [101, 105, 106, 102]


def test_a_batch_of_512_is_gathered_in_one_call(tmp_path, monkeypatch):
    corpus, videos, calls = make(tmp_path / "corpus", 32), np.arange(32), Counter()
    gather = Corpus.gather_features
    monkeypatch.setattr(Corpus, "gather_features", lambda *args: calls.update(["gather"]) or gather(*args))
    pack(corpus, videos, OverlappedClips().sample(corpus, videos, 16, np.random.default_rng(0)), CONFIG)
    assert calls["gather"] == 1
