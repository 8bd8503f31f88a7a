"""Pickles and torch files of others, read as data: no global that a file names is imported or called.

A pickle is a program. Torch files are run by `torch.load(weights_only=True)`, plain pickles by Python's unpickler
without any global, after `names_in` has seen that neither costs far more time or memory than its size.
"""

import gzip
import io
import os
import pickle
import pickletools
import re
import zipfile
import zlib
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from itertools import islice
from pathlib import Path
from typing import IO, Any

from vclip.data.text import what_is_wrong

LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the pickled number that files of torch before 1.6 begin with
REFUSED = re.compile("GLOBAL (.+?) (?:was not an allowed global|whose module)")  # in torch's messages

# what the released checkpoints hold beside tensors: their options, and the type hints and numpy numbers in them
INERT = re.compile(
    r"(argparse|fairseq|omegaconf|typing)(\..*)?|builtins\.(type|int|float|bool|str|list|dict|tuple|Ellipsis)"
    r"|types\.GenericAlias|_?operator\.getitem|_operator\.or_|_?functools\.reduce"
    r"|numpy\.(dtype|ndarray|_?core\.multiarray\.(scalar|_reconstruct))"
)
OF_TORCH = re.compile(r"torch\..*|collections\.(OrderedDict|Counter)|_codecs\.encode|builtins\.(set|complex)")
IN_PLACE = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}
NAMES = "it names the global {!r}, which is refused: only data is read"


class Placeholder:
    """Stands for an object of another package, without its arguments, state and behaviour."""

    def __init__(self, *ignored):
        pass

    __setstate__ = __init__


def load_pickle(path: str | Path) -> Any:
    """Read a pickle of plain data, gzip or not; ValueError names the file, and the global that it names."""
    data = unpacked(path)
    try:
        names_in(io.BytesIO(data), len(data))
        return PlainUnpickler(io.BytesIO(data)).load()
    except Exception as error:  # a broken program can fail in any way
        raise _refusal(path, error) from error


def load_torch(path: str | Path) -> Any:
    """Read a `torch.save` file, of any torch since 0.1.9, with its tensors on the CPU; ValueError as `load_pickle`.

    A file of torch 1.6 or later is memory-mapped. Objects that INERT names become `Placeholder`s.
    """
    import torch  # here, so that who reads annotations does not wait for it

    inert: dict[str, Any] = {"collections.defaultdict": lambda *ignored: {}}
    try:
        with open(path, "rb") as file:
            program = _program(path)
            size = len(program or b"") or os.fstat(file.fileno()).st_size
            # before 1.6: a number, the version, the system, the content, and the keys of the storages
            programs = [io.BytesIO(program)] if program else [file] * 5
            names = {name for program in programs for name in names_in(program, size)} - inert.keys()
        inert |= {name: type(name, (Placeholder,), {}) for name in names if INERT.fullmatch(name)}
        if other := [name for name in names - inert.keys() if not OF_TORCH.fullmatch(name)]:
            raise ValueError(NAMES.format(min(other)))
        with torch.serialization.safe_globals([(stand_in, name) for name, stand_in in inert.items()]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=program is not None)
    except Exception as error:
        named = REFUSED.search(str(error))
        raise _refusal(path, ValueError(NAMES.format(named[1])) if named else error) from None


def names_in(program: IO[bytes], size: int) -> set[str]:
    """The globals that a pickle names; ValueError if it costs far more time or memory than its `size`.

    The weight of an object is that of what it holds, each part counted wherever it is, as by who walks, copies or
    hashes it; what a call makes weighs thrice what it is given, as text does that is encoded. Each step costs the
    weight of what it takes in.
    """
    stack, memo, names, left = [], {}, set(), 100 * size + 10**6
    for op, arg, _ in pickletools.genops(program):
        if op.name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[arg])
            continue
        if op.name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if arg is None else arg] = stack[-1]
            left -= arg if arg is not None and arg > size else 0  # the unpickler makes room for so many
        elif op.name == "MARK":
            stack.append(None)
        else:
            before, taken = op.stack_before, []
            if pickletools.markobject in before:
                before = before[: before.index(pickletools.markobject)]
                while (top := stack.pop()) is not None:
                    taken.append(top)
            taken += [stack.pop() or [0] for _ in before]
            made = taken.pop() if op.name in IN_PLACE else [1 + (len(arg) if isinstance(arg, str | bytes) else 0)]
            weight = sum(part[0] for part in taken)
            made[0] += 3 * weight if op.name in ("REDUCE", "NEWOBJ") else weight
            stack += [made] * len(op.stack_after)
            left -= weight
        if op.name in ("GLOBAL", "INST"):
            module, name = str(arg).split(" ", 1)
            names.add(".".join(NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))))
        if left < 0:
            raise ValueError("it makes far more than a file of its size can hold: refused")
    return names


def unpacked(path: str | Path) -> bytes:
    """The content of a file, unpacked if it is gzip; ValueError if that is a hundred times as large, and 64 MB more."""
    data = Path(path).read_bytes()
    if why := what_is_wrong(path, ""):
        raise ValueError(f"{path} cannot be read: {why}")
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        with gzip.open(io.BytesIO(data)) as file:
            pieces = list(islice(iter(lambda: file.read(2**20), b""), 64 + len(data) * 100 // 2**20))
            if file.read(1):
                raise ValueError(f"{path} unpacks to over {len(pieces)} MB, which no text would: fetch it again")
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is a damaged gzip file ({error}); fetch it again") from None
    return b"".join(pieces)


class PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise ValueError(NAMES.format(f"{module}.{name}"))


def _program(path: str | Path) -> bytes | None:
    """The pickle in a zip file of `torch.save`; None for a file of torch before 1.6."""
    with open(path, "rb") as file:
        head, zipped = file.read(len(LEGACY)), zipfile.is_zipfile(file)
    if head == LEGACY:
        return None
    if not zipped:
        raise ValueError(f"it is not a torch.save file: it begins with {head!r}; fetch it again")
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        if "data.pkl" not in members or any(info.compress_type for info in members.values()):
            raise ValueError("it is a zip file, but not of torch.save")
        return archive.read(members["data.pkl"])


def _refusal(path: str | Path, error: Exception) -> ValueError:
    reason = what_is_wrong(path, error if isinstance(error, ValueError) else f"{type(error).__name__} {error}")
    # torch goes on to advise loading with weights_only=False
    reason = reason.rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0][:300]
    return ValueError(f"{path} cannot be read as plain data: {reason}")
