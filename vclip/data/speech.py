"""Captions by speech recognition, for videos that have none. It needs the extra `speech`."""

import os
from fractions import Fraction
from functools import lru_cache
from itertools import chain

import av
import numpy as np
from jaxtyping import Float32

from vclip.data.captions import Captions, from_rows
from vclip.data.video import LONGEST_GAP, decode, open_video, start_time

RATE = 16_000  # samples a second that Whisper takes


def recognise(path: str | os.PathLike, model: str | os.PathLike = "small") -> Captions:
    """What is said in a video, by Whisper: captions of a sentence or a part of one, none where nobody speaks.

    Args:
        path: any file that FFmpeg opens.
        model: a name that faster-whisper knows ("tiny.en", "small", "large-v3", ...; fetched), or a folder.

    Raises:
        ImportError: faster-whisper is missing.
        ValueError: there is no such model; the file cannot be opened.

    Example:
        >>> recognise("talk.mp4", "small.en")  # doctest: +SKIP
    """
    # without times of words a caption may begin in the silence before its first
    heard, _ = load_whisper(model).transcribe(samples(path), vad_filter=True, word_timestamps=True)
    return from_rows(str(path), [(float(row.start), float(row.end), row.text.strip()) for row in heard])[0]


@lru_cache(1)
def load_whisper(model: str | os.PathLike):
    try:
        from faster_whisper import WhisperModel
    except ImportError as error:
        raise ImportError("speech recognition needs a package: pip install 'vclip[speech]'") from error
    return WhisperModel(os.fspath(model), compute_type="auto")


def samples(path: str | os.PathLike) -> Float32[np.ndarray, " n"]:
    """The sound of a video, RATE samples a second from the container's start, silence where it has none."""
    resampler, sound, end = av.AudioResampler("s16", "mono", RATE), [np.zeros(0, np.int16)], 0
    with open_video(path) as container:
        stream = container.streams.best("audio")
        first = round((start_time(container) or 0) * RATE)
        frames = decode(container, stream, Fraction(0), Fraction(1, 50), []) if stream else ()
        for frame in chain(frames, [None]):
            for part in resampler.resample(frame):
                late = 0 if part.pts is None else part.pts - first - end
                # timestamps may be rounded; far apart they are damage
                silence = late if RATE / 10 < late < LONGEST_GAP * RATE else 0
                sound += [np.zeros(silence, np.int16), part.to_ndarray()[0]]
                end += silence + part.samples
    return np.concatenate(sound).astype(np.float32) / 2**15
