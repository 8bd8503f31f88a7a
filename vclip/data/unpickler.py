"""The machine that reads pickles as data: Python's own unpickler with every call replaced.

A pickle is a program. `DataUnpickler` runs it on a machine that knows only the globals in `pickle_globals`, and
refuses every other by name. Nesting is bounded: `hash` recurses on the C stack without a check, and a few tuples that
each hold the one before twice take for ever to hash. Text of a nested value is made nowhere: it too can be endless.
"""

import pickle
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO, ClassVar

import numpy as np

from vclip.data.pickle_globals import INERT, KNOWN, Known, Placeholder, array_state, dtype_state, shown

MAX_DEPTH = 1_000  # containers within containers
MAX_PARTS = 10_000_000  # of a tuple or frozenset and those within it, one that occurs twice counted twice
HASHED = (tuple, frozenset)
FILLED = (list, dict, set, Placeholder)


def _parts(whole: Any) -> Iterable[Any]:
    if isinstance(whole, Placeholder):
        return [*whole.args, *whole.kwargs.values()]
    if isinstance(whole, dict):
        return [*whole, *whole.values()]
    return whole if isinstance(whole, (*HASHED, list, set)) else ()


def _making(load: Callable) -> Callable:  # of an instruction that pushes a container with its parts
    def made(self: "DataUnpickler") -> None:
        load(self)
        self.measure(self.stack[-1], _parts(self.stack[-1]))

    return made


# of an instruction that puts the last `count` values, or those above the mark, into the container below them
def _filling(load: Callable, count: int | None) -> Callable:
    def filled(self: "DataUnpickler") -> None:
        whole, parts = (self.stack[-count - 1], self.stack[-count:]) if count else (self.metastack[-1][-1], self.stack)
        if not isinstance(whole, FILLED):
            raise ValueError(f"it puts items into {shown(whole)}, which is refused")
        if not isinstance(whole, Placeholder):  # which drops them
            self.measure(whole, parts)
        load(self)

    return filled


_loads: dict[int, Callable] = pickle._Unpickler.dispatch
_makers = (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.LIST, pickle.DICT, pickle.FROZENSET)
_fillers = {pickle.APPEND: 1, pickle.SETITEM: 2, pickle.APPENDS: None, pickle.SETITEMS: None, pickle.ADDITEMS: None}


class DataUnpickler(pickle._Unpickler):
    """Python's own unpickler with each instruction that calls something replaced, and nesting measured."""

    stack: list[Any]
    metastack: list[list[Any]]
    memo: dict[int, Any]
    append: Callable[[Any], None]
    read: Callable[[int], bytes]

    def __init__(self, file: BinaryIO, encoding: str = "ASCII"):
        super().__init__(file, encoding=encoding)
        self.measures: dict[int, tuple[int, int, Any]] = {}

    def measured(self, what: Any) -> tuple[int, int, Any]:
        """The depth and the number of parts of a container; itself, that its id stays its own."""
        return self.measures.get(id(what)) or (1, len(what) if isinstance(what, HASHED) else 1, what)

    def measure(self, whole: Any, parts: Iterable[Any]) -> None:
        """Remember how `whole` nests now that it gets `parts`. ValueError if it nests too deep or has too many parts.

        What is put into a list or dict after it went into another does not count there. Such chains harm nobody: only
        tuples and frozensets are hashed, and they are complete when they are made.
        """
        inner = [self.measured(part) for part in parts if isinstance(part, HASHED + FILLED)]
        if not inner:
            return
        depth, size, _ = self.measured(whole)
        depth = max(depth, 1 + max(depth for depth, _, _ in inner))
        if depth > MAX_DEPTH:
            raise ValueError(f"its containers nest more than {MAX_DEPTH} deep, which is refused")
        if isinstance(whole, HASHED):
            size = len(whole) + sum(size for _, size, _ in inner)
        if size > MAX_PARTS:
            raise ValueError(f"it holds a {type(whole).__name__} of more than {MAX_PARTS} parts, which is refused")
        self.measures[id(whole)] = (depth, size, whole)

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] in INERT:
            return type(f"{module}.{name}", (Placeholder,), {})
        full = f"{module}.{name}"
        if full not in KNOWN:
            raise ValueError(f"it names the global {full!r}, which is refused: only data is read, nothing is executed")
        return KNOWN[full]

    def make(self, what: Any, args: Any, kwargs: dict | None = None) -> Any:
        if isinstance(what, type) and issubclass(what, Placeholder):
            result = what(*args, **kwargs or {})
        elif not isinstance(what, Known) or what.call is None or kwargs or not isinstance(args, tuple):
            raise ValueError(f"it calls {shown(what)}, which is refused")
        else:
            result = what.call(*args)
        self.measure(result, _parts(result))
        return result

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
            self.measure(target, [state])
            target.state = state
        elif isinstance(target, np.dtype):
            new = dtype_state(target, state)
            self.memo.update({key: new for key, value in self.memo.items() if value is target})
            self.stack[-1] = new
        elif type(target) is np.ndarray:
            array_state(target, state)
        elif not isinstance(target, OrderedDict):  # torch's metadata of a state dict is not needed
            raise ValueError(f"it sets the state of {shown(target)}, which is refused")

    def load_extension(self) -> None:
        raise ValueError("it uses an extension code, which is refused")

    def load_bytearray8(self) -> None:  # Python's own makes room for as many bytes as the file claims
        size = int.from_bytes(self.read(8), "little")
        data = bytearray(self.read(size))
        if len(data) != size:
            raise ValueError(f"it ends within a bytearray of {size} bytes")
        self.append(data)

    dispatch: ClassVar[dict[int, Callable]] = _loads | {
        pickle.REDUCE[0]: load_reduce,
        pickle.NEWOBJ[0]: load_reduce,
        pickle.NEWOBJ_EX[0]: load_newobj_ex,
        pickle.BUILD[0]: load_build,
        pickle.EXT1[0]: load_extension,
        pickle.EXT2[0]: load_extension,
        pickle.EXT4[0]: load_extension,
        pickle.BYTEARRAY8[0]: load_bytearray8,
        **{code[0]: _making(_loads[code[0]]) for code in _makers},
        **{code[0]: _filling(_loads[code[0]], count) for code, count in _fillers.items()},
    }
