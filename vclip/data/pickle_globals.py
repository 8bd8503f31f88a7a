"""The globals that a pickle may name, each a `Known` that stands for a function of this module or for nothing.

Globals of argparse, fairseq and omegaconf, which the released checkpoints carry beside their weights, and of typing,
which omegaconf names, become inert `Placeholder` objects.
"""

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

INERT = ("argparse", "fairseq", "omegaconf", "typing")


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


def shown(what: Any) -> str:
    """What an error says of a value: the text of what cannot nest, of all else the type."""
    flat = isinstance(what, Known | Placeholder | np.dtype | type | str)
    return repr(what)[:200] if flat else f"a {type(what).__name__}"


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding not in ("latin1", "latin-1"):
        raise ValueError(f"bytes are stored as latin1, not {shown(encoding)}")
    return text.encode("latin1")


def _bytearray(data: bytes = b"") -> bytearray:
    if not isinstance(data, bytes):
        raise ValueError("a bytearray is made of bytes")
    return bytearray(data)


def _dtype(kind: str, align: bool = False, copy: bool = True) -> np.dtype:
    if not isinstance(kind, str) or not re.fullmatch(r"[<>|=]?[biufcSU][0-9]+", kind):
        raise ValueError(
            f"it holds an array of dtype {shown(kind)}; numbers and strings are read, objects and records not"
        )
    return np.dtype(kind, copy=True)


def dtype_state(dtype: np.dtype, state: tuple) -> np.dtype:
    _, order, *parts = state[:5]
    if order not in ("<", ">", "|", "=") or parts != [None, None, None]:
        raise ValueError(f"it holds an array of a structured dtype, {shown(dtype)}")
    return dtype.newbyteorder(order) if order in "<>" else dtype


def _array(raw, dtype: np.dtype, shape: tuple, order: Any = "C") -> np.ndarray:
    if not isinstance(dtype, np.dtype) or not isinstance(raw, bytes | bytearray):
        raise ValueError("an array is made of a dtype and bytes")
    if not isinstance(shape, tuple) or not all(isinstance(length, int) and length >= 0 for length in shape):
        raise ValueError("the shape of an array is a tuple of lengths")
    if dtype.itemsize == 0 or prod(shape) * dtype.itemsize != len(raw):
        raise ValueError(f"an array {shape} of {dtype} does not take {len(raw)} bytes")
    return np.frombuffer(bytearray(raw), dtype).reshape(shape, order=order)


def array_state(array: np.ndarray, state: tuple) -> None:
    shape, dtype, fortran, raw = state[-4:]
    checked = _array(raw, dtype, shape, "F" if fortran else "C")
    array.__setstate__((1, checked.shape, dtype, bool(fortran), bytes(raw)))  # pyright: ignore[reportArgumentType]


# omegaconf keeps type hints: `Optional[str]` is an item of typing.Union, and its `type(None)` a call; `int | None` is
# a reduction with `or`. Of such calls these forms alone are harmless.
def _subscript(what: Any, _: Any) -> Placeholder:
    if not isinstance(what, type) or not issubclass(what, Placeholder):
        raise ValueError(f"it takes an item of {shown(what)}, which is refused")
    return what()


def _none_type(*args: Any) -> Known:
    if len(args) != 1 or args[0] is not None:
        raise ValueError("it calls builtins.type, which is refused: type(None) alone is data")
    return Known("type(None)")


def _union(*args: Any) -> Known:
    if len(args) != 2 or args[0] is not KNOWN["_operator.or_"] or not isinstance(args[1], tuple):
        raise ValueError("it calls functools.reduce, which is refused: a union of types alone is data")
    return Known("a union of types")


_functions: dict[str, Callable | None] = {
    "collections.OrderedDict": OrderedDict,
    "collections.defaultdict": lambda *_: {},
    "_operator.getitem": _subscript,
    "_operator.or_": None,
    "_functools.reduce": _union,
    "__builtin__.reduce": _union,
    "types.GenericAlias": lambda *_: Known("a generic type"),
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
    _functions |= {f"{_module}.{name}": None for name in ("int", "long", "float", "bool", "str", "unicode", "Ellipsis")}
    _functions[f"{_module}.type"] = _none_type

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
