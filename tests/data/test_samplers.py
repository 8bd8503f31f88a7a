"""Golden draws by a plain loop in the original's order of random numbers; the vectorised samplers against that loop."""

import json
import math
import random
from collections import Counter
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vclip.data.captions import Captions
from vclip.data.corpus import Corpus
from vclip.data.samplers import AlignedClips, Clips, MILNCEClips, OverlappedClips, _grow_video, _text_clips

from corpora import Video, make, narrated, spec, tokenizer, write_corpus

OVERLAPPED, ALIGNED = OverlappedClips(), AlignedClips()
FIXED, START = AlignedClips(text_tokens=None), AlignedClips(text_tokens=None, first=True)
ALL = [OVERLAPPED, ALIGNED, FIXED, START, MILNCEClips()]
GOLDEN = {"overlapped": OVERLAPPED, "varied": ALIGNED, "fixed": FIXED, "start": START}


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
def test_loop_in_original_order_equals_golden(name, golden, inputs, corpus):
    expected = np.load(golden / f"{name}.npz", allow_pickle=False)
    for k, (video, seed) in enumerate(zip(*inputs, strict=True)):
        random.seed(seed)
        want = {part: expected[f"v{k}_{part}"] for part in ("video_start", "video_end", "text_start", "text_end")}
        drawn = [draw(GOLDEN[name], video) for _ in want["video_start"]]
        np.testing.assert_array_equal(drawn, np.stack(list(want.values()), axis=1))


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
    at = corpus.caption_offsets[k]
    start, end = clips.video_start, np.minimum(clips.video_end, clips.video_start + 32)
    tokens = np.diff(corpus.token_offsets[at + np.stack([clips.caption_first, clips.caption_last])], axis=0)[0]
    overlap = (corpus.caption_start[at + clips.caption_first] < end) & (
        corpus.caption_end[at + clips.caption_last - 1] > start
    )
    return np.stack(
        [start, clips.video_end, end - start, np.minimum(tokens, 61), clips.caption_first, clips.caption_last, overlap]
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


@settings(max_examples=60, deadline=None)
@given(narrated(), st.integers(1, 64), st.integers(0, 2**32 - 1))
def test_one_growing_text_clip_is_the_loop_draw_by_draw(tmp_path_factory, video, target, seed):
    corpus = write_corpus(tmp_path_factory.mktemp("one") / "corpus", [video])
    sampler = OverlappedClips(text_tokens=None, max_text_tokens=target)
    for centre in range(len(video.cap)):
        arrays = [np.array([x]) for x in (0, centre)]
        first, last, *_ = _text_clips(sampler, corpus, *arrays, np.random.default_rng(seed))
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


def test_text_far_behind_the_features(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", [Video([50.0], [52.0], [[7, 8]], 10)])
    aligned = ALIGNED.sample(corpus, 0, 3, np.random.default_rng(0))
    assert (aligned.video_end - aligned.video_start).tolist() == [0, 0, 0]
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


def test_a_corpus_without_word_pieces_says_how_to_get_them(tmp_path):
    captions = Captions([0.0], [2.0], ["w1 w2"])
    corpus = Corpus.create(tmp_path / "corpus", spec(dim=2), [("a", np.ones((4, 2), np.float32), captions)])
    with pytest.raises(ValueError, match="tokenize"):
        OVERLAPPED.sample(corpus, 0, 1, np.random.default_rng(0))
    corpus.tokenize(tokenizer())
    assert OVERLAPPED.sample(corpus, 0, 1, np.random.default_rng(0)).caption_last.tolist() == [1]


def test_a_batch_of_512_costs_a_few_calls(tmp_path):
    """Growth takes as many draws as its longest clip has captions: the last is empty."""
    corpus = make(tmp_path / "corpus", 32)
    calls = Counter()

    class Generator(np.random.Generator):
        def random(self, *args, **kwargs):
            calls.update(["random"])
            return super().random(*args, **kwargs)

    clips = OVERLAPPED.sample(corpus, np.arange(32), 16, Generator(np.random.PCG64(0)))
    assert calls["random"] == (clips.caption_last - clips.caption_first).max()


@pytest.mark.parametrize(
    ("sampler", "values"),
    [
        (OverlappedClips, {"video_seconds": (0, 3)}), (OverlappedClips, {"video_seconds": (3,)}),
        (OverlappedClips, {"text_tokens": (-2, 5)}), (AlignedClips, {"max_text_tokens": 0}),
        (MILNCEClips, {"candidates": 0}), (MILNCEClips, {"video_seconds": 0}), (MILNCEClips, {"min_span": math.nan}),
    ],
)  # fmt: skip
def test_lengths_that_no_clip_has_are_refused(sampler, values):
    with pytest.raises(ValueError, match=next(iter(values))):
        sampler(**values)
