"""Pickles and torch files of others, read as data: no global that a file names is imported or called.

A pickle is a program. Torch files are run by `torch.load(weights_only=True)`, plain pickles by Python's unpickler
without any global. Neither bounds the time or the memory that a file made for that can take.
"""

import gzip
import io
import pickle
import re
import zipfile
import zlib
from pathlib import Path
from typing import Any

from vclip.data.text import what_is_wrong

LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the pickled number that files of torch before 1.6 begin with
REFUSED = re.compile("GLOBAL (.+?) (?:was not an allowed global|whose module)")  # in torch's messages

# what the released checkpoints hold beside tensors: their options, and the type hints and numpy numbers in them
INERT = re.compile(
    r"(argparse|fairseq|omegaconf|typing)(\..*)?|builtins\.(type|int|float|bool|str|list|dict|tuple|Ellipsis)"
    r"|types\.GenericAlias|_?operator\.getitem|_operator\.or_|_?functools\.reduce"
    r"|numpy\.(dtype|ndarray|_?core\.multiarray\.(scalar|_reconstruct))"
)
MOST_INERT = 100  # names in one file
NAMES = "it names the global {!r}, which is refused: only data is read"


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

    A file of torch 1.6 or later is memory-mapped. Objects that INERT names become `Placeholder`s.
    """
    import torch  # here, so that who reads annotations does not wait for it

    inert: dict[str, Any] = {"collections.defaultdict": lambda *ignored: {}}
    try:
        program = _program(path)
        while True:
            try:
                with torch.serialization.safe_globals([(stand_in, name) for name, stand_in in inert.items()]):
                    return torch.load(path, map_location="cpu", weights_only=True, mmap=program is not None)
            except pickle.UnpicklingError as error:
                name = _refused_global(error, program)
                if not INERT.fullmatch(name) or name in inert or len(inert) == MOST_INERT:
                    raise ValueError(NAMES.format(name)) from None
                inert[name] = type(name, (Placeholder,), {})
    except Exception as error:
        raise _refusal(path, error) from None


def unpacked(path: str | Path) -> bytes:
    """The content of a file, unpacked if it is gzip."""
    data = Path(path).read_bytes()
    if why := what_is_wrong(path, ""):
        raise ValueError(f"{path} cannot be read: {why}")
    if data[:2] != b"\x1f\x8b":
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is a damaged gzip file ({error}); fetch it again") from None


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
        if "constants.pkl" in members:
            raise ValueError("it is a TorchScript program; save its state_dict() with torch.save instead")
        if "data.pkl" not in members or any(info.compress_type for info in members.values()):
            raise ValueError("it is a zip file, but not of torch.save")
        return archive.read(members["data.pkl"])


def _refused_global(error: pickle.UnpicklingError, program: bytes | None) -> str:
    """The global for which torch refused a program; raises the error if it was refused for something else."""
    if named := REFUSED.search(str(error)):
        return named[1] if "." in named[1] else f"builtins.{named[1]}"
    if program and "Unsupported operand" in str(error):  # not written by torch.save: Python names what it asks for
        PlainUnpickler(io.BytesIO(program)).load()
    raise error


def _refusal(path: str | Path, error: Exception) -> ValueError:
    reason = what_is_wrong(path, error if isinstance(error, ValueError) else f"{type(error).__name__} {error}")
    # torch goes on to advise loading with weights_only=False
    reason = reason.rpartition("WeightsUnpickler error: ")[2].strip().partition("\n")[0]
    return ValueError(f"{path} cannot be read as plain data: {reason}")
