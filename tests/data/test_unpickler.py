"""However deep or wide a pickle nests, it is read or refused: the process lives on, and no error's text is endless."""

import gzip
import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vclip.data.pickle_globals import Placeholder
from vclip.data.pickles import LEGACY_MAGIC, load_pickle
from vclip.data.unpickler import MAX_DEPTH, MAX_PARTS

# instructions before and after what goes into a container, whether they hash it, and whether the result has a hash
WRAPPED = {
    "TUPLE1": (b"", b"\x85", False, True),
    "TUPLE": (b"(", b"t", False, True),
    "TUPLE2": (b"N", b"\x86", False, True),
    "TUPLE3": (b"NN", b"\x87", False, True),
    "LIST": (b"(", b"l", False, False),
    "APPEND": (b"]", b"a", False, False),
    "APPENDS": (b"](NN", b"e", False, False),
    "DICT": (b"(N", b"d", False, False),
    "key in DICT": (b"(", b"Nd", True, False),
    "SETITEM": (b"}N", b"s", False, False),
    "key in SETITEM": (b"}", b"Ns", True, False),
    "SETITEMS": (b"}(NNK\x01", b"u", False, False),
    "key in SETITEMS": (b"}(", b"Nu", True, False),
    "ADDITEMS": (b"\x8f(", b"\x90", True, False),
    "FROZENSET": (b"(", b"\x91", True, True),
    "placeholder, REDUCE": (b"cargparse\nNamespace\n", b"\x85R", False, True),
    "placeholder, NEWOBJ_EX": (b"cargparse\nNamespace\n)}X\x01\x00\x00\x00a", b"s\x92", False, True),
    "placeholder, OBJ": (b"(cargparse\nNamespace\n", b"o", False, True),
    "placeholder, INST": (b"(", b"iargparse\nNamespace\n", False, True),
    "placeholder, BUILD": (b"cargparse\nNamespace\n)R", b"b", False, True),
}


def program(*layers, core=b"N"):
    """A pickle of `core` in containers, from the innermost outwards: pairs of a kind and how often."""
    before = b"".join(WRAPPED[kind][0] * times for kind, times in reversed(layers))
    return b"\x80\x04" + before + core + b"".join(WRAPPED[kind][1] * times for kind, times in layers) + b"."


def inside(value):
    """What a container holds beside None and the key 1."""
    if isinstance(value, Placeholder):
        held = [*value.args, *value.kwargs.values(), value.state]
    else:
        held = [*value, *value.values()] if isinstance(value, dict) else list(value)
    return next((part for part in held if part is not None and part != 1), None)


@given(st.lists(st.tuples(st.sampled_from(sorted(WRAPPED)), st.sampled_from([1, 2, 300, 900, 1000])), max_size=5))
def test_any_nesting_is_read_up_to_the_depth_that_is_refused(tmp_path_factory, layers):
    path = tmp_path_factory.getbasetemp() / "nested.pkl"
    path.write_bytes(program(*layers))
    depth, hashable, possible = 0, True, True
    for kind, times in layers:
        hashes, hashed = WRAPPED[kind][2:]
        possible &= hashable or not hashes
        possible &= times == 1 or hashed or not hashes
        hashable = hashed and (hashable or not kind.startswith("TUPLE"))
        depth += times
    if possible and depth <= MAX_DEPTH:
        loaded = load_pickle(path)
        for _ in range(depth):
            loaded = inside(loaded)
        assert loaded is None
    else:
        with pytest.raises(ValueError, match="nest more than 1000 deep|unhashable"):
            load_pickle(path)


def outer_first(start, put, count, key=b""):
    """Containers each put into the one before while still empty, so that none is deep when it is filled."""
    numbers = [struct.pack("<I", i) for i in range(count + 1)]
    links = (b"j" + numbers[i] + key + start + b"r" + numbers[i + 1] + put + b"0" for i in range(count))
    return start + b"r" + numbers[0] + b"".join(links) + b"."


# each of ninety holds the one before twice: 2 ** 90 parts to whoever does not look which are the same
TUPLES = b"N" + b"2\x86" * 90
LISTS = b"Nq\x000" + b"](h\x00h\x00eq\x000" * 90 + b"h\x00"
FROZENSETS = b"Nq\x000" + b"(h\x00K\x01\x86h\x00K\x02\x86\x91q\x000" * 90 + b"h\x00"
DEEP = 200_000
BYTE = b"(C\x01acnumpy\ndtype\n(X\x02\x00\x00\x00u1tR"
HOSTILE = {
    **{kind: program((kind, DEEP if kind.startswith(("TUPLE", "key")) else DEEP // 10)) for kind in WRAPPED},
    "a key two million deep": gzip.compress(b"\x80\x04}N" + b"\x85" * 2_000_000 + b"Ns."),
    "a call of a deep value": b"\x80\x04N" + b"\x85" * DEEP + b")R.",
    "a set by a call": b"\x80\x04cbuiltins\nset\n](N" + b"\x85" * DEEP + b"e\x85R.",
    "an ordered dict by a call": b"ccollections\nOrderedDict\n](](N" + b"\x85" * DEEP + b"Nee\x85R.",
    "tuples by calls": b"cbuiltins\ntuple\n](" * (DEEP // 4) + b"N" + b"e\x85R" * (DEEP // 4) + b".",
    "frozensets by calls": b"cbuiltins\nfrozenset\n](" * (DEEP // 4) + b"N" + b"e\x85R" * (DEEP // 4) + b".",
    "lists, the outer first": outer_first(b"]", b"a", DEEP // 4),
    "dicts, the outer first": outer_first(b"}", b"s", DEEP // 4, key=b"N"),
    "states, the outer first": outer_first(b"cargparse\nNamespace\n)R", b"b", DEEP // 10),
    "tuples twice": TUPLES + b".",
    "a key of tuples twice": b"}" + TUPLES + b"Ns.",
    "a set of frozensets twice": b"\x80\x04\x8f(" + FROZENSETS + b"\x90.",
    "a call of lists twice": LISTS + b")R.",
    "a state of lists twice": LISTS + b"}b.",
    "an item of lists twice": b"c_operator\ngetitem\n" + LISTS + b"N\x86R.",
    "a dtype of lists twice": b"cnumpy\ndtype\n" + LISTS + b"\x85R.",
    "an encoding of lists twice": b"c_codecs\nencode\nX\x01\x00\x00\x00a" + LISTS + b"\x86R.",
    "a storage of lists twice": b"(X\x07\x00\x00\x00storage" + LISTS + b"NNK\x01tQ.",
    "a shape that repeats a tuple": b"cnumpy._core.numeric\n_frombuffer\n"
    + BYTE
    + b"(J\x00\x00\x10\x00("
    + b"K\x01" * 200
    + b"tttR.",
    "a bytearray of 3 GB": b"\x80\x05\x96" + struct.pack("<Q", 3 << 30) + b"a.",
    "an item of an array": b"cnumpy._core.numeric\n_frombuffer\n" + BYTE + b"K\x01\x85tRK\x00K\x05s.",
}


def in_torch_zip(data):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", data)
    return file.getvalue()


def in_legacy_format(keys):
    head = [pickle.dumps(part, 2) for part in (LEGACY_MAGIC, 1001, {"little_endian": True}, None)]
    return b"".join(head) + keys


READ_ALL = """
import resource, sys
from memory import peak_mb
from pathlib import Path
from vclip.data.pickles import load_pickle, load_torch
resource.setrlimit(resource.RLIMIT_DATA, (8 << 30, 8 << 30))
for path in sorted(Path(sys.argv[1]).iterdir()):
    print(path.name, end=" ", flush=True)
    try:
        value = load_pickle(path) if path.suffix == ".pkl" else load_torch(path)
        for use in (hash, repr):
            try:
                use(value)
            except (TypeError, RecursionError):
                pass
        del value
        print("read", flush=True)
    except ValueError as error:
        print("refused", len(str(error)), flush=True)
print("memory", round(peak_mb()), "MB")
"""


def test_no_file_ends_the_process(tmp_path):
    kinds, files = list(HOSTILE), tmp_path / "files"
    files.mkdir()
    for i, data in enumerate(HOSTILE.values()):
        (files / f"{i}.pkl").write_bytes(data)
    for i in (kinds.index("key in SETITEM"), kinds.index("a storage of lists twice")):
        (files / f"{i}.pt").write_bytes(in_torch_zip(HOSTILE[kinds[i]]))
    (files / "keys.pt").write_bytes(in_legacy_format(b"](N" + b"\x85" * DEEP + b"e."))
    names = {path.name for path in files.iterdir()}
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", READ_ALL, files]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, (done.stdout[-300:], done.stderr[-300:])
    *told, memory = [line.split() for line in done.stdout.splitlines()]
    assert {name for name, *_ in told} == names
    read = {kinds[int(name.partition(".")[0])] for name, what, *_ in told if what == "read"}
    assert read == {kind for kind in kinds if kind.endswith("the outer first")}
    assert all(int(length) < 1000 for _, what, *lengths in told for length in lengths)
    assert int(memory[1]) < 2000


@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1])
def test_the_depth_is_counted_through_calls(tmp_path, depth):
    """Python pickles a frozenset as a call below protocol 4, and an OrderedDict always."""
    path, half = tmp_path / "a.pkl", depth // 2
    layers = b"\x80\x02" + b"c__builtin__\nfrozenset\n](" * half + b"N" + b"e\x85R" * half
    path.write_bytes(layers + b"\x85" * (depth - half) + b".")
    if depth > MAX_DEPTH:
        with pytest.raises(ValueError, match="nest more than 1000 deep"):
            load_pickle(path)
    else:
        assert isinstance(load_pickle(path), tuple)


def test_wide_and_shared_data_is_not_taken_for_nested(tmp_path):
    row = ("a", (1, 2))
    nodes = [{"row": row, "of": None} for _ in range(3000)]
    parent = {"nodes": nodes, "rows": tuple([row] * 100_000), "ordered": OrderedDict((i, [row]) for i in range(3000))}
    for node in nodes:
        node["of"] = parent
    path = tmp_path / "a.pkl"
    for protocol in (0, 2, 4):
        path.write_bytes(pickle.dumps(parent, protocol))
        loaded = load_pickle(path)
        assert len(loaded["rows"]) == 100_000 and loaded["nodes"][-1]["of"] is loaded
        assert loaded["rows"][0] is loaded["nodes"][0]["row"] and loaded["ordered"] == parent["ordered"]
    path.write_bytes(b"(" + b"N" * (MAX_PARTS // 20) + b"tq\x00" + b"(" + b"h\x00" * 21 + b"t.")
    with pytest.raises(ValueError, match="a tuple of more than 10000000 parts"):
        load_pickle(path)
