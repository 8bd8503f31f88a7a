"""Pickles and torch files of others, read as data: no global that a file names is imported or called.

A pickle is a program. Torch files are run by `torch.load(weights_only=True)`, plain pickles by Python's unpickler
without any global. Both first pass `measure`, for a short program can ask for endless time or memory.
"""

import _compat_pickle
import gzip
import io
import pickle
import pickletools
import zipfile
import zlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the pickled number that files of torch before 1.6 begin with
LEGACY_PICKLES = 5  # that number, a version, the machine, the object, the keys of its storages
WORK = 10_000_000
FILLS = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}

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
        measure(io.BytesIO(data))
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
    limit = 2**20 + 100 * len(data)  # text packs to a tenth
    try:
        content = gzip.GzipFile(fileobj=io.BytesIO(data)).read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is a damaged gzip file ({error}); fetch it again") from None
    if len(content) > limit:
        raise ValueError(f"{path} unpacks to more than 100 times its size, which is refused")
    return content


class PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise ValueError(f"it names the global '{module}.{name}', which is refused: only data is read")


def measure(file: BinaryIO) -> set[str]:
    """The globals that a pickle names, as Python 3 calls them; ValueError if building it would take too much.

    Each instruction is charged with the size of what it takes from the stack, all in proportion to the bytes read: that
    bounds copies of one list, the hashing of tuples that share their parts, and depth.
    """
    names, work, memo = set(), 0, {}
    stack, marks = [], [0]  # sizes, each in a list since a container can grow; where marks stand
    first = file.tell()
    instructions: Any = pickletools.genops(file)
    for code, argument, position in instructions:
        begin = len(stack) - len(code.stack_before)
        if pickletools.markobject in code.stack_before:
            begin = marks.pop() - code.stack_before.index(pickletools.markobject)
        if begin < marks[-1]:
            raise ValueError("its instructions take more than there is")
        taken = stack[begin:]
        del stack[begin:]
        size = 1 + sum([part[0] for part in taken])
        if code.name == "MARK":
            marks.append(len(stack))
        elif code.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            key = len(memo) if argument is None else argument
            if key > position:  # Python makes room for as many
                raise ValueError(f"it numbers an object {key}, which is refused")
            stack += taken
            memo[key] = stack[-1]
        elif code.name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif code.name == "DUP":
            stack += taken * 2
        elif code.name in FILLS:
            work += size - taken[0][0]
            taken[0][0] = size
            stack.append(taken[0])
        elif code.stack_after:
            if code.name in ("GLOBAL", "INST"):
                names.add(_python3(*argument.split(" ", 1)))
            work += size
            stack.append([size + (len(argument) // 16 if isinstance(argument, str | bytes | bytearray) else 0)])
        if work > WORK + 8 * (position - first):
            raise ValueError("its parts nest or repeat too often, which is refused")
    return names


def _python3(module: str, name: str) -> str:
    mapped = _compat_pickle.NAME_MAPPING.get((module, name))
    return ".".join(mapped or (_compat_pickle.IMPORT_MAPPING.get(module, module), name))


def _zip_globals(path: Path) -> Iterable[str]:
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        if "constants.pkl" in members:
            raise ValueError("it is a TorchScript program; save its state_dict() with torch.save instead")
        if "data.pkl" not in members or any(info.compress_type for info in members.values()):
            raise ValueError("it is a zip file, but not of torch.save")
        return measure(io.BytesIO(archive.read(members["data.pkl"])))


def _legacy_globals(path: Path) -> Iterable[str]:
    with path.open("rb") as file:
        if (head := file.read(len(LEGACY))) != LEGACY:
            raise ValueError(f"it is not a torch.save file: it begins with {head!r}; fetch it again")
        file.seek(0)
        return set().union(*(measure(file) for _ in range(LEGACY_PICKLES)))


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
