"""What plain files hold comes back; what hostile files ask for never happens."""

import argparse
import builtins
import collections
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import typing
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from vclip.data.pickle_globals import Known, Placeholder
from vclip.data.pickles import load_pickle, load_torch

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def write(path, data):
    path.write_bytes(data)
    return path


def same(a, b):
    if isinstance(a, np.ndarray | np.generic):
        return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and np.array_equal(a, b)
    if isinstance(a, dict):
        return type(a) is type(b) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


# plain pickles


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_data_comes_back(tmp_path, protocol):
    data = {
        "numbers": [0, -1, 2**70, 1.5, float("inf"), True, None, 3 - 2j],
        "text": ["", "ä\n", b"", b"\x00\xff", bytearray(b"x"), bytearray()],
        ("tuple", 1): ({1, 2}, frozenset({"a"}), set(), (), ((),)),
        "ordered": collections.OrderedDict([("b", 1), ("a", [2])]),
        "arrays": [
            np.arange(6, dtype=np.float16).reshape(2, 3),
            np.asfortranarray(np.arange(6).reshape(2, 3)),
            np.arange(3, dtype=">i4"),
            np.arange(3, dtype="<i4"),
            np.array(["ab", "ü"]),
            np.array([True, False]),
            np.zeros((0, 3)),
            np.array(5.0),
            np.float32(2.5),
            np.bool_(True),
            np.int64(7),
        ],
        "dtypes": [np.dtype(">f8"), np.dtype("f4")],
    }
    loaded = load_pickle(write(tmp_path / "a.pkl", pickle.dumps(data, protocol)))
    assert same(loaded, pickle.loads(pickle.dumps(data, protocol)))  # numpy makes some arrays native-endian
    loaded["arrays"][0][0, 0] = 9  # arrays are writable


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shared_and_cyclic_objects_stay_so(tmp_path, protocol):
    array, loop = np.arange(3), []
    loop.append(loop)
    first, second, again = load_pickle(write(tmp_path / "a.pkl", pickle.dumps([array, array, loop], protocol)))
    assert first is second and again[0] is again


def test_names_of_older_numpy(tmp_path):
    data = pickle.dumps([np.arange(4), np.float64(2)], 2).replace(b"numpy._core", b"numpy.core")
    assert b"numpy.core.multiarray" in data
    assert same(load_pickle(write(tmp_path / "a.pkl", data)), [np.arange(4), np.float64(2)])


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=12,
)


@given(plain, st.sampled_from(PROTOCOLS))
def test_any_plain_data(tmp_path_factory, data, protocol):
    path = tmp_path_factory.getbasetemp() / "any.pkl"
    assert same(load_pickle(write(path, pickle.dumps(data, protocol))), data)


def test_placeholders_are_inert(tmp_path):
    arguments = argparse.Namespace(arch="mmfusion", data=["a"])
    data = pickle.dumps({"args": arguments}, 2)
    loaded = load_pickle(write(tmp_path / "a.pkl", data))["args"]
    assert isinstance(loaded, Placeholder) and not isinstance(loaded, argparse.Namespace)
    assert loaded.state == {"arch": "mmfusion", "data": ["a"]}
    assert repr(loaded) == "Placeholder(argparse.Namespace)"
    called = b"cfairseq.tasks.mmtask\nload\n(S'x'\nI3\ntR."
    loaded = load_pickle(write(tmp_path / "b.pkl", called))
    assert loaded.args == ("x", 3) and "fairseq" not in sys.modules


def test_what_omegaconf_pickles(tmp_path):
    """The globals in real pickles of omegaconf 2.0 and 2.3: hints, also subscripted, builtin types and defaultdict."""
    held = [typing.Any, int, float, str, bool, collections.defaultdict(list, a=[1])]
    loaded = load_pickle(write(tmp_path / "a.pkl", pickle.dumps(held, 2)))
    assert loaded[5] == {"a": [1]} and type(loaded[5]) is dict
    assert not any(value in held[:5] for value in loaded[:5])
    hint = b"c_operator\ngetitem\n(ctyping\nOptional\nc__builtin__\nstr\ntR."
    assert isinstance(load_pickle(write(tmp_path / "b.pkl", hint)), Placeholder)
    for program in (b"cbuiltins\nint\n(I1\ntR.", b"c_operator\ngetitem\n((lI0\ntR."):
        with pytest.raises(ValueError, match="refused"):
            load_pickle(write(tmp_path / "c.pkl", program))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    "hint",
    [
        typing.Any,
        typing.Optional[str],  # noqa: UP045
        typing.Optional[typing.List[int]],  # noqa: UP006, UP045
        typing.Union[int, float, None],  # noqa: UP007
        typing.Tuple[int, ...],  # noqa: UP006
        typing.Callable[..., typing.Dict[str, typing.Any]],  # noqa: UP006
        type(None),
        int | None,
        list[str] | dict[str, float | None],
    ],
    ids=str,
)
def test_type_hints_are_inert(tmp_path, hint, protocol):
    assert pickle.loads(pickle.dumps(hint, protocol)) == hint  # the oracle: Python's own gives the type
    loaded = load_pickle(write(tmp_path / "a.pkl", pickle.dumps({"hint": hint, "kept": [1]}, protocol)))
    stand_in = loaded["hint"]
    assert loaded["kept"] == [1]
    assert isinstance(stand_in, Placeholder | Known) or issubclass(stand_in, Placeholder)


# hostile pickles


class Calls:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


TOUCH = b"(S'touch BEACON'\n"
HOSTILE = {
    "os.system": (b"cos\nsystem\n" + TOUCH + b"tR.", "os.system"),
    "protocol 4": (b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0ctouch BEACON\x85R.", "posix.system"),
    "attribute chain": (b"\x80\x04\x8c\x08builtins\x8c\x0deval.__call__\x93\x8c\x011\x85R.", "builtins.eval.__call__"),
    "chain below a known name": (
        b"\x80\x04\x8c\x0bcollections\x8c\x20OrderedDict.__init__.__globals__\x93.",
        "collections.OrderedDict.__init__.__globals__",
    ),
    "chain below argparse": (b"cargparse\n_sys.modules\n(S'os'\ntR(S'x'\ntR.", "calls Placeholder"),
    "INST": (b"(S'touch BEACON'\nios\nsystem\n.", "os.system"),
    "OBJ": (b"(cos\nsystem\nS'touch BEACON'\no.", "os.system"),
    "getattr": (b"cbuiltins\ngetattr\n(cargparse\nNamespace\nS'x'\ntR.", "builtins.getattr"),
    "exec, python 2 name": (b"c__builtin__\nexec\n(S'1'\ntR.", "__builtin__.exec"),
    "type": (b"cbuiltins\ntype\n(S'x'\ntR.", "builtins.type"),
    "type of a class": (b"c__builtin__\ntype\n(cargparse\nNamespace\ntR.", "builtins.type"),
    "type, a class made": (b"cbuiltins\ntype\n(S'x'\n(t(dtR.", "builtins.type"),
    "type, protocol 4": (b"\x80\x04\x8c\x08builtins\x8c\x04type\x93\x8c\x01x)}\x87R.", "builtins.type"),
    "type, NEWOBJ": (b"\x80\x02cbuiltins\ntype\n(S'x'\n(t(dt\x81.", "builtins.type"),
    "type, OBJ": (b"(cbuiltins\ntype\nS'x'\n(t(do.", "builtins.type"),
    "type, INST": (b"(S'x'\n(t(dibuiltins\ntype\n.", "builtins.type"),
    "type without arguments": (b"cbuiltins\ntype\n(tR.", "builtins.type"),
    "called type(None)": (b"cbuiltins\ntype\n(NtR(tR.", "calls Known(name='type(None)'"),
    "state of type(None)": (b"cbuiltins\ntype\n(NtR}S'x'\nI1\nsb.", "sets the state of Known"),
    "mro of type(None)": (b"cbuiltins\ngetattr\n(cbuiltins\ntype\n(NtRS'mro'\ntR.", "builtins.getattr"),
    "reduce": (b"c_functools\nreduce\n(c_codecs\nencode\n(S'a'\nS'b'\nttR.", "functools.reduce"),
    "reduce of a list": (b"c_functools\nreduce\n(c_operator\nor_\n(ltR.", "functools.reduce"),
    "reduce with a start": (b"c__builtin__\nreduce\n(c_operator\nor_\n(I1\ntI1\ntR.", "functools.reduce"),
    "or": (b"c_operator\nor_\n(I1\nI2\ntR.", "calls Known(name='_operator.or_'"),
    "called generic": (b"ctypes\nGenericAlias\n(c__builtin__\nlist\n(ttR(I1\ntR.", "calls Known"),
    "other operators": (b"c_operator\nattrgetter\n(S'x'\ntR.", "_operator.attrgetter"),
    "import": (b"cbuiltins\n__import__\n(S'os'\ntR.", "builtins.__import__"),
    "numpy's loader": (b"cnumpy\nload\n(S'x'\ntR.", "numpy.load"),
    "numpy runstring": (b"cnumpy.testing._private.utils\nrunstring\n(S'1'\n}tR.", "runstring"),
    "torch's bytes loader": (b"ctorch.storage\n_load_from_bytes\n(S'x'\ntR.", "torch.storage._load_from_bytes"),
    "torch jit": (b"ctorch.jit\nload\n(S'x'\ntR.", "torch.jit.load"),
    "copyreg": (b"ccopyreg\n_reconstructor\n(cargparse\nNamespace\ntR.", "copyreg._reconstructor"),
    "extension code": (b"\x80\x02\x82\x01.", "extension code"),
    "persistent id": (b"Pos.system\n.", "persistent"),
    "function state": (b"cnumpy\ndtype\n}S'__call__'\nI1\nsb.", "sets the state of Known"),
    "class state": (b"cargparse\nNamespace\n}S'__init__'\nI1\nsb.", "sets the state of <class"),
    "list state": (b"](I1\nI2\ntb.", "sets the state of"),
    "called list": (b"](I1\ntR.", "calls"),
    "called placeholder": (b"cargparse\nNamespace\n(tR(tR.", "calls Placeholder"),
    "called dtype": (b"cnumpy\ndtype\n(S'f4'\ntR(tR.", "calls dtype"),
    "object array": (pickle.dumps(np.array([{}, None], dtype=object), 2), "dtype 'O8'"),
    "structured array": (pickle.dumps(np.zeros(2, dtype=[("a", "f4")]), 2), "'V4'"),
}


@pytest.mark.parametrize("load", [load_pickle, load_torch])
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_pickles_run_nothing(tmp_path, monkeypatch, kind, load):
    program, name = HOSTILE[kind]
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    path = write(tmp_path / "bad", program if load is load_pickle else in_torch_zip(program))
    with pytest.raises(ValueError) as raised:
        load(path)
    assert str(path) in str(raised.value) and (name in str(raised.value) or "persistent" in kind)
    assert not (tmp_path / "BEACON").exists()
    assert not {module for module in set(sys.modules) - before if not module.startswith("encodings")}


def in_torch_zip(program):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/data/0", struct.pack("<4f", 1, 2, 3, 4))
    return file.getvalue()


@pytest.mark.parametrize(
    "function",
    [os.system, builtins.eval, builtins.exec, subprocess.Popen, torch.load, torch.hub.load, np.load, pickle.loads],
)
def test_hostile_calls_deep_inside(tmp_path, function):
    path = tmp_path / "bad.pkl"
    deep = {"a": [({"b": collections.OrderedDict(c=Calls(function, f"touch {tmp_path / 'BEACON'}"))},)]}
    for protocol in PROTOCOLS:
        write(path, pickle.dumps(deep, protocol))
        with pytest.raises(ValueError, match=f"{function.__name__}'.*refused"):
            load_pickle(path)
    torch.save({"model": {}, "cfg": deep}, path)
    with pytest.raises(ValueError, match=f"{function.__name__}'.*refused"):
        load_torch(path)
    assert not (tmp_path / "BEACON").exists()


def test_the_hostile_pickle_would_have_worked(tmp_path, monkeypatch):
    """The oracle: Python's own unpickler does what the file says."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(HOSTILE["os.system"][0])
    assert (tmp_path / "BEACON").exists()


def test_array_bytes_must_fill_the_array(tmp_path):
    data = pickle.dumps(np.arange(3, dtype=np.int64), 4)
    with pytest.raises(ValueError, match="does not take 24 bytes"):
        load_pickle(write(tmp_path / "a.pkl", data.replace(b"K\x01K\x03\x85", b"K\x01K\x09\x85")))
    # an object dtype in disguise: the flags that a dtype's state may set are not looked at
    objects = pickle.dumps(np.arange(1), 2).replace(b"X\x02\x00\x00\x00i8", b"X\x02\x00\x00\x00O8")
    with pytest.raises(ValueError, match="'O8'"):
        load_pickle(write(tmp_path / "b.pkl", objects))


@settings(max_examples=200)
@given(st.data())
def test_damaged_pickles_only_raise_value_error(tmp_path_factory, data):
    whole = pickle.dumps([np.arange(3), {"a": (1, "b")}, collections.OrderedDict(x=1), argparse.Namespace(y=2)], 4)
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 4)) if damaged else 0):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = write(tmp_path_factory.getbasetemp() / "damaged.pkl", bytes(damaged))
    try:
        load_pickle(path)
    except ValueError as error:
        assert str(path) in str(error)


# torch files


@pytest.mark.parametrize("variant", ["model_separate", "model_shared"])
def test_golden_checkpoints(shared, variant):
    folder = shared / "golden" / variant
    checkpoint = load_torch(folder / "checkpoint.pt")
    expected = load_file(folder / "state_dict.safetensors")
    assert {"args", "cfg", "model", "criterion", "optimizer_history", "task_state"} <= checkpoint.keys()
    assert checkpoint["model"].keys() == expected.keys()
    assert all(key.startswith("mmmodel.") for key in expected)
    for key, value in checkpoint["model"].items():
        assert torch.equal(value.to(expected[key].dtype), expected[key]), key
        if value.is_floating_point():
            assert value.dtype == (torch.float16 if variant == "model_shared" else torch.float32)
    placeholders = [value for value in checkpoint["cfg"].values() if isinstance(value, Placeholder)]
    assert placeholders and all(type(value).__name__ == "argparse.Namespace" for value in placeholders)


DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16]
DTYPES += [torch.int8, torch.uint8, torch.bool]


@pytest.mark.parametrize("zipped", [True, False])
def test_torch_files_come_back(tmp_path, zipped):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    base = torch.arange(24.0).reshape(4, 6)
    saved = {
        "net": net.state_dict(),
        "dtypes": {dtype: (torch.arange(5) % 2).to(dtype) for dtype in DTYPES},
        "views": [base, base.T, base[1:3, ::2], base[0, 0]],
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "size": torch.Size([2, 3]),
        "array": np.arange(3),
    }
    path = tmp_path / "a.pt"
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    loaded = load_torch(path)
    net.load_state_dict(loaded["net"], strict=True)
    assert torch.equal(loaded["net"]["0.weight"], net[0].weight)
    for dtype in DTYPES:
        assert loaded["dtypes"][dtype].dtype == dtype and torch.equal(loaded["dtypes"][dtype], saved["dtypes"][dtype])
    assert all(torch.equal(a, b) for a, b in zip(loaded["views"], saved["views"], strict=True))
    loaded["views"][0][0, 0] = 100  # views still share memory, and writing does not reach the file
    assert loaded["views"][3] == 100 and load_torch(path)["views"][3] == 0
    assert loaded["empty"].shape == (0, 3) and loaded["size"] == (2, 3)
    assert type(loaded["parameter"]) is torch.Tensor and loaded["parameter"].tolist() == [1, 1]
    assert same(loaded["array"], np.arange(3))


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_other_torch_files_are_refused(tmp_path):
    path = tmp_path / "a.pt"
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(ValueError, match="'torch.nn.modules.linear.Linear'"):
        load_torch(path)
    torch.jit.script(torch.nn.ReLU()).save(str(path))
    with pytest.raises(ValueError, match="TorchScript"):
        load_torch(path)
    with tarfile.open(path, "w") as archive:
        archive.add(__file__, "storages")
    with pytest.raises(ValueError, match="oldest format, a tar"):
        load_torch(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("arrays.npy", b"")
    with pytest.raises(ValueError, match="no data.pkl"):
        load_torch(path)
    for content in (b"", b"text", pickle.dumps({"a": 1})):
        with pytest.raises(ValueError, match=str(path)):
            load_torch(write(path, content))
    with pytest.raises(FileNotFoundError):
        load_torch(tmp_path / "none.pt")


def tensor_program(key="0", numel=4, offset=0, size=(4,), stride=(1,), kind="FloatStorage"):
    """A torch program whose tensor says what the arguments say of a storage of four floats."""
    numbers = ["(" + "".join(f"I{n}\n" for n in row) + "t" for row in (size, stride)]
    storage = f"(S'storage'\nctorch\n{kind}\nS'{key}'\nS'cpu'\nI{numel}\ntQ"
    return f"ctorch._utils\n_rebuild_tensor_v2\n({storage}I{offset}\n{numbers[0]}{numbers[1]}I00\nNtR.".encode()


@pytest.mark.parametrize(
    "lie",
    [
        {"size": (5,)},
        {"offset": 1},
        {"offset": -1},
        {"stride": (2,)},
        {"stride": (-1,)},
        {"size": (-4,)},
        {"numel": 5},
        {"numel": -4},
        {"kind": "DoubleStorage"},
        {"kind": "Size"},
        {"key": "1"},
        {"key": "../data.pkl"},
    ],
)
def test_tensors_cannot_reach_beyond_their_storage(tmp_path, lie):
    path = tmp_path / "a.pt"
    assert load_torch(write(path, in_torch_zip(tensor_program()))).tolist() == [1, 2, 3, 4]
    with pytest.raises(ValueError, match=str(path)):
        load_torch(write(path, in_torch_zip(tensor_program(**lie))))


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_torch_files(tmp_path, zipped):
    path = tmp_path / "a.pt"
    torch.save({"a": torch.arange(100.0), "b": torch.ones(3)}, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 17):
        with pytest.raises(ValueError, match=str(path)):
            load_torch(write(path, whole[:length]))
