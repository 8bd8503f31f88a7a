"""Captions by speech recognition, for videos that have none. It needs the extra `speech`."""

import os
from functools import lru_cache
from pathlib import Path

import av

from vclip.data.captions import Captions, from_rows
from vclip.data.video import open_video


def recognise(path: str | os.PathLike, model: str | os.PathLike = "small") -> Captions:
    """What is said in a video, by Whisper: one caption for each sentence or part of it.

    Args:
        path: any file that FFmpeg opens.
        model: a name that faster-whisper knows ("tiny.en", "small", "large-v3", ...; fetched), or a folder.

    Raises:
        ImportError: faster-whisper is missing.
        ValueError: there is no such model; the file cannot be opened.

    Example:
        >>> recognise("talk.mp4", "small.en")  # doctest: +SKIP
    """
    whisper = load_whisper(model)
    with open_video(path) as container:
        first = next(container.decode(audio=0), None) if container.streams.audio else None
        if first is None:
            return from_rows(str(path), [])[0]
        late = (first.time or 0.0) - (container.start_time or 0) / av.time_base
    with open(Path(path).expanduser(), "rb") as file:
        # without times of words a caption may begin in the silence before its first
        heard, _ = whisper.transcribe(file, vad_filter=True, word_timestamps=True)
    return from_rows(str(path), [(late + row.start, late + row.end, row.text.strip()) for row in heard])[0]


@lru_cache(1)
def load_whisper(model: str | os.PathLike):
    try:
        from faster_whisper import WhisperModel
    except ImportError as error:
        raise ImportError("speech recognition needs a package: pip install 'vclip[speech]'") from error
    return WhisperModel(os.fspath(model), compute_type="auto")
