"""A corpus with HowTo100M's statistics as the paper gives them, made on the spot.

Videos of 6 minutes (5 to 7 here, evenly), about 110 narrations each, 2.4 word pieces a second, 512 features a second:
2,000 of them are 0.7 GB in eleven shards.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vclip.data.captions import Captions
from vclip.data.corpus import Corpus

from corpora import spec

VIDEOS, WIDTH, CAPTION_SECONDS = 2000, 512, 3.3


def make(path: Path) -> Corpus:
    """With word pieces, as `Corpus.tokenize` leaves them."""
    rng = np.random.default_rng(0)

    def videos():
        for i in range(VIDEOS):
            seconds = int(rng.integers(300, 421))
            start = np.arange(0, seconds - 5, CAPTION_SECONDS)
            features = rng.integers(0, 0x3C00, (seconds, WIDTH), dtype=np.uint16).view(np.float16)  # 0 to 1
            yield str(i), features, Captions(start, start + CAPTION_SECONDS, [""] * len(start))

    Corpus.create(path, spec(dim=WIDTH), videos())
    table = pq.read_table(path / "captions.parquet")
    offsets = np.concatenate([[0], np.cumsum(rng.integers(4, 13, len(table)))])
    ids = pa.array(rng.integers(1000, 30000, offsets[-1]), pa.int32())
    lists = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), ids)
    pq.write_table(table.append_column("input_ids", lists), path / "captions.parquet")
    return Corpus.open(path)
