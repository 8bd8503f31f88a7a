"""Feature folders of other tools, read in place by `Corpus.open`: `<id>.npy` files, and the released shards.

Nothing in them is executed: arrays load with `allow_pickle=False`, the shards' id lists by `vclip.data.pickles`.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from vclip.data.captions import CAPTION_SUFFIXES, Captions, read_captions
from vclip.data.pickles import load_pickle
from vclip.data.storage import read_npy


class Layout(NamedTuple):
    """What a Corpus is made of: its metadata, its two tables, and the features file of each value of `shard`."""

    meta: dict
    videos: pa.Table
    captions: pa.Table
    blocks: list[Path]


def read(path: Path, split: str | None = None) -> Layout:
    """A folder that is no corpus folder: released shards if it has `*_meta.pkl`, else `<id>.npy` files.

    `split` ("train" or "val") is needed where the folder holds the shards of both; `<id>.npy` files have none of
    their own, so it only names them. Captions of an `<id>.npy` are those of `<id>.vtt` (.srt, .json, .csv) beside it,
    or of `raw_caption.json` in the folder.
    Raises FileNotFoundError or ValueError that names the folder or file.
    """
    path = Path(path)
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is not a folder: expected a corpus, a folder of <id>.npy or released shards")
    splits = sorted(file.name.removesuffix("_meta.pkl") for file in path.glob("*_meta.pkl"))
    if splits:
        if split is None and len(splits) > 1:
            raise ValueError(f"{path} holds the shards of {splits}: Corpus.open(path, split) says which")
        return _read_shards(path, split or splits[0])
    files = sorted(path.glob("*.npy"))
    if not files:
        raise FileNotFoundError(
            f"{path} has no corpus.json, no <id>.npy and no <split>_meta.pkl: is it the right folder?"
        )
    return _read_npy_files(path, files, split)


def _read_npy_files(path: Path, files: list[Path], split: str | None) -> Layout:
    seconds, width = [], None
    for file in files:
        array = read_npy(file)  # its size; the map goes with the name
        if array.ndim != 2 or not len(array) or array.dtype.kind != "f" or array.shape[1] != (width or array.shape[1]):
            raise ValueError(
                f"{file}: {array.dtype} {array.shape}, expected (seconds > 0, {width or 'features'}) floats"
            )
        width = array.shape[1]
        seconds.append(len(array))
    ids = [file.stem for file in files]
    everyone = path / "raw_caption.json"
    columns = _columns(everyone) if everyone.is_file() else {}
    captions = []
    for file in files:
        beside = [file.with_suffix(suffix) for suffix in CAPTION_SUFFIXES if file.with_suffix(suffix).is_file()]
        if beside:
            captions.append(read_captions(beside[0], file.stem))
        elif file.stem in columns:
            captions.append(_captions(everyone, file.stem, columns[file.stem]))
        else:
            captions.append(Captions(np.zeros(0), np.zeros(0), []))
    videos = {"video_id": ids, "seconds": seconds, "shard": range(len(ids)), "row": [0] * len(ids)}
    table = {
        "video_id": [i for i, c in zip(ids, captions, strict=True) for _ in c.text],
        "start": np.concatenate([c.start for c in captions]),
        "end": np.concatenate([c.end for c in captions]),
        "text": [text for c in captions for text in c.text],
    }
    return _layout(split, videos, table, files)


def _columns(file: Path) -> dict:
    try:
        columns = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON: {error}") from None
    if not isinstance(columns, dict):
        raise ValueError(f"{file}: expected a dict of videos, not a {type(columns).__name__}")
    return columns


def _captions(file: Path, video_id: str, columns) -> Captions:
    try:
        return Captions(*(columns[name] for name in ("start", "end", "text")))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}, video {video_id!r}: {type(error).__name__}: {error}") from None


def _read_shards(path: Path, split: str) -> Layout:
    """`<split>_<k>_{starts,data}.npy` and `<split>_meta.pkl`; tokens of `*.<split>_<k>.{startends,caps_ids}`."""
    meta = load_pickle(path / f"{split}_meta.pkl")
    if not isinstance(meta, dict) or not all(isinstance(i, str) for shard in meta.values() for i in shard):
        raise ValueError(f"{path / f'{split}_meta.pkl'}: expected a dict from shard number to a list of video ids")
    videos: dict[str, list] = {"video_id": [], "seconds": [], "shard": [], "row": []}
    rows: list[tuple[str, np.ndarray, np.ndarray]] = []
    blocks: list[Path] = []
    for shard, ids in sorted(meta.items()):
        starts = read_npy(path / f"{split}_{shard}_starts.npy")
        if len(starts) != len(ids) + 1:
            raise ValueError(f"{path}: shard {split}_{shard} holds {len(starts) - 1} videos, its list names {len(ids)}")
        videos["video_id"] += ids
        videos["seconds"] += np.diff(starts).tolist()
        videos["shard"] += [len(blocks)] * len(ids)
        videos["row"] += starts[:-1].tolist()
        blocks.append(path / f"{split}_{shard}_data.npy")
        for prefix in sorted(
            {file.name.split(".startends")[0] for file in path.glob(f"*.{split}_{shard}.startends_*.npy")}
        ):
            offsets = read_npy(path / f"{prefix}.startends_starts.npy")
            times, tokens = (read_npy(path / f"{prefix}.{name}_data.npy") for name in ("startends", "caps_ids"))
            rows += [(i, times[a:b], tokens[a:b]) for i, a, b in zip(ids, offsets, offsets[1:], strict=False)]
    times = np.concatenate([t for _, t, _ in rows] or [np.zeros((0, 2))]).astype(np.float64)
    owners = [i for i, t, _ in rows for _ in t]
    tokens = [row[row >= 0] for _, _, p in rows for row in p]
    table: dict = {"video_id": owners, "start": times[:, 0], "end": times[:, 1], "text": [""] * len(owners)}
    if rows:
        table["input_ids"] = pa.array(tokens, pa.list_(pa.int32()))
    return _layout(split, videos, table, blocks)


def _layout(split: str | None, videos: dict, captions: dict, blocks: list[Path]) -> Layout:
    videos = {"media": pa.nulls(len(videos["video_id"]), pa.string())} | videos
    types = {"video_id": pa.string(), "text": pa.string(), "start": pa.float64(), "end": pa.float64()}
    captions = {name: pa.array(column, types.get(name)) for name, column in captions.items()}
    return Layout({"split": split}, pa.table(videos), pa.table(captions), blocks)
