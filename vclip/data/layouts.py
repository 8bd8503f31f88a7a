"""Features as other tools distribute them: a folder of <id>.npy (mapped), .npz or .pt, or one .h5 file."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from vclip.data.captions import CAPTION_SUFFIXES, read_captions
from vclip.data.pickles import load_torch
from vclip.data.storage import VIDEOS, captions_table, read_npy, read_tensor, reading, table

H5 = (".h5", ".hdf5")
KINDS = ((".npy",), (".npz",), (".pt", ".pth"), H5)  # a folder holds one kind

# of a Corpus: its tables of videos and captions, and the features file of each value of `shard`
Layout = tuple[pa.Table, pa.Buffer, list[Path]]


def read(path: Path) -> Layout:
    """Features of another tool: files of `KINDS`."""
    if path.is_file() and path.suffix in H5:
        return _read_files([path])
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is not a folder: expected a corpus, or features as files")
    # without what macOS leaves beside them, such as ._<id>.npy
    files = sorted(file for file in path.glob("[!.]*.*") if file.is_file())
    kinds = [found for kind in KINDS if (found := [file for file in files if file.suffix in kind])]
    if not kinds:
        known = ", ".join(f"<id>{suffix}" for kind in KINDS[:-1] for suffix in kind)
        raise FileNotFoundError(f"{path} has no corpus.json, {known} or .h5: is it the right folder?")
    if len(kinds) > 1:
        some = ", ".join(f"{len(kind)} like {kind[0].name}" for kind in kinds)
        raise ValueError(f"{path} holds features of several kinds, {some}: keep one kind")
    found = kinds[0]
    if found[0].suffix in H5 and len(found) > 1:
        raise ValueError(f"{path} holds {len(found)} .h5 files: Corpus.open(file) says which")
    return _read_files(found)


def _read_files(files: list[Path]) -> Layout:
    """The captions of a video are those of `<id>.vtt` (.srt, .json, .csv) beside its features."""
    if (raw := files[0].with_name("raw_caption.json")).is_file():
        warnings.warn(f"{raw} is not read: put captions into files named like those of the features", stacklevel=4)
    videos, captions, unreadable, width = [], [], [], None
    for shard, file in enumerate(files):
        row = 0
        for video_id, array in _features(file).items():
            width = width or (array.shape[1] if array.ndim == 2 else None)
            if array.shape[1:] != (width,) or not array.size or array.dtype.kind != "f":
                expected = f"(seconds > 0, {width or 'features'}) floats"
                raise ValueError(f"{file}: {video_id!r} is {array.dtype} {array.shape}, expected {expected}")
            videos.append((video_id, len(array), shard, row, None))
            row += len(array)
            beside = filter(Path.is_file, (file.with_name(video_id + suffix) for suffix in CAPTION_SUFFIXES))
            try:
                captions += [(video_id, read_captions(said, video_id)) for said in list(beside)[:1]]
            except (OSError, ValueError) as error:
                unreadable.append(str(error))
    if unreadable:
        some = "; ".join(unreadable[:3])
        warnings.warn(f"{len(unreadable)} of {len(videos)} videos are without captions: {some}", stacklevel=4)
    pq.write_table(captions_table(captions), in_memory := pa.BufferOutputStream())
    return table(videos, VIDEOS), in_memory.getvalue(), files


def read_rows(file: Path) -> np.ndarray:
    """The features (rows, F) in a file: mapped, or of a format that cannot be, in memory as float16."""
    found = [read_tensor(file, "features")] if file.suffix == ".safetensors" else list(_features(file).values())
    return found[0] if len(found) == 1 else np.concatenate(found)


def _features(file: Path) -> dict[str, np.ndarray]:
    """Those of each video in a file of `KINDS`, whose shapes are yet to be checked."""
    if file.suffix == ".npy":
        return {file.stem: read_npy(file)}
    if file.suffix in H5:
        with reading(file), open_h5(file) as datasets:
            return {video_id: _half(np.asarray(dataset)) for video_id, dataset in datasets.items()}
    if file.suffix == ".npz":
        with reading(file), np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
    else:
        found = load_torch(file)
        tensors = {k: t for k, t in (found if isinstance(found, dict) else {"": found}).items() if torch.is_tensor(t)}
        arrays = {key: tensor.detach().half().numpy() for key, tensor in tensors.items() if tensor.is_floating_point()}
    if len(fit := [array for array in arrays.values() if array.ndim == 2 and array.dtype.kind == "f"]) != 1:
        there = ", ".join(f"{key!r} {array.dtype} {array.shape}" for key, array in arrays.items()) or "no array"
        raise ValueError(f"{file} holds {there}: keep one array of floats (seconds, features)")
    return {file.stem: _half(fit[0])}


def _half(array: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):  # infinity is refused when the video is first read
        return np.ascontiguousarray(array, np.float16) if array.dtype.kind == "f" else array


def open_h5(file: Path, mode: str = "r") -> Any:
    """An HDF5 file, a mapping of names to datasets; ImportError that says what to install."""
    try:
        import h5py
    except ImportError:
        raise ImportError(f"{file}: .h5 files need h5py: pip install h5py") from None
    return h5py.File(file, mode)


def one_a_second(features: np.ndarray, rate: float) -> np.ndarray:
    """Features (rows, F), of which row i begins at second i / `rate`, as one a second, float16.

    A second has the mean of the rows that begin in it; at a rate below 1, the row that is valid at its middle.
    """
    n, slack = len(features), 1e-6  # for what division leaves behind the decimal point
    if rate < 1:
        middles = np.arange(max(1, np.ceil(n / rate - 0.5 - slack))) + 0.5
        return features[np.minimum(middles * rate + slack, n - 1).astype(int)]
    _, first, rows = np.unique(np.floor(np.arange(n) / rate + slack), return_index=True, return_counts=True)
    return (np.add.reduceat(features, first, dtype=np.float32) / rows[:, None]).astype(np.float16)
