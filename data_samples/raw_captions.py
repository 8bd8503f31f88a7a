"""All captions of HowTo100M's raw_caption.json, for `Corpus.create`; `read_captions` reads those of one video."""

import warnings
from collections.abc import Iterator
from pathlib import Path

from vclip.data.captions import Captions, from_rows
from vclip.data.transcripts import in_rows
from vclip.datasets._files import Text, find_file, read_json, read_text


def captions(path: str | Path) -> Iterator[tuple[str, Captions]]:
    """Each video's id and captions: in the order of the file, read as by `vclip.read_captions`, nothing cleaned.

    Args:
        path: raw_caption.json (id -> lists start, end, text), gzip or plain, or the folder that holds it.
    """
    file = find_file(path, "raw_caption.json")
    for video_id, columns in read_json(read_text(file), dict[Text, dict]).items():
        found, skipped = from_rows(where := f"{file}: {video_id}", in_rows(where, columns))
        if skipped:
            warnings.warn(skipped, stacklevel=2)
        yield video_id, found
