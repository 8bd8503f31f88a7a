"""Feature folders of other tools, read in place by `Corpus.open`: `<id>.npy` files, and the released shards."""

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from vclip.data.captions import CAPTION_SUFFIXES, read_captions
from vclip.data.pickles import load_pickle
from vclip.data.storage import CAPTIONS, VIDEOS, captions_table, read_npy, table


class Layout(NamedTuple):
    """What a Corpus is made of: its metadata, its two tables, and the features file of each value of `shard`."""

    meta: dict
    videos: pa.Table
    captions: pa.Table
    blocks: list[Path]


def read(path: Path, split: str | None = None) -> Layout:
    """A folder of another tool: released shards of one split if it has `*_meta.pkl`, else `<id>.npy` files."""
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is not a folder: expected a corpus, a folder of <id>.npy or released shards")
    splits = sorted(file.name.removesuffix("_meta.pkl") for file in path.glob("*_meta.pkl"))
    if splits:
        if split is None and len(splits) > 1:
            raise ValueError(f"{path} holds the shards of {splits}: Corpus.open(path, split) says which")
        return _read_shards(path, split or splits[0])
    files = sorted(path.glob("[!.]*.npy"))
    if not files:
        raise FileNotFoundError(f"{path} has no corpus.json, <id>.npy or <split>_meta.pkl: is it the right folder?")
    return _read_npy_files(files, split)


def _read_npy_files(files: list[Path], split: str | None) -> Layout:
    """The captions of `<id>.npy` are those of `<id>.vtt` (.srt, .json, .csv) beside it."""
    if (raw := files[0].with_name("raw_caption.json")).is_file():
        warnings.warn(f"{raw} is not read: put captions into files named like the .npy files", stacklevel=4)
    videos, captions, width = [], [], None
    for shard, file in enumerate(files):
        array = read_npy(file)  # its size; the map goes with the name
        if array.ndim != 2 or not len(array) or array.dtype.kind != "f" or array.shape[1] != (width or array.shape[1]):
            expected = f"(seconds > 0, {width or 'features'}) floats"
            raise ValueError(f"{file}: {array.dtype} {array.shape}, expected {expected}")
        width = array.shape[1]
        videos.append((file.stem, len(array), shard, 0, None))
        beside = [file.with_suffix(suffix) for suffix in CAPTION_SUFFIXES if file.with_suffix(suffix).is_file()]
        if beside:
            captions.append((file.stem, read_captions(beside[0], file.stem)))
    return Layout({"split": split}, table(videos, VIDEOS), captions_table(captions), files)


def _read_shards(path: Path, split: str) -> Layout:
    """`<split>_<k>_{starts,data}.npy` and `<split>_meta.pkl`; tokens of `*.<split>_<k>.{startends,caps_ids}`."""
    meta = load_pickle(path / f"{split}_meta.pkl")
    if not isinstance(meta, dict) or not all(isinstance(i, str) for shard in meta.values() for i in shard):
        raise ValueError(f"{path / f'{split}_meta.pkl'}: expected a dict from shard number to a list of video ids")
    videos, captions, blocks = [], [], []  # rows of the tables, and files
    for block, (shard, ids) in enumerate(sorted(meta.items())):
        starts = read_npy(path / f"{split}_{shard}_starts.npy")
        if len(starts) != len(ids) + 1:
            raise ValueError(f"{path}: shard {split}_{shard} holds {len(starts) - 1} videos, its list names {len(ids)}")
        videos += [(i, b - a, block, a, None) for i, a, b in zip(ids, starts[:-1], starts[1:], strict=True)]
        blocks.append(path / f"{split}_{shard}_data.npy")
        for file in sorted(path.glob(f"*.{split}_{shard}.startends_starts.npy")):
            prefix, offsets = str(file).removesuffix("startends_starts.npy"), read_npy(file)
            times, tokens = (read_npy(Path(f"{prefix}{name}_data.npy")) for name in ("startends", "caps_ids"))
            owners = np.repeat(ids, np.diff(offsets)).tolist()
            rows = zip(owners, times.tolist(), tokens, strict=True)
            captions += [(owner, start, end, "", ids[ids >= 0]) for owner, (start, end), ids in rows]
    schema = CAPTIONS.append(pa.field("input_ids", pa.list_(pa.int32()))) if captions else CAPTIONS
    return Layout({"split": split}, table(videos, VIDEOS), table(captions, schema), blocks)
