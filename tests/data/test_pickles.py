"""What plain files hold comes back; what hostile files ask for never happens."""

import argparse
import builtins
import collections
import gzip
import io
import os
import pickle
import struct
import subprocess
import sys
import typing
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from limits import run_limited
from safetensors.torch import load_file

from vclip.data.pickles import Placeholder, load_pickle, load_torch, unpacked

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def write(path, data):
    path.write_bytes(data)
    return path


def same(a, b):
    if isinstance(a, dict):
        return type(a) is type(b) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def in_torch_zip(program):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", program)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/data/0", struct.pack("<4f", 1, 2, 3, 4))
    return file.getvalue()


# plain pickles


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_data_comes_back(tmp_path, protocol):
    data = {
        "numbers": [0, -1, 2**70, 1.5, float("inf"), True, None],
        "text": ["", "ä\n", "a" * 300],
        ("tuple", 1): ((), ((),), [{}]),
    }
    if protocol > 2:
        data["bytes"] = [b"", b"\x00\xff"]
    if protocol > 3:
        data["sets"] = [{1, 2}, frozenset({"a"}), set()]
    if protocol > 4:
        data["bytearray"] = bytearray(b"x")
    whole = pickle.dumps(data, protocol)
    assert same(load_pickle(write(tmp_path / "a.pkl", whole)), data)
    assert same(load_pickle(write(tmp_path / "a.pkl.gz", gzip.compress(whole))), data)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_shared_and_cyclic_objects_stay_so(tmp_path, protocol):
    part, loop = [1], []
    loop.append(loop)
    first, second, again = load_pickle(write(tmp_path / "a.pkl", pickle.dumps([part, part, loop], protocol)))
    assert first is second and again[0] is again


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4) | st.tuples(inner, inner),
    max_leaves=12,
)


@given(plain, st.sampled_from(PROTOCOLS))
def test_any_plain_data(tmp_path_factory, data, protocol):
    path = tmp_path_factory.getbasetemp() / "any.pkl"
    assert same(load_pickle(write(path, pickle.dumps(data, protocol))), data)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@settings(max_examples=200)
@given(st.data())
def test_damaged_pickles_only_raise_value_error(tmp_path_factory, data):
    whole = pickle.dumps([(1, 2.5), {"a": (1, "b")}, {"c": [None, b"bytes"]}, {3}], 4)
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for _ in range(data.draw(st.integers(0, 4)) if damaged else 0):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.pkl"
    for load, content in ((load_pickle, bytes(damaged)), (load_torch, in_torch_zip(bytes(damaged)))):
        try:
            load(write(path, content))
        except ValueError as error:
            assert str(path) in str(error)


def test_gzip_is_unpacked(tmp_path):
    text = os.urandom(50_000).hex().encode()
    assert unpacked(write(tmp_path / "a.gz", gzip.compress(text))) == text
    assert unpacked(write(tmp_path / "empty", b"")) == b""
    with pytest.raises(ValueError, match=r"cut.pkl is a damaged gzip file"):
        load_pickle(write(tmp_path / "cut.pkl", gzip.compress(text)[:-9]))


# hostile pickles


class Calls:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


TOUCH = b"(X\x0c\x00\x00\x00touch BEACON"
HOSTILE = {
    "os.system": (b"\x80\x02cos\nsystem\n" + TOUCH + b"tR.", "os.system"),
    "OBJ": (b"(cos\nsystem\nS'touch BEACON'\no.", "os.system"),
    "INST": (b"(S'touch BEACON'\nios\nsystem\n.", "os.system"),
    "chain below argparse": (b"\x80\x02cargparse\n_sys.modules\n(tR(tR.", "argparse|Placeholder"),
    "getattr": (b"cbuiltins\ngetattr\n(cargparse\nNamespace\nS'x'\ntR.", "builtins.getattr"),
    "exec, python 2 name": (b"\x80\x02c__builtin__\nexec\n(NtR.", "exec"),
    "type, a class made": (b"\x80\x02cbuiltins\ntype\n(cargparse\nNamespace\n(t}tR(tR.", "type|Placeholder"),
    "reduce": (b"\x80\x02c_functools\nreduce\n(c_codecs\nencode\n](NNetR(tR.", "reduce|Placeholder"),
    "other operators": (b"c_operator\nattrgetter\n(S'x'\ntR.", "_operator.attrgetter"),
    "import": (b"cbuiltins\n__import__\n(S'os'\ntR.", "builtins.__import__"),
    "numpy's loader": (b"cnumpy\nload\n(S'x'\ntR.", "numpy.load"),
    "numpy runstring": (b"cnumpy.testing._private.utils\nrunstring\n(S'1'\n}tR.", "runstring"),
    "torch's bytes loader": (b"ctorch.storage\n_load_from_bytes\n(S'x'\ntR.", "torch.storage._load_from_bytes"),
    "torch jit": (b"ctorch.jit\nload\n(S'x'\ntR.", "torch.jit.load"),
    "copyreg": (b"ccopyreg\n_reconstructor\n(cargparse\nNamespace\ntR.", "copyreg._reconstructor"),
    "protocol 4": (b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x0ctouch BEACON\x85R.", "posix.system|Unsupported"),
    "attribute chain": (
        b"\x80\x04\x8c\x08builtins\x8c\x0deval.__call__\x93\x8c\x011\x85R.",
        "builtins.eval.__call__|Unsupported",
    ),
    "extension code": (b"\x80\x02\x82\x01.", "extension code|Unsupported"),
    "persistent id": (b"\x80\x02X\x09\x00\x00\x00os.systemQ.", "persistent"),
    "class state": (b"\x80\x02cargparse\nNamespace\n}X\x01\x00\x00\x00aNsb.", "argparse.Namespace|Can only build"),
    "list state": (b"\x80\x02]}X\x01\x00\x00\x00aNsb.", "__dict__|Can only build"),
    "called list": (b"\x80\x02](NtR.", "not callable|unrecognized"),
    "called placeholder": (b"\x80\x02cargparse\nNamespace\n(tR(tR.", "argparse.Namespace|unrecognized"),
}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("load", [load_pickle, load_torch])
@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_pickles_run_nothing(tmp_path, monkeypatch, kind, load):
    program, named = HOSTILE[kind]
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    path = write(tmp_path / "bad", program if load is load_pickle else in_torch_zip(program))
    with pytest.raises(ValueError, match=f"bad cannot be read as plain data: .*({named})") as raised:
        load(path)
    assert "weights_only" not in str(raised.value)  # torch advises to switch it off
    assert not (tmp_path / "BEACON").exists()
    assert not {module for module in set(sys.modules) - before if not module.startswith(("encodings", "torch."))}


@pytest.mark.parametrize(
    "function",
    [os.system, builtins.eval, builtins.exec, subprocess.Popen, torch.load, torch.hub.load, np.load, pickle.loads],
)
def test_hostile_calls_deep_inside(tmp_path, function):
    path = tmp_path / "bad.pkl"
    deep = {"a": [({"b": [{"c": Calls(function, f"touch {tmp_path / 'BEACON'}")}]},)]}
    for protocol in PROTOCOLS:
        write(path, pickle.dumps(deep, protocol))
        with pytest.raises(ValueError, match=f"{function.__name__}', which is refused"):
            load_pickle(path)
    for zipped in (True, False):
        torch.save({"model": {}, "cfg": deep}, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(ValueError, match=f"{function.__name__}', which is refused"):
            load_torch(path)
    assert not (tmp_path / "BEACON").exists()


def test_the_hostile_pickle_would_have_worked(tmp_path, monkeypatch):
    """The oracle: Python's own unpickler does what the file says."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(HOSTILE["os.system"][0])
    assert (tmp_path / "BEACON").exists()


@pytest.mark.parametrize("data", [np.arange(3), np.float32(2), np.array([{}], dtype=object), argparse.Namespace(a=1)])
def test_pickled_objects_are_refused_by_name(tmp_path, data):
    with pytest.raises(ValueError, match=r"names the global '(numpy|argparse)\.[^']*', which is refused"):
        load_pickle(write(tmp_path / "a.pkl", pickle.dumps(data)))


def test_wide_and_shared_data_comes_back(tmp_path):
    row = ("a", (1, 2))
    nodes = [{"row": row, "of": None} for _ in range(3000)]
    parent = {"nodes": nodes, "rows": tuple([row] * 100_000), "long": {i: [row] for i in range(3000)}}
    for node in nodes:
        node["of"] = parent
    path = tmp_path / "a.pkl"
    for protocol in (0, 2, 4):
        loaded = load_pickle(write(path, pickle.dumps(parent, protocol)))
        assert len(loaded["rows"]) == 100_000 and loaded["nodes"][-1]["of"] is loaded
        assert loaded["rows"][0] is loaded["nodes"][0]["row"] and loaded["long"] == parent["long"]
    deep = []
    for _ in range(400):
        deep = [deep]
    assert load_pickle(write(path, pickle.dumps(deep))) == deep


def text(content):
    return b"X" + struct.pack("<I", len(content)) + content


def called(name, argument, times):
    """A list of what a global gives for one argument, `times` over, as often as a few bytes can say."""
    return b"\x80\x02](" + argument + b"q\x00c" + name + b"\nq\x01" + b"h\x01h\x00\x85R" * times + b"e."


PAIRS = (b"J" + struct.pack("<i", i) + b"N" for i in range(30_000))
NUMBERS = b"](" + b"".join(b"J" + struct.pack("<i", i) for i in range(30_000)) + b"e"
HEX = b"h\x01h\x02" + text(b"hex") + b"\x86Rq\x02"
ROW = b"}(" + text(b"id") + text(b"v_1") + text(b"caption") + text(b"x" * 100_000) + b"u"
COSTLY = {
    "memo": b"\x80\x02Nr" + struct.pack("<I", 2**29) + b".",
    "memo in text": b"Np600000000\n.",
    "bytearray": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.",
    "doubled": b"\x80\x02)" + b"2\x86" * 60 + b".",
    "doubled key": b"\x80\x02})" + b"q\x00h\x00\x86" * 60 + b"Ns.",
    "wide key": b"\x80\x02}(" + b"K\x01" * 200_000 + b"tq\x00(" + b"h\x00N" * 50_000 + b"u.",
    "rows": b"\x80\x02](" + ROW + b"q\x00" + b"h\x00" * 100_000 + b"e.",
    "lists": b"\x80\x02]" + b"q\x00](h\x00h\x00e" * 60 + b".",
}
CALLED = {
    "zeros": b"\x80\x02cbuiltins\nbytearray\n\x8a\x05" + (2**36).to_bytes(5, "little") + b"\x85R.",
    "hex of hex": b"\x80\x02](c_codecs\nencode\nq\x01"
    + text(b"a")
    + text(b"latin1")
    + b"\x86Rq\x02"
    + HEX * 40
    + b"e.",
    "sets": called(b"builtins\nset", NUMBERS, 9000),
    "sizes": called(b"torch\nSize", NUMBERS, 20_000),
    "counts": called(b"collections\nCounter", NUMBERS, 5000),
    "ordered": called(b"collections\nOrderedDict", b"}(" + b"".join(PAIRS) + b"u", 5000),
}
LOAD = (
    "import sys, vclip.data.pickles as pickles\n"
    "try:\n    getattr(pickles, sys.argv[1])(sys.argv[2])\n"
    "except ValueError as error:\n    print(error)"
)


@pytest.mark.parametrize("kind", COSTLY)
def test_a_pickle_costs_no_more_than_its_size(tmp_path, kind):
    path = write(tmp_path / "bad.pkl", COSTLY[kind])
    printed = run_limited(LOAD, "load_pickle", path, megabytes=2000)
    assert printed.startswith(f"{path} cannot be read as plain data: ") and "Memory" not in printed


@pytest.mark.parametrize("kind", [kind for kind in COSTLY | CALLED if "memo" not in kind])
def test_a_torch_file_costs_no_more_than_its_size(tmp_path, kind):
    path = write(tmp_path / "bad.pt", in_torch_zip((COSTLY | CALLED)[kind]))
    printed = run_limited(LOAD, "load_torch", path, seconds=30, megabytes=5000)
    assert f"{path} cannot be read as plain data: " in printed and "memory" not in printed.lower()


def test_gzip_is_unpacked_no_further_than_text_would_be(tmp_path):
    path = write(tmp_path / "bomb.pkl", gzip.compress(bytes(200 * 2**20)))
    with pytest.raises(ValueError, match=r"bomb\.pkl unpacks to over 83 MB"):
        load_pickle(path)
    rows = b"the same sentence, over and over. " * 2**20
    assert unpacked(write(path, gzip.compress(rows))) == rows


def test_a_global_with_a_long_name_is_quoted_in_a_line(tmp_path):
    with pytest.raises(ValueError, match="names the global") as raised:
        load_pickle(write(tmp_path / "a.pkl", b"c" + b"x" * 10**6 + b"\nsystem\n."))
    assert len(str(raised.value)) < 400 + len(str(tmp_path))


def test_the_ids_of_many_videos_are_read(tmp_path):
    meta = {shard: [f"{shard:05d}{i:06d}" for i in range(1000)] for shard in range(60)}
    assert load_pickle(write(tmp_path / "train_meta.pkl", pickle.dumps(meta))) == meta


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
    assert loaded["empty"].shape == (0, 3) and loaded["size"] == (2, 3) and loaded["parameter"].tolist() == [1, 1]


@pytest.mark.parametrize("zipped", [True, False])
def test_what_a_checkpoint_holds_beside_tensors_is_inert(tmp_path, zipped):
    """The globals in real files of fairseq and omegaconf 2.0 and 2.3: hints, builtin types, numpy's numbers."""
    hints = [
        typing.Any,
        typing.Optional[str],  # noqa: UP045
        typing.Union[int, float, None],  # noqa: UP007
        typing.Dict[str, typing.Tuple[int, ...]],  # noqa: UP006
        type(None),
        int | None,
        list[str],
        float,
    ]
    arguments = argparse.Namespace(arch="mmarch", nested=argparse.Namespace(hints=hints))
    held = {"args": arguments, "hints": hints, "best": np.float64(0.5), "array": np.arange(3)}
    saved = held | {"lists": collections.defaultdict(list, a=[1]), "model": {"w": torch.ones(2)}}
    path = tmp_path / "a.pt"
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    loaded = load_torch(path)
    assert loaded["model"]["w"].tolist() == [1, 1] and loaded["lists"] == {"a": [1]} and type(loaded["lists"]) is dict
    for value in [loaded["args"], *loaded["hints"], loaded["best"], loaded["array"]]:
        assert isinstance(value, Placeholder) or issubclass(value, Placeholder)
    assert not any(isinstance(known, tuple) for known in torch.serialization.get_safe_globals())  # none of ours stays


def test_a_placeholder_runs_nothing_of_its_package(tmp_path):
    called = b"\x80\x02cfairseq.tasks.mmtask\nload\n(X\x01\x00\x00\x00xK\x03tR."
    loaded = load_torch(write(tmp_path / "b.pt", in_torch_zip(called)))
    assert type(loaded).__name__ == "fairseq.tasks.mmtask.load" and "fairseq" not in sys.modules
    assert vars(loaded) == {}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_other_torch_files_are_refused(tmp_path):
    path = tmp_path / "a.pt"
    for zipped in (True, False):
        torch.save(torch.nn.Linear(2, 2), path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(ValueError, match="'torch.nn.modules.linear.Linear', which is refused"):
            load_torch(path)
    torch.jit.script(torch.nn.ReLU()).save(str(path))
    with pytest.raises(ValueError, match="a zip file, but not of torch.save"):
        load_torch(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("arrays.npy", b"")
    with pytest.raises(ValueError, match="a zip file, but not of torch.save"):
        load_torch(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", bytes(10**6))
    with pytest.raises(ValueError, match="a zip file, but not of torch.save"):
        load_torch(path)
    for content in (b"", pickle.dumps({"a": 1})):
        with pytest.raises(ValueError, match=r"it is not a torch.save file: it begins with b.*; fetch it again"):
            load_torch(write(path, content))
    with pytest.raises(FileNotFoundError):
        load_torch(tmp_path / "none.pt")


def tensor_program(key="0", numel=4, offset=0, size=(4,), stride=(1,), kind="FloatStorage"):
    """A torch program whose tensor says what the arguments say of a storage of four floats."""

    def tuple_of(*row):
        numbers = (b"J" + struct.pack("<i", n) for n in row)
        texts = (b"X" + struct.pack("<I", len(key)) + key.encode() for key in row if isinstance(key, str))
        return b"(" + b"".join(texts if isinstance(row[0], str) else numbers) + b"t"

    text = {name: tuple_of(name)[1:-1] for name in ("storage", key, "cpu")}
    storage = b"(" + text["storage"] + f"ctorch\n{kind}\n".encode() + text[key] + text["cpu"]
    storage += tuple_of(numel)[1:-1] + b"tQ"
    tensor = storage + tuple_of(offset)[1:-1] + tuple_of(*size) + tuple_of(*stride)
    return b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + tensor + b"\x89ccollections\nOrderedDict\n)RtR."


@pytest.mark.parametrize(
    "lie",
    [
        {"size": (5,)},
        {"offset": 1},
        {"offset": -1},
        {"stride": (2,)},
        {"stride": (-1,)},
        {"size": (-4,)},
        {"numel": 1000, "size": (1000,)},
        {"numel": -4},
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
