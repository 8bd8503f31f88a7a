"""Pairs of a video clip and a text clip, drawn for a whole batch at once: V videos, n clips of each, B = V * n."""

from typing import Annotated, NamedTuple

import numpy as np
from jaxtyping import Int
from pydantic import AfterValidator, NonNegativeFloat, PositiveInt
from pydantic.dataclasses import dataclass

from vclip.data.corpus import Corpus
from vclip.data.text import Settings, in_order

Videos = int | np.integer | Int[np.ndarray, " V"]
PerClip = Int[np.ndarray, " B"]
Range = Annotated[tuple[PositiveInt, PositiveInt], AfterValidator(in_order)]
MAX_SPAN = 256.0  # seconds: a text clip this long grows no further (how2processor.py:667)


class Clips(NamedTuple):
    """B pairs, video-major: seconds `video_start`:`video_end` and captions `caption_first`:`caption_last` of a video.

    Captions are counted from the video's first. Lengths are those drawn: `pack` cuts them to the model's limits.

    Example:
        >>> Clips(np.array([3]), np.array([9]), np.array([0]), np.array([2])).video_end
        array([9])
    """

    video_start: PerClip
    video_end: PerClip
    caption_first: PerClip
    caption_last: PerClip


@dataclass(frozen=True)
class OverlappedClips(metaclass=Settings):
    """Text and video clips that overlap in time but start and end freely (section 3.3; how2processor.py:306-358).

    A text clip grows from a caption drawn uniformly, one whole neighbour at a time on a random side, until it has a
    number of tokens drawn from `text_tokens`, spans 256 s or has no neighbour left. A second of its span is drawn, from
    which a video clip of a length drawn from `video_seconds` grows, a second at a time on a random side; that second
    may end up just outside, so overlap is usual (99.9 %), not certain.

    Args:
        video_seconds: shortest and longest video clip, both included.
        text_tokens: fewest and most tokens of a text clip, both included; None: always `max_text_tokens`.
        max_text_tokens: tokens of the longest text that the model reads.

    Example:
        >>> import vclip
        >>> corpus = vclip.Corpus.open(vclip.minihowto() / "val")
        >>> OverlappedClips().sample(corpus, videos=np.array([0, 1]), n=4, rng=np.random.default_rng(0)).video_end.shape
        (8,)
    """

    video_seconds: Range = (3, 32)
    text_tokens: Range | None = (8, 64)
    max_text_tokens: PositiveInt = 61

    def sample(self, corpus: Corpus, videos: Videos, n: int, rng: np.random.Generator) -> Clips:
        """Draw `n` clips of each video; equal generators give equal clips."""
        video, begin, centre = _draw(corpus, videos, n, rng)
        first, last, low, high = _text_clips(self, corpus, video, centre, rng)
        middle = rng.integers(low, np.maximum(low, high), endpoint=True)
        # disordered captions can end before they start
        middle = np.where(low < high, middle, (low + high) // 2)
        total = corpus.seconds[video]
        length = np.minimum(rng.integers(*self.video_seconds, size=len(video), endpoint=True), total)
        start = _grow_video(np.clip(middle, 0, total - 1), length, total, rng)
        return Clips(start, start + length, first - begin, last - begin)


@dataclass(frozen=True)
class AlignedClips(metaclass=Settings):
    """Text clips as in `OverlappedClips`, each with exactly the seconds it spans, if any (how2processor.py:216-289).

    Args:
        text_tokens, max_text_tokens: as in `OverlappedClips`.
        first: every text clip grows from the video's first caption. `AlignedClips(text_tokens=None, first=True)` is
            the paper's "first 32 sec for retrieval" (Table 7).

    Example:
        >>> import vclip
        >>> corpus = vclip.Corpus.open(vclip.minihowto() / "val")
        >>> AlignedClips(first=True).sample(corpus, videos=0, n=1, rng=np.random.default_rng(0)).caption_first
        array([0])
    """

    text_tokens: Range | None = (8, 64)
    max_text_tokens: PositiveInt = 61
    first: bool = False

    def sample(self, corpus: Corpus, videos: Videos, n: int, rng: np.random.Generator) -> Clips:
        """As `OverlappedClips.sample`."""
        video, begin, centre = _draw(corpus, videos, n, None if self.first else rng)
        first, last, low, high = _text_clips(self, corpus, video, centre, rng)
        end = np.clip(high, 0, corpus.seconds[video])
        return Clips(np.clip(low, 0, end), end, first - begin, last - begin)


@dataclass(frozen=True)
class MILNCEClips(metaclass=Settings):
    """Short clips, each with the captions nearest in time as candidates (Miech et al. 2020; how2processor.py:762-850).

    A caption drawn uniformly is joined by neighbours, each time the one that keeps the range shorter in time; every
    caption is a text of its own. The video clip starts at a second drawn from the drawn caption's span.

    Args:
        candidates: captions of a clip; a video with fewer gives all it has.
        video_seconds: seconds of the video clip (the original's 3.2 s are 3 features).
        min_span: seconds to which a shorter span is widened about its middle.

    Example:
        >>> import vclip
        >>> corpus = vclip.Corpus.open(vclip.minihowto() / "val")
        >>> clips = MILNCEClips().sample(corpus, videos=0, n=2, rng=np.random.default_rng(0))
        >>> (clips.caption_last - clips.caption_first).tolist()
        [4, 4]
    """

    candidates: PositiveInt = 4
    video_seconds: PositiveInt = 3
    min_span: NonNegativeFloat = 5.0

    def sample(self, corpus: Corpus, videos: Videos, n: int, rng: np.random.Generator) -> Clips:
        """As `OverlappedClips.sample`."""
        video, begin, centre = _draw(corpus, videos, n, rng)
        first, last = _nearest_captions(corpus, video, centre, self.candidates)
        start, end = corpus.caption_start[centre], corpus.caption_end[centre]
        missing = np.maximum(self.min_span - (end - start), 0)
        start = np.where(missing > 0, np.maximum(start - missing / 2, 0), start)
        end = np.where(missing > 0, start + self.min_span, end)
        low, high = np.floor(start).astype(np.int64), np.floor(end).astype(np.int64) - self.video_seconds
        second = rng.integers(low, np.maximum(low, high), endpoint=True)
        length = np.minimum(self.video_seconds, corpus.seconds[video])
        second = np.clip(second, 0, corpus.seconds[video] - length)
        return Clips(second, second + length, first - begin, last - begin)


def _draw(corpus: Corpus, videos: Videos, n: int, rng: np.random.Generator | None) -> tuple[PerClip, PerClip, PerClip]:
    """Each clip's video, that video's first caption, and one drawn by `rng`, else the first: in corpus-wide numbers."""
    given = np.atleast_1d(videos)
    if len(outside := given[(given < 0) | (given >= len(corpus))]):
        raise IndexError(f"video {outside[0]} is outside the corpus, which has videos 0 to {len(corpus) - 1}")
    if len(silent := given[corpus.caption_offsets[given] == corpus.caption_offsets[given + 1]]):
        name, n = corpus.video_ids[silent[0]], len(np.unique(silent))
        raise ValueError(f"video {name!r} has no captions to draw clips from (nor have {n - 1} others): leave them out")
    video = np.repeat(given.astype(np.int64), n)
    begin = corpus.caption_offsets[video]
    return video, begin, begin if rng is None else rng.integers(begin, corpus.caption_offsets[video + 1])


def _text_clips(
    sampler: OverlappedClips | AlignedClips, corpus: Corpus, video: PerClip, centre: PerClip, rng: np.random.Generator
) -> tuple[PerClip, PerClip, PerClip, PerClip]:
    """Text clips grown from `centre`: captions in corpus-wide numbers, and the whole seconds they span."""
    target = np.full(len(video), sampler.max_text_tokens)
    if sampler.text_tokens is not None:
        target = rng.integers(*sampler.text_tokens, size=len(video), endpoint=True)
    begin, end = corpus.caption_offsets[video], corpus.caption_offsets[video + 1]
    first, last = centre.copy(), centre + 1
    growing = np.arange(len(video))
    while len(growing):  # each step adds a caption to every clip that still grows
        f, e = first[growing], last[growing]
        previous, following = f > begin[growing], e < end[growing]
        tokens = corpus.token_offsets[e] - corpus.token_offsets[f]
        span = corpus.caption_end[e - 1] - corpus.caption_start[f]
        more = (previous | following) & (tokens < target[growing]) & (span < MAX_SPAN)
        growing, previous, following = growing[more], previous[more], following[more]
        right = following & ((rng.random(len(growing)) > 0.5) | ~previous)
        first[growing] -= ~right
        last[growing] += right
    low, high = np.floor(corpus.caption_start[first]), np.ceil(corpus.caption_end[last - 1])
    return first, last, low.astype(np.int64), high.astype(np.int64)


def _grow_video(centre: PerClip, length: PerClip, total: PerClip, rng: np.random.Generator) -> PerClip:
    """Start of clips grown from `centre` within `total` by fair tosses: centre - Binomial(length, 1/2), clipped."""
    # the original stops tossing at an end, where only the other side grows: the same (how2processor.py:738-759)
    return np.clip(centre - rng.binomial(length, 0.5), 0, total - length)


def _nearest_captions(corpus: Corpus, video: PerClip, centre: PerClip, count: int) -> tuple[PerClip, PerClip]:
    """Ranges of up to `count` captions about `centre`, in corpus-wide numbers."""
    begin, end = corpus.caption_offsets[video], corpus.caption_offsets[video + 1]
    first, last = centre.copy(), centre + 1
    for _ in range(count - 1):
        previous, following = first > begin, last < end
        span_back = corpus.caption_end[last - 1] - corpus.caption_start[np.maximum(first - 1, begin)]
        span_ahead = corpus.caption_end[np.minimum(last, end - 1)] - corpus.caption_start[first]
        back = previous & ((span_back < span_ahead) | ~following)
        first -= back
        last += following & ~back
    return first, last


def ranges(starts: Int[np.ndarray, " M"], lengths: Int[np.ndarray, " M"]) -> Int[np.ndarray, " S"]:
    """Ranges of `lengths` numbers from `starts` on, laid end to end."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())
