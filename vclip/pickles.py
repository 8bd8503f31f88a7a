"""Pickles and torch files read as data: nothing that a file names is imported, and nothing of its choosing is called.

A pickle is a program. `DataUnpickler` runs it on a machine that knows only the names in `KNOWN`, each standing for a
function of this module, and refuses every other by name. Globals of argparse, fairseq and omegaconf, which the released
checkpoints carry beside their weights, and of typing, which omegaconf names, become inert `Placeholder` objects.
"""

import gzip
import io
import mmap
import pickle
import re
import tarfile
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import torch
from torch import Tensor

INERT = ("argparse", "fairseq", "omegaconf", "typing")
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


class Placeholder:
    """What stands for an object of argparse, fairseq or omegaconf: its arguments and state, and no behaviour."""

    def __init__(self, *args, **kwargs):
        self.args, self.kwargs, self.state = args, kwargs, None

    def __repr__(self) -> str:
        return f"Placeholder({type(self).__name__})"

    def __setitem__(self, key, value):
        """The items of a subclass of dict are dropped."""

    def append(self, item):
        """The items of a subclass of list are dropped."""


@dataclass(frozen=True, slots=True)
class Known:
    """A global that the machine knows. No attribute can be set on it, so a file cannot alter what it does."""

    name: str
    call: Callable | None = None


class DataUnpickler(pickle._Unpickler):
    """Python's own unpickler with each instruction that calls something replaced."""

    stack: list[Any]
    memo: dict[int, Any]
    append: Callable[[Any], None]

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] in INERT:
            return type(f"{module}.{name}", (Placeholder,), {})
        full = f"{module}.{name}"
        if full not in KNOWN:
            raise ValueError(f"it names the global {full!r}, which is refused: only data is read, nothing is executed")
        return KNOWN[full]

    def make(self, what: Any, args: Any, kwargs: dict | None = None) -> Any:
        if isinstance(what, type) and issubclass(what, Placeholder):
            return what(*args, **kwargs or {})
        if not isinstance(what, Known) or what.call is None or kwargs or not isinstance(args, tuple):
            raise ValueError(f"it calls {what!r}, which is refused")
        return what.call(*args)

    def load_reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = self.make(self.stack[-1], args)

    def load_newobj_ex(self) -> None:
        kwargs, args = self.stack.pop(), self.stack.pop()
        self.stack[-1] = self.make(self.stack[-1], args, kwargs)

    def _instantiate(self, klass, args) -> None:  # of the instructions OBJ and INST
        self.append(self.make(klass, tuple(args)))

    def load_build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if isinstance(target, Placeholder):
            target.state = state
        elif isinstance(target, np.dtype):
            new = _dtype_state(target, state)
            self.memo.update({key: new for key, value in self.memo.items() if value is target})
            self.stack[-1] = new
        elif type(target) is np.ndarray:
            _array_state(target, state)
        elif not isinstance(target, OrderedDict):  # torch's metadata of a state dict is not needed
            raise ValueError(f"it sets the state of {target!r}, which is refused")

    def load_extension(self) -> None:
        raise ValueError("it uses an extension code, which is refused")

    dispatch: ClassVar[dict[int, Callable]] = pickle._Unpickler.dispatch | {
        pickle.REDUCE[0]: load_reduce,
        pickle.NEWOBJ[0]: load_reduce,
        pickle.NEWOBJ_EX[0]: load_newobj_ex,
        pickle.BUILD[0]: load_build,
        pickle.EXT1[0]: load_extension,
        pickle.EXT2[0]: load_extension,
        pickle.EXT4[0]: load_extension,
    }


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"bytes are stored as latin1, not {encoding!r}")
    return text.encode("latin1")


def _bytearray(data: bytes = b"") -> bytearray:
    if not isinstance(data, bytes):
        raise ValueError("a bytearray is made of bytes")
    return bytearray(data)


def _dtype(kind: str, align: bool = False, copy: bool = True) -> np.dtype:
    if not isinstance(kind, str) or not re.fullmatch(r"[<>|=]?[biufcSU][0-9]+", kind):
        raise ValueError(f"it holds an array of dtype {kind!r}; numbers and strings are read, objects and records not")
    return np.dtype(kind, copy=True)


def _dtype_state(dtype: np.dtype, state: tuple) -> np.dtype:
    _, order, *parts = state[:5]
    if order not in ("<", ">", "|", "=") or parts != [None, None, None]:
        raise ValueError(f"it holds an array of a structured dtype, {state!r}")
    return dtype.newbyteorder(order) if order in "<>" else dtype


def _array(raw, dtype: np.dtype, shape: tuple, order: Any = "C") -> np.ndarray:
    if not isinstance(dtype, np.dtype) or not isinstance(raw, bytes | bytearray):
        raise ValueError("an array is made of a dtype and bytes")
    if dtype.itemsize == 0 or prod(shape) * dtype.itemsize != len(raw) or min(shape, default=0) < 0:
        raise ValueError(f"an array {shape} of {dtype} does not take {len(raw)} bytes")
    return np.frombuffer(bytearray(raw), dtype).reshape(shape, order=order)


def _array_state(array: np.ndarray, state: tuple) -> None:
    shape, dtype, fortran, raw = state[-4:]
    checked = _array(raw, dtype, shape, "F" if fortran else "C")
    array.__setstate__((1, checked.shape, dtype, bool(fortran), bytes(raw)))  # pyright: ignore[reportArgumentType]


def _subscript(what: Any, _: Any) -> Placeholder:  # a type hint that omegaconf keeps, `Optional[str]` for instance
    if not isinstance(what, type) or not issubclass(what, Placeholder):
        raise ValueError(f"it takes an item of {what!r}, which is refused")
    return what()


_functions: dict[str, Callable | None] = {
    "collections.OrderedDict": OrderedDict,
    "collections.defaultdict": lambda *_: {},
    "_operator.getitem": _subscript,
    "_codecs.encode": _encode,
    "numpy.ndarray": None,
    "numpy.dtype": _dtype,
    "torch.Size": torch.Size,
    "torch.device": lambda *_: torch.device("cpu"),
    "torch._utils._rebuild_tensor": lambda *args: _tensor(*args),
    "torch._utils._rebuild_tensor_v2": lambda *args: _tensor(*args[:4]),
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
}
for _core in ("numpy.core", "numpy._core"):
    _functions[f"{_core}.multiarray._reconstruct"] = lambda *_: np.empty(0, np.int8)
    _functions[f"{_core}.multiarray.scalar"] = lambda dtype, raw: _array(raw, dtype, ())[()]
    _functions[f"{_core}.numeric._frombuffer"] = _array
for _module in ("builtins", "__builtin__"):
    for _type in (set, frozenset, list, dict, tuple, complex):
        _functions[f"{_module}.{_type.__name__}"] = _type
    _functions |= {f"{_module}.bytes": lambda: b"", f"{_module}.bytearray": _bytearray}
    _functions |= {f"{_module}.{name}": None for name in ("int", "long", "float", "bool", "str", "unicode")}

DTYPES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
KNOWN: dict[str, Known | torch.dtype] = {name: Known(name, call) for name, call in _functions.items()}
KNOWN |= {name: Known(name) for name in DTYPES} | {str(dtype): dtype for dtype in DTYPES.values()}


def _tensor(storage: Tensor, offset: int, size: tuple, stride: tuple) -> Tensor:
    # as_strided refuses what lies outside the storage
    return storage.as_strided(tuple(size), tuple(stride), offset)


class TorchUnpickler(DataUnpickler):
    """Also knows storages: `storage(key, dtype, numel)` gives the elements as a 1-d tensor, asked once a key."""

    def __init__(self, file: BinaryIO, storage: Callable[[str, torch.dtype, int], Tensor]):
        super().__init__(file, encoding="utf-8")
        self.storage, self.storages = storage, {}

    def persistent_load(self, pid: Any) -> Tensor:
        _, kind, key, _, numel, view = [*pid, None][:6]
        if not isinstance(kind, Known) or kind.name not in DTYPES or not isinstance(key, str) or numel < 0:
            raise ValueError(f"it refers to {pid!r}, which is not a storage")
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
        elements = unpickler.storages.pop(key)
        if int.from_bytes(file.read(8), "little") != len(elements):
            raise ValueError(f"storage {key} has another length than the tensors say")
        if file.readinto(elements.view(torch.uint8).numpy()) != elements.nbytes:  # pyright: ignore
            raise ValueError(f"it ends within storage {key}")
    if unpickler.storages:
        raise ValueError(f"it lacks the storages {sorted(unpickler.storages)}")
    return result
