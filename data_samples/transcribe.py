"""Captions by speech recognition: `python data_samples/transcribe.py my_videos --model small`.

It writes `<file>.vtt` beside each video that has no captions and in which somebody speaks, for `vclip.extract` to read.
It needs `pip install -e '.[speech]'`; a model is a folder, or a name that faster-whisper fetches.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError
from faster_whisper import WhisperModel, decode_audio
from tqdm.auto import tqdm

from vclip.data.captions import read_captions
from vclip.data.storage import replace
from vclip.data.video import open_video
from vclip.data.video_files import Files


def heard(video: Path, whisper: Any) -> Iterator[tuple[float, float, str]]:
    """What is said in a video: start, end (s from its start) and text of each sentence, or part of it."""
    with open_video(video) as container:
        first = next(container.decode(audio=0), None) if container.streams.audio else None
        if first is None:
            return
        late = (first.time or 0.0) - (container.start_time or 0) / av.time_base
    with video.open("rb") as file:
        # without times of words a caption may begin in the silence before its first
        rows, _ = whisper.transcribe(decode_audio(file), vad_filter=True, word_timestamps=True)
    for row in rows:
        yield late + row.start, late + row.end, row.text.strip()


def as_vtt(rows: list[tuple[float, float, str]]) -> str:
    """Captions as a WebVTT file."""

    def clock(seconds: float) -> str:
        hours, rest = divmod(round(1000 * seconds), 3_600_000)
        return f"{hours:02}:{rest // 60_000:02}:{rest % 60_000 / 1000:06.3f}"

    cues = (f"{clock(start)} --> {clock(end)}\n{text.replace('-->', '->')}\n" for start, end, text in rows)
    return "\n".join(["WEBVTT\n", *cues])


def has_captions(video: Path, file: Path | None) -> bool:
    """Whether a caption file lies beside a video, readable or not, or there are captions inside it."""
    if file != video:
        return file is not None
    try:
        return len(read_captions(video)) > 0
    except (OSError, ValueError):
        return False


def transcribe(folder: str | Path, model: str | Path) -> list[Path]:
    """Write the captions of a folder's videos; returns the files that were written. A bad video costs a line."""
    files, written = Files(folder, Path(folder) / ".vclip"), []
    whisper = WhisperModel(str(model), compute_type="auto")
    for video, path in tqdm(files.videos.items(), unit="video"):
        if has_captions(path, files.captions(video)):
            continue
        written_to = path.with_name(f"{path.name}.vtt")  # a.mp4 and a.mov have their own
        try:
            if rows := list(heard(path, whisper)):
                replace(written_to, lambda file, rows=rows: file.write_text(as_vtt(rows), encoding="utf-8"))
                written.append(written_to)
        except (OSError, ValueError, FFmpegError) as error:
            tqdm.write(f"{path.name}: {error}")
    return written


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="of videos")
    parser.add_argument("--model", default="small", help="tiny.en, small, large-v3, ..., or a folder")
    given = parser.parse_args()
    print(f"{len(transcribe(given.folder, given.model))} caption files written")
