"""Pickles and torch files of others, read as data: no global that a file names is imported or called.

A pickle is a program. Torch files are run by `torch.load(weights_only=True)`, plain pickles by Python's unpickler
without any global. Neither bounds the time or the memory that a file made for that can take.
"""

import gzip
import io
import pickle
import pickletools
import zipfile
import zlib
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the pickled number that files of torch before 1.6 begin with
LEGACY_PICKLES = 5  # that number, a version, the machine, the object, the keys of its storages

# what the released checkpoints hold beside tensors: their options, and the type hints and numpy numbers in them
PACKAGES = ("argparse", "fairseq", "omegaconf", "typing")
INERT = {f"builtins.{name}" for name in ("type", "int", "float", "bool", "str", "list", "dict", "tuple", "Ellipsis")}
INERT |= {"_operator.getitem", "operator.getitem", "_operator.or_", "functools.reduce", "_functools.reduce"}
INERT |= {"types.GenericAlias", "numpy.dtype", "numpy.ndarray"}
INERT |= {f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")}


class Placeholder:
    """Stands for an object of another package, without its arguments, state and behaviour."""

    def __init__(self, *ignored):
        pass

    __setstate__ = __init__


def load_pickle(path: str | Path) -> Any:
    """Read a pickle of plain data, gzip or not; ValueError names the file, and the global that it names."""
    path, data = Path(path), unpacked(path)
    try:
        return PlainUnpickler(io.BytesIO(data)).load()
    except Exception as error:  # a broken program can fail in any way
        raise _refusal(path, error) from error


def load_torch(path: str | Path) -> Any:
    """Read a `torch.save` file, of any torch since 0.1.9, with its tensors on the CPU; ValueError as `load_pickle`.

    A file of torch 1.6 or later is memory-mapped. Objects of PACKAGES and INERT become `Placeholder`s.
    """
    import torch  # here, so that who reads annotations does not wait for it

    path = Path(path)
    with path.open("rb") as file:
        zipped = zipfile.is_zipfile(file)
    try:
        known = [_known(name) for name in (_zip_globals if zipped else _legacy_globals)(path)]
        with torch.serialization.safe_globals([pair for pair in known if pair]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except Exception as error:
        raise _refusal(path, error) from None


def unpacked(path: str | Path) -> bytes:
    """The content of a file, unpacked if it is gzip."""
    data = Path(path).read_bytes()
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is a damaged gzip file ({error}); fetch it again") from None


class PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise ValueError(f"it names the global '{module}.{name}', which is refused: only data is read")


def _globals(file: BinaryIO) -> set[str]:
    """The globals that a pickle names, as Python 3 calls them."""
    instructions: Any = pickletools.genops(file)
    named = [name.split(" ", 1) for code, name, _ in instructions if code.name in ("GLOBAL", "INST")]
    renamed: Any = [
        NAME_MAPPING.get((module, name)) or (IMPORT_MAPPING.get(module, module), name) for module, name in named
    ]
    return {".".join(pair) for pair in renamed}


def _zip_globals(path: Path) -> Iterable[str]:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        if "constants.pkl" in members:
            raise ValueError("it is a TorchScript program; save its state_dict() with torch.save instead")
        if "data.pkl" not in members or any(info.compress_type for info in members.values()):
            raise ValueError("it is a zip file, but not of torch.save")
        return _globals(io.BytesIO(archive.read(members["data.pkl"])))


def _legacy_globals(path: Path) -> Iterable[str]:
    with path.open("rb") as file:
        if (head := file.read(len(LEGACY))) != LEGACY:
            raise ValueError(f"it is not a torch.save file: it begins with {head!r}; fetch it again")
        file.seek(0)
        return set().union(*(_globals(file) for _ in range(LEGACY_PICKLES)))


def _known(name: str) -> tuple | None:
    """What stands for a global, with its name; None for one that torch itself knows. ValueError for any other."""
    from torch._weights_only_unpickler import _get_allowed_globals

    if name == "collections.defaultdict":
        return (lambda *ignored: {}), name
    if name in INERT or name.partition(".")[0] in PACKAGES:
        return _placeholder(name), name
    if name not in _get_allowed_globals():
        raise ValueError(f"it names the global {name!r}, which is refused: only data is read")
    return None


@cache
def _placeholder(name: str) -> type:
    return type(name, (Placeholder,), {})


def _refusal(path: Path, error: Exception) -> ValueError:
    reason = str(error) if isinstance(error, ValueError) else f"{type(error).__name__} {error}"
    # torch goes on to advise loading with weights_only=False
    reason = reason.rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0]
    return ValueError(f"{path} cannot be read as plain data: {reason}")
