"""Golden draws by a plain loop in the original's order of random numbers; the vectorised samplers against that loop."""

import json
import math
import random
from collections import Counter
from dataclasses import dataclass
from itertools import product

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vclip.data.captions import Captions
from vclip.data.corpus import Corpus
from vclip.data.samplers import AlignedClips, Clips, MILNCEClips, OverlappedClips, _grow_text, _grow_video
from vclip.training.batches import pack

from corpora import make, spec, tokenizer

OVERLAPPED, ALIGNED = OverlappedClips(), AlignedClips()
FIXED, START = AlignedClips(text_tokens=None), AlignedClips(text_tokens=None, first=True)
ALL = [OVERLAPPED, ALIGNED, FIXED, START, MILNCEClips()]
GOLDEN = {"overlapped": OVERLAPPED, "varied": ALIGNED, "fixed": FIXED, "start": START}


@dataclass
class Video:
    start: list[float]
    end: list[float]
    cap: list[list[int]]
    n_frames: int


def write_corpus(path, videos: list[Video]) -> Corpus:
    """A corpus with these very word pieces; second t of every video has the feature (t, t / 2)."""
    rows = [np.stack([np.arange(v.n_frames), np.arange(v.n_frames) / 2], axis=1) for v in videos]
    captions = [Captions(v.start, v.end, ["text"] * len(v.start)) for v in videos]
    ids = [f"video {k}" for k in range(len(videos))]
    Corpus.create(path, spec(dim=2), zip(ids, rows, captions, strict=True))
    table = pq.read_table(path / "captions.parquet")
    pieces = pa.array([cap for v in videos for cap in v.cap], pa.list_(pa.int32()))
    pq.write_table(table.append_column("input_ids", pieces), path / "captions.parquet")
    return Corpus.open(path)


def grow_text(video: Video, centre: int, target: int, coin, skip=lambda: None) -> tuple[int, int]:
    """A caption at a time; `skip` is a random number that the original draws and does not use."""
    first = last = centre
    tokens = len(video.cap[centre])
    while (first > 0 or last + 1 < len(video.cap)) and tokens < target and video.end[last] - video.start[first] < 256:
        right = coin() > 0.5
        if last + 1 < len(video.cap) and (right or first == 0):
            last += 1
            tokens += len(video.cap[last])
        else:
            first -= 1
            tokens += len(video.cap[first])
        skip()
    return first, last + 1


def grow_video(centre: int, length: int, total: int, coin) -> tuple[int, int]:
    start = end = centre
    while end - start < min(length, total):
        if start <= 0:
            end += 1
        elif end >= total:
            start -= 1
        elif coin() > 0.5:
            end += 1
        else:
            start -= 1
    return start, end


def draw(sampler, video: Video) -> tuple[int, int, int, int]:
    """One clip by the global `random`, in the original's order."""
    centre = random.randint(0, len(video.cap) - 1)
    target = sampler.max_text_tokens if sampler.text_tokens is None else random.randint(*sampler.text_tokens)
    if getattr(sampler, "first", False):
        centre = 0
    first, last = grow_text(video, centre, target, random.random, random.random)
    low, high, total = math.floor(video.start[first]), math.ceil(video.end[last - 1]), video.n_frames
    if isinstance(sampler, AlignedClips):
        end = min(high, total)
        return max(min(low, end), 0), end, first, last
    middle = random.randint(low, high) if low < high else (low + high) // 2
    length = random.randint(*sampler.video_seconds)
    return *grow_video(min(max(middle, 0), total - 1), length, total, random.random), first, last


@pytest.fixture(scope="module")
def golden(shared):
    return shared / "golden" / "sampling"


@pytest.fixture(scope="module")
def inputs(golden):
    records = json.loads((golden / "inputs.json").read_text())["videos"]
    names = Video.__dataclass_fields__
    return [Video(**{k: r[k] for k in names}) for r in records], [r["python_random_seed"] for r in records]


@pytest.fixture(scope="module")
def corpus(inputs, tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("sampling") / "corpus", inputs[0])


@pytest.mark.parametrize("name", GOLDEN)
def test_loop_in_original_order_and_pack_equal_golden(name, golden, inputs, corpus):
    expected = np.load(golden / f"{name}.npz", allow_pickle=False)
    for k, (video, seed) in enumerate(zip(*inputs, strict=True)):
        random.seed(seed)
        want = {part: expected[f"v{k}_{part}"] for part in ("video_start", "video_end", "text_start", "text_end")}
        drawn = [draw(GOLDEN[name], video) for _ in want["video_start"]]
        np.testing.assert_array_equal(drawn, np.stack(list(want.values()), axis=1))

        clips = Clips(*want.values())
        batch = pack(corpus, k, clips)
        frames = expected[f"v{k}_frame_index"]
        np.testing.assert_array_equal(batch.seconds, expected[f"v{k}_vmasks"].sum(axis=1))
        np.testing.assert_array_equal(batch.features[:, 0], frames[frames >= 0])
        # the original's rows carry the video's [SEP] at slot 1
        used = expected[f"v{k}_cmasks"] & (np.arange(expected[f"v{k}_caps"].shape[1]) != 1)
        np.testing.assert_array_equal(batch.ids, expected[f"v{k}_caps"][used])
        np.testing.assert_array_equal(batch.pieces, used.sum(axis=1))


def test_primitive_loops_equal_golden(golden, inputs):
    cases = json.loads((golden / "samplers.json").read_text())
    for case in cases["text"]:
        random.seed(case["seed"])
        target = 61 if case["max_text_len"] is None else case["max_text_len"]
        grown = grow_text(inputs[0][case["video"]], case["center"], target, random.random, random.random)
        assert (list(range(*grown)), random.random()) == (case["indices"], case["next_random"])
    for case in cases["video"]:
        random.seed(case["seed"])
        grown = grow_video(case["center"], case["max_len"], case["n"], random.random)
        assert (grown, random.random()) == ((case["start"], case["end"]), case["next_random"])


def columns(corpus, k: int, clips: Clips) -> np.ndarray:
    """The columns of stats.json for clips of video k."""
    batch, at = pack(corpus, k, clips), corpus.caption_offsets[k]
    start, end = clips.video_start, clips.video_start + batch.seconds
    overlap = (corpus.caption_start[at + clips.caption_first] < end) & (
        corpus.caption_end[at + clips.caption_last - 1] > start
    )
    return np.stack(
        [start, clips.video_end, batch.seconds, batch.pieces - 2, clips.caption_first, clips.caption_last, overlap]
    )


@pytest.mark.parametrize("name", ["overlapped", "varied"])
@pytest.mark.parametrize("k", [0, 3, 4, 7])
def test_statistics_equal_golden(name, k, golden, corpus):
    want = json.loads((golden / "stats.json").read_text())[f"{name}_v{k}"]
    n = want["n"]
    ours = columns(corpus, k, GOLDEN[name].sample(corpus, k, n, np.random.default_rng(k)))
    error = np.sqrt((ours.var(axis=1) + np.square(want["std"])) / n)
    for column, a, b, e in zip(want["columns"], ours.mean(axis=1), want["mean"], error, strict=True):
        assert abs(a - b) <= 4 * e + 1e-9, column
    histogram = np.bincount(ours[2].astype(int), minlength=33)
    check_same_distribution(dict(enumerate(histogram)), dict(enumerate(want["n_video_tokens_hist"])))


def check_same_distribution(a: dict, b: dict) -> None:
    """Chi-square of two samples of one size, outcomes seen less than 20 times together; 4 standard deviations."""
    assert sum(a.values()) == sum(b.values())
    pairs = np.array([[a.get(k, 0), b.get(k, 0)] for k in a.keys() | b.keys()], dtype=float)
    rare = pairs.sum(axis=1) < 20
    pairs = np.concatenate([pairs[~rare], pairs[rare].sum(axis=0, keepdims=True)])
    pairs = pairs[pairs.sum(axis=1) > 0]
    freedom = len(pairs) - 1
    assert (np.square(np.diff(pairs, axis=1)[:, 0]) / pairs.sum(axis=1)).sum() <= freedom + 4 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("sampler", [OVERLAPPED, ALIGNED, FIXED, START], ids=GOLDEN)
def test_whole_batch_is_distributed_as_the_loop(sampler, inputs, corpus):
    n = 2000
    clips = np.stack(sampler.sample(corpus, np.arange(len(corpus)), n, np.random.default_rng(5)), axis=1)
    random.seed(5)
    for video, ours in zip(inputs[0], clips.reshape(len(corpus), n, 4), strict=True):
        loop = np.array([draw(sampler, video) for _ in range(n)])
        # coarse enough that outcomes repeat, yet joint: dependence between the columns counts
        length, coarse = max(video.n_frames // 8, 1), max(len(video.cap) // 5, 1)
        bins = (length, length, coarse, coarse)
        check_same_distribution(*(Counter(map(tuple, (x // bins).tolist())) for x in (ours, loop)))


def test_odd_times_are_distributed_as_the_loop(tmp_path):
    """A caption that ends before it starts, captions far behind the features, a video shorter than any clip."""
    words = [[1, 2], [3]]
    videos = [
        Video([9.0], [4.0], words[:1], 20),
        Video([40.0, 41.5], [41.0, 44.0], words, 9),
        Video([0.5, 0.2], [0.6, 1.0], words, 2),
    ]
    corpus, sampler, n = write_corpus(tmp_path / "corpus", videos), OverlappedClips((3, 4), (1, 4)), 4000
    clips = np.stack(sampler.sample(corpus, np.arange(3), n, np.random.default_rng(6)), axis=1).reshape(3, n, 4)
    random.seed(6)
    for video, ours in zip(videos, clips.tolist(), strict=True):
        check_same_distribution(Counter(map(tuple, ours)), Counter(draw(sampler, video) for _ in range(n)))


@st.composite
def narrated(draw_from):
    n = draw_from(st.integers(1, 12))
    times = st.lists(st.floats(0, 600, width=32), min_size=n, max_size=n)
    cap = [list(range(draw_from(st.integers(0, 20)))) for _ in range(n)]
    return Video(draw_from(times), draw_from(times), cap, draw_from(st.integers(1, 60)))


@settings(max_examples=60, deadline=None)
@given(narrated(), st.integers(1, 64), st.integers(0, 2**32 - 1))
def test_one_growing_text_clip_is_the_loop_draw_by_draw(tmp_path_factory, video, target, seed):
    corpus = write_corpus(tmp_path_factory.mktemp("one") / "corpus", [video])
    for centre in range(len(video.cap)):
        arrays = [np.array([x]) for x in (0, centre, target)]
        first, last = _grow_text(corpus, *arrays, np.random.default_rng(seed))
        assert (first[0], last[0]) == grow_text(video, centre, target, np.random.default_rng(seed).random)


def test_closed_form_of_video_growth_is_the_loop_for_every_coin():
    class Known(np.random.Generator):
        """Its binomial draws are given."""

        def binomial(self, n, p):
            assert p == 0.5
            return lefts

    for total in range(1, 8):
        for length, centre in product(range(1, total + 1), range(total)):
            tosses = list(product((0.25, 0.75), repeat=length))
            lefts = np.array([coins.count(0.25) for coins in tosses])
            loop = [grow_video(centre, length, total, iter(coins).__next__) for coins in tosses]
            arrays = (np.full(len(tosses), x) for x in (centre, length, total))
            start = _grow_video(*arrays, Known(np.random.PCG64(0)))
            np.testing.assert_array_equal(loop, np.stack([start, start + length], axis=1))


@settings(max_examples=30, deadline=None)
@given(st.lists(narrated(), min_size=1, max_size=3), st.sampled_from(ALL), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_clips_lie_in_their_video_and_repeat_with_the_generator(tmp_path_factory, videos, sampler, n, seed):
    corpus = write_corpus(tmp_path_factory.mktemp("some") / "corpus", videos)
    chosen = np.random.default_rng(seed).integers(len(videos), size=4)
    clips = sampler.sample(corpus, chosen, n, np.random.default_rng(seed))
    video = np.repeat(chosen, n)
    captions = np.diff(corpus.caption_offsets)[video]
    assert all(column.dtype == np.int64 and column.shape == (4 * n,) for column in clips)
    assert ((clips.video_start >= 0) & (clips.video_end <= corpus.seconds[video])).all()
    assert ((clips.caption_first >= 0) & (clips.caption_last <= captions)).all()
    assert (clips.caption_first < clips.caption_last).all()
    length = clips.video_end - clips.video_start
    if isinstance(sampler, AlignedClips):
        assert (length >= 0).all()
    elif isinstance(sampler, OverlappedClips):
        assert ((length >= np.minimum(3, corpus.seconds[video])) & (length <= 32)).all()
    else:
        assert (length == np.minimum(3, corpus.seconds[video])).all()
        assert (clips.caption_last - clips.caption_first == np.minimum(4, captions)).all()
    again = sampler.sample(corpus, chosen, n, np.random.default_rng(seed))
    np.testing.assert_array_equal(again, clips)


@settings(max_examples=30, deadline=None)
@given(st.lists(narrated(), min_size=1, max_size=3), st.sampled_from(ALL), st.booleans(), st.integers(0, 2**32 - 1))
def test_pack_is_the_loop_over_clips(tmp_path_factory, videos, sampler, separate, seed):
    corpus = write_corpus(tmp_path_factory.mktemp("some") / "corpus", videos)
    rng = np.random.default_rng(seed)
    chosen = rng.integers(len(videos), size=3)
    clips = sampler.sample(corpus, chosen, 2, rng)
    limits = {"max_video_tokens": 7, "max_text_tokens": 9, "cls_token_id": 1001, "sep_token_id": 1002}
    batch = pack(corpus, chosen, clips, **limits, separate_captions=separate)
    seconds, rows, owner = [], [], []
    for b, (v, start, end, first, last) in enumerate(zip(np.repeat(chosen, 2), *clips, strict=True)):
        seconds.append(corpus.features(v)[start : min(end, start + 7)])
        for captions in [[c] for c in range(first, last)] if separate else [range(first, last)]:
            rows.append([1001, *[i for c in captions for i in videos[v].cap[c]][:9], 1002])
            owner.append(b)
    np.testing.assert_array_equal(batch.features, np.concatenate(seconds))
    np.testing.assert_array_equal(batch.seconds, [len(s) for s in seconds])
    np.testing.assert_array_equal(batch.ids, np.concatenate(rows))
    np.testing.assert_array_equal(batch.pieces, [len(r) for r in rows])
    np.testing.assert_array_equal(np.arange(6) if batch.owner is None else batch.owner, owner)
    assert (batch.owner is not None) == separate
    assert batch.features.dtype == np.float16 and batch.ids.dtype == np.int64


def nearest_captions(video: Video, centre: int, count: int) -> tuple[int, int]:
    first, last = centre, centre
    while last - first + 1 < min(count, len(video.cap)):
        can_back, can_ahead = first > 0, last + 1 < len(video.cap)
        if can_back and can_ahead:
            can_back = video.end[last] - video.start[first - 1] < video.end[last + 1] - video.start[first]
        first, last = (first - 1, last) if can_back else (first, last + 1)
    return first, last + 1


def test_mil_nce_clips_are_the_loop(inputs, corpus):
    """Every clip is a possible one, and every possible one occurs about as often as it should."""
    sampler, n = MILNCEClips(), 20_000
    for k, video in enumerate(inputs[0]):
        possible = Counter()
        for centre in range(len(video.cap)):
            start, end = video.start[centre], video.end[centre]
            if end - start < 5:
                start = max(start - (5 - (end - start)) / 2, 0)
                end = start + 5
            seconds = range(math.floor(start), max(math.floor(end) - 3, math.floor(start)) + 1)
            for second in seconds:
                length = min(3, video.n_frames)
                second = min(max(second, 0), video.n_frames - length)
                key = (second, second + length, *nearest_captions(video, centre, 4))
                possible[key] += 1 / len(video.cap) / len(seconds)
        clips = sampler.sample(corpus, k, n, np.random.default_rng(k))
        seen = Counter(zip(*(column.tolist() for column in clips), strict=True))
        assert seen.keys() <= possible.keys()
        expected = np.array([n * p for p in possible.values()])
        counts = np.array([seen[key] for key in possible])
        freedom = max(len(expected) - 1, 1)
        assert (np.square(counts - expected) / expected).sum() <= freedom + 4 * math.sqrt(2 * freedom)


def test_mil_nce_candidates_are_rows_of_their_own(inputs, corpus):
    clips = MILNCEClips(candidates=3).sample(corpus, np.array([3, 1]), 2, np.random.default_rng(0))
    batch = pack(corpus, np.array([3, 1]), clips, separate_captions=True)
    # video 3 has a single caption
    np.testing.assert_array_equal(batch.owner, [0, 1, 2, 2, 2, 3, 3, 3])
    np.testing.assert_array_equal(batch.pieces[:2], [len(inputs[0][3].cap[0]) + 2] * 2)


def test_text_far_behind_the_features(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", [Video([50.0], [52.0], [[7, 8]], 10)])
    aligned = ALIGNED.sample(corpus, 0, 3, np.random.default_rng(0))
    assert pack(corpus, 0, aligned).seconds.tolist() == [0, 0, 0]
    overlapped = OVERLAPPED.sample(corpus, 0, 500, np.random.default_rng(0))
    # the centre is second 9, and half a clip's growth goes to the front until the end is reached
    assert overlapped.video_end.max() == 10 and overlapped.video_end.min() >= 9


def test_bad_requests_say_what_is_wrong(tmp_path):
    plain = Video([0.0], [1.0], [[5]], 4)
    corpus = write_corpus(tmp_path / "corpus", [plain, Video([], [], [], 4), plain])
    rng = np.random.default_rng(0)
    for sampler in ALL:
        with pytest.raises(ValueError, match="'video 1' has no captions"):
            sampler.sample(corpus, np.array([0, 1, 2]), 2, rng)
        for outside in (-1, 3):
            with pytest.raises(IndexError, match=f"video {outside} .* 0 to 2"):
                sampler.sample(corpus, outside, 2, rng)
    with pytest.raises(ValueError, match="5 clips .* 2 videos"):
        pack(corpus, np.array([0, 2]), OVERLAPPED.sample(corpus, 0, 5, rng))
    with pytest.raises(ValueError, match="video_seconds"):
        OverlappedClips(video_seconds=(5, 4))
    with pytest.raises(ValueError, match="text_tokens"):
        AlignedClips(text_tokens=(0, 4))
    with pytest.raises(ValueError, match="candidate"):
        MILNCEClips(candidates=0)


def test_a_corpus_without_word_pieces_says_how_to_get_them(tmp_path):
    captions = Captions([0.0], [2.0], ["w1 w2"])
    corpus = Corpus.create(tmp_path / "corpus", spec(dim=2), [("a", np.ones((4, 2), np.float32), captions)])
    with pytest.raises(ValueError, match="tokenize"):
        OVERLAPPED.sample(corpus, 0, 1, np.random.default_rng(0))
    corpus.tokenize(tokenizer())
    batch = pack(corpus, 0, OVERLAPPED.sample(corpus, 0, 1, np.random.default_rng(0)))
    assert batch.ids.tolist() == [101, 105, 106, 102]


def test_a_batch_of_512_costs_a_few_calls(tmp_path, monkeypatch):
    """The gather is one call for all clips, and growth takes as many draws as its longest clip."""
    corpus = make(tmp_path / "corpus", 32)
    calls = Counter()
    gather = Corpus.gather_features
    monkeypatch.setattr(Corpus, "gather_features", lambda *args: calls.update(["gather"]) or gather(*args))

    class Generator(np.random.Generator):
        def random(self, *args, **kwargs):
            calls.update(["random"])
            return super().random(*args, **kwargs)

    videos = np.arange(32)
    clips = OVERLAPPED.sample(corpus, videos, 16, Generator(np.random.PCG64(0)))
    pack(corpus, videos, clips)
    assert calls["gather"] == 1
    assert calls["random"] == (clips.caption_last - clips.caption_first).max() - 1
