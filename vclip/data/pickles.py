"""Pickles and torch files read as data: nothing that a file names is imported, nothing of its choosing is called."""

import gzip
import io
import mmap
import tarfile
import zipfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from vclip.data.pickle_globals import DTYPES, Known, shown
from vclip.data.unpickler import DataUnpickler

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def load_pickle(path: str | Path) -> Any:
    """The builtin containers, strings, numbers and numpy arrays (no objects in them) of a pickle file, gzip or plain.

    Raises ValueError that names the file, and the global if it refuses one.
    """
    path = Path(path)
    data = path.read_bytes()
    packed = data[:2] == b"\x1f\x8b"
    return _refusing(path, lambda: DataUnpickler(io.BytesIO(gzip.decompress(data) if packed else data)).load())


def load_torch(path: str | Path) -> Any:
    """The nested object of a torch.save file, zip or the format before torch 1.6, with its tensors on the CPU.

    Parameters come as plain tensors, `requires_grad` is dropped; the tensors of a zip file are mapped, not read: copy
    what is to outlive the file. Raises ValueError that names the file, and the global if it refuses one.
    """
    path = Path(path)
    if zipfile.is_zipfile(path):
        return _refusing(path, lambda: _load_zip(path))
    if tarfile.is_tarfile(path):
        raise ValueError(f"{path} is in torch's oldest format, a tar; load it with torch 1.5 and save it again")
    with path.open("rb") as file:
        return _refusing(path, lambda: _load_legacy(file, path.stat().st_size))


def _refusing(path: Path, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except Exception as error:  # a broken program can fail in any way
        reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__} {error}"
        raise ValueError(f"{path} cannot be read as plain data: {reason}") from error


class TorchUnpickler(DataUnpickler):
    """Also knows storages: `storage(key, dtype, numel)` gives the elements as a 1-d tensor, asked once a key."""

    def __init__(self, file: BinaryIO, storage: Callable[[str, torch.dtype, int], Tensor]):
        super().__init__(file, encoding="utf-8")
        self.storage, self.storages = storage, {}

    def persistent_load(self, pid: Any) -> Tensor:
        _, kind, key, _, numel, view = [*pid, None][:6]
        known = isinstance(kind, Known) and kind.name in DTYPES
        if not known or not isinstance(key, str) or not isinstance(numel, int) or numel < 0:
            raise ValueError(f"it refers to {shown(key)} of {shown(kind)}, which is not a storage")
        if key not in self.storages:
            self.storages[key] = self.storage(key, DTYPES[kind.name], numel)
        elements = self.storages[key]
        if view:
            _, offset, length = view
            elements = elements.narrow(0, offset, length)
        return elements


def _load_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        members = {info.filename: info for info in archive.infolist()}
        pickles = [name for name in members if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("a zip, but not of torch.save: it has no data.pkl")
        folder = pickles[0].removesuffix("data.pkl")
        if f"{folder}constants.pkl" in members:
            raise ValueError("a TorchScript program; save its state_dict() with torch.save instead")
        if f"{folder}byteorder" in members and archive.read(f"{folder}byteorder") != b"little":
            raise ValueError("its numbers are not little-endian")
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

        def storage(key: str, dtype: torch.dtype, numel: int) -> Tensor:
            info = members[f"{folder}data/{key}"]
            if numel * dtype.itemsize > info.file_size or info.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"storage {key} holds {info.file_size} bytes, not {numel} {dtype}")
            if numel == 0:
                return torch.empty(0, dtype=dtype)
            header = mapped[info.header_offset : info.header_offset + 30]
            start = info.header_offset + 30 + sum(int.from_bytes(header[i : i + 2], "little") for i in (26, 28))
            return torch.frombuffer(mapped, dtype=dtype, count=numel, offset=start)

        return TorchUnpickler(io.BytesIO(archive.read(pickles[0])), storage).load()


def _load_legacy(file: BinaryIO, size: int) -> Any:
    """Five pickles (magic number, protocol, machine, object, storage keys), then each storage's length and bytes."""
    if DataUnpickler(file).load() != LEGACY_MAGIC:
        raise ValueError("it is not a torch.save file")
    _, machine = DataUnpickler(file).load(), DataUnpickler(file).load()
    if not machine["little_endian"]:
        raise ValueError("its numbers are not little-endian")

    def storage(key: str, dtype: torch.dtype, numel: int) -> Tensor:
        if numel * dtype.itemsize > size:
            raise ValueError(f"storage {key} of {numel} {dtype} is larger than the file")
        return torch.empty(numel, dtype=dtype)

    unpickler = TorchUnpickler(file, storage)
    result = unpickler.load()
    for key in DataUnpickler(file).load():
        if not isinstance(key, str) or key not in unpickler.storages:
            raise ValueError(f"it lists {shown(key)}, which is no storage of its tensors")
        elements = unpickler.storages.pop(key)
        if int.from_bytes(file.read(8), "little") != len(elements):
            raise ValueError(f"storage {key} has another length than the tensors say")
        if file.readinto(elements.view(torch.uint8).numpy()) != elements.nbytes:  # pyright: ignore
            raise ValueError(f"it ends within storage {key}")
    if unpickler.storages:
        raise ValueError(f"it lacks the storages {sorted(unpickler.storages)}")
    return result


def load_strictly(model: nn.Module, weights: dict[str, Tensor], path, unknown: Collection[str] = ()) -> None:
    expected = model.state_dict()
    missing = sorted(expected.keys() - weights.keys())
    unexpected = sorted((weights.keys() - expected.keys()).union(unknown))
    misshapen, unusable = [], []
    for key in sorted(expected.keys() & weights.keys()):
        value, ours = weights[key], expected[key]
        if value.shape != ours.shape:
            misshapen.append(f"{key} is {tuple(value.shape)}, expected {tuple(ours.shape)}")
        elif value.is_floating_point() != ours.is_floating_point():
            unusable.append(f"{key} is {value.dtype}, expected {ours.dtype}")
        elif not value.float().isfinite().all():
            unusable.append(f"{key} holds NaN or infinity")
    if missing or unexpected or misshapen or unusable:
        lists = f"missing {missing}, unexpected {unexpected}, misshapen {misshapen}, unusable {unusable}"
        raise ValueError(f"{path} does not fit: {lists}")
    model.load_state_dict(weights)
    model.float().eval()
