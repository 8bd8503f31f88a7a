"""Released files, made here in their layout, into our classes; the golden ones are loaded in test_model.py."""

import argparse
import builtins
import collections
import os
import subprocess
import sys
import types
import typing

import pytest
import torch
from indexes import write
from transformers import AutoModel, AutoModelForTokenClassification, AutoProcessor
from videos import cut

from vclip.encoders.networks import S3DEncoder
from vclip.encoders.s3d import S3D, load_s3d
from vclip.models.config import VideoCLIPConfig
from vclip.models.convert import convert, main
from vclip.models.loading import load
from vclip.models.released import load_videoclip
from vclip.models.segmenter import VideoCLIPForSegmentation
from vclip.models.videoclip import VideoCLIPModel

import corpora
import reference

SEPARATE = {
    "classifier.": "video_encoder.classifier.",
    "video_mlp.layer_norm.": "video_encoder.videomlp.LayerNorm.",
    "video_mlp.": "video_encoder.videomlp.",
    "video_model.": "video_encoder.bert.",
    "text_model.": "text_encoder.",
}
SHARED = {ours: theirs.replace("video_encoder", "mm_encoder") for ours, theirs in SEPARATE.items()}


def model(shared: bool, model_class=VideoCLIPModel, **config):
    torch.manual_seed(0)
    towers = {"video_config": corpora.TOWER} | ({} if shared else {"text_config": corpora.TOWER})
    return model_class(VideoCLIPConfig(**towers, share_towers=shared, video_feature_dim=16, **config)).eval()


def released(model: VideoCLIPModel) -> dict[str, torch.Tensor]:
    """The model's weights as the original names them, with what its trunks carry unused."""
    weights = {}
    for key, value in model.state_dict().items():
        names = SHARED if model.config.share_towers else SEPARATE
        ours = next(prefix for prefix in names if key.startswith(prefix))
        if key == "video_model.embeddings.word_embeddings.weight" and not model.config.share_towers:
            table = torch.full((corpora.TOWER["vocab_size"], value.shape[1]), 7.0, dtype=value.dtype)
            table[[101, 102]] = value
            value = table
        weights["mmmodel." + names[ours] + key.removeprefix(ours)] = value
    trunk = "mm_encoder.bert" if model.config.share_towers else "video_encoder.bert"
    weights[f"mmmodel.{trunk}.pooler.dense.weight"] = torch.zeros(32, 32)
    weights[f"mmmodel.{trunk}.embeddings.position_ids"] = torch.arange(512)[None]
    return weights


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("place", ["model", "state_dict"])
def test_a_trainers_checkpoint_becomes_the_model(tmp_path, shared, place):
    expected = model(shared)
    torch.save({place: released(expected), "epoch": 3}, tmp_path / "c.pt")
    loaded = load_videoclip(tmp_path / "c.pt", expected.config)
    torch.testing.assert_close(loaded.state_dict(), expected.state_dict(), atol=0, rtol=0)
    assert not loaded.training


def test_half_precision_weights_become_float32(tmp_path):
    torch.save({"model": {k: v.half() for k, v in released(model(False)).items()}}, tmp_path / "c.pt")
    assert {p.dtype for p in load_videoclip(tmp_path / "c.pt", model(False).config).parameters()} == {torch.float32}


def test_what_does_not_fit_is_listed(tmp_path):
    weights = released(model(False))
    del weights["mmmodel.text_encoder.encoder.layer.1.output.dense.bias"]
    weights["mmmodel.extra"] = torch.zeros(1)
    weights["mmmodel.video_encoder.videomlp.linear1.bias"] = torch.zeros(5)
    torch.save({"model": weights}, tmp_path / "c.pt")
    with pytest.raises(ValueError) as error:
        load_videoclip(tmp_path / "c.pt", model(False).config)
    for part in (
        "c.pt does not fit",
        "missing ['text_model.encoder.layer.1.output.dense.bias']",
        "unexpected ['extra']",
        "video_mlp.linear1.bias is (5,), expected (32,)",
    ):
        assert part in str(error.value)


def test_other_files_are_refused(tmp_path):
    for content, message in (
        ([1, 2], "holds a list, not a checkpoint"),
        ({"epoch": 3}, r"no 'model' or 'state_dict' of tensors; it has \['epoch'\]"),
        ({"model": {"a": 1}}, "no 'model' or 'state_dict' of tensors"),
    ):
        torch.save(content, tmp_path / "c.pt")
        with pytest.raises(ValueError, match=message):
            load_videoclip(tmp_path / "c.pt")
    torch.save({"model": released(model(True))}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match="holds shared towers, but share_towers is False"):
        load_videoclip(tmp_path / "c.pt", model(False).config)


def test_keys_of_both_layouts_are_refused(tmp_path):
    shared, separate = released(model(True)), released(model(False))
    for both in (shared | separate, separate | dict([next(iter(shared.items()))])):
        torch.save({"model": both}, tmp_path / "c.pt")
        with pytest.raises(
            ValueError, match=r"c\.pt mixes two layouts, shared towers \['mm_en.*'text_encoder."
        ) as error:
            load_videoclip(tmp_path / "c.pt")
        keys = {key.removeprefix("mmmodel.") for key in both}
        assert all(key in str(error.value) for key in keys)


def refused(path, weights, **beside):
    """What `load_videoclip` says of a file with these weights."""
    torch.save({"model": weights} | beside, path)
    with pytest.raises(ValueError, match="c.pt") as error:
        load_videoclip(path, model(False).config)
    return str(error.value)


@pytest.mark.parametrize("instead", [False, True])
def test_names_of_ours_amid_theirs_are_refused(tmp_path, instead):
    for theirs, ours in (
        ("video_encoder.videomlp.linear1.bias", "video_mlp.linear1.bias"),
        ("video_encoder.videomlp.LayerNorm.weight", "video_mlp.layer_norm.weight"),
        ("video_encoder.videomlp.LayerNorm.weight", "video_encoder.videomlp.layer_norm.weight"),
        ("text_encoder.embeddings.LayerNorm.bias", "text_model.embeddings.LayerNorm.bias"),
    ):
        weights = released(model(False))
        weights[f"mmmodel.{ours}"] = weights.pop(f"mmmodel.{theirs}") if instead else weights[f"mmmodel.{theirs}"]
        said = refused(tmp_path / "c.pt", weights)
        assert f"unexpected ['{ours}']" in said


@pytest.mark.parametrize("shared", [False, True])
def test_the_prefix_is_of_all_keys_or_of_none(tmp_path, shared):
    expected, path = model(shared), tmp_path / "c.pt"
    bare = {key.removeprefix("mmmodel."): value for key, value in released(expected).items()}
    torch.save({"model": bare}, path)
    loaded = load_videoclip(path, expected.config)
    torch.testing.assert_close(loaded.state_dict(), expected.state_dict(), atol=0, rtol=0)
    first, *others = sorted(bare)
    for mixed in (released(expected), {f"mmmodel.{key}": bare[key] for key in others}):
        torch.save({"model": mixed | {first: bare[first]}}, path)
        with pytest.raises(ValueError, match=f"keys without the prefix 'mmmodel.' amid keys with it: .'{first}'."):
            load_videoclip(path, expected.config)


@pytest.mark.parametrize(
    "key",
    [
        "audio_encoder.pooler.dense.weight",
        "x.embeddings.position_ids",
        "embeddings.position_ids",
        "text_encoder.bert.pooler.dense.bias",
        "text_encoder.encoder.layer.0.pooler.dense.bias",
        "video_encoder.pooler.dense.weight",
        "video_encoder.bert.x.embeddings.position_ids",
    ],
)
def test_only_the_trunks_own_keys_are_passed_over(tmp_path, key):
    said = refused(tmp_path / "c.pt", released(model(False)) | {f"mmmodel.{key}": torch.zeros(3)})
    assert "missing []" in said and "misshapen []" in said and key[-20:] + "']" in said


@pytest.mark.parametrize("place", ["whole", "one"])
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda value: value.mul(float("nan")), "holds NaN or infinity"),
        (lambda value: value.add(float("inf")), "holds NaN or infinity"),
        (lambda value: value.double().add(1e300), "holds NaN or infinity"),  # as a float32
        (lambda value: value.int(), "is torch.int32, expected torch.float32"),
        (lambda value: value.bool(), "is torch.bool, expected torch.float32"),
    ],
)
def test_weights_are_finite_floats(tmp_path, place, spoil, says):
    weights, name = released(model(False)), "mmmodel.video_encoder.videomlp.LayerNorm.weight"
    value = weights[name].clone()
    if place == "one":
        value = value.to(spoil(value).dtype)
        value[3:4] = spoil(weights[name])[3:4]
    else:
        value = spoil(value)
    assert f"unusable ['video_mlp.layer_norm.weight {says}']" in refused(tmp_path / "c.pt", weights | {name: value})


def test_s3d_is_of_finite_floats(tmp_path):
    weights = S3D().state_dict()
    counted = next(key for key in weights if key.endswith("num_batches_tracked"))
    weights |= {"fc.bias": torch.full_like(weights["fc.bias"], float("nan")), counted: weights[counted].float()}
    torch.save(weights, tmp_path / "s3d.pth")
    with pytest.raises(ValueError, match="s3d.pth does not fit") as error:
        load_s3d(tmp_path / "s3d.pth")
    assert "fc.bias holds NaN" in str(error.value) and f"{counted} is torch.float32" in str(error.value)


@pytest.mark.parametrize("place", ["model", "state_dict"])
@pytest.mark.parametrize("other", [{}, {"lr": 1}, {"lr": torch.ones(1)}, [1], None], ids=str)
def test_of_two_dicts_the_one_with_the_model_is_read(tmp_path, place, other):
    expected = model(False)
    beside = {"model": "state_dict", "state_dict": "model"}[place]
    torch.save({place: released(expected), beside: other}, tmp_path / "c.pt")
    loaded = load_videoclip(tmp_path / "c.pt", expected.config)
    torch.testing.assert_close(loaded.state_dict(), expected.state_dict(), atol=0, rtol=0)


@pytest.mark.parametrize(
    "head", [torch.ones(()), torch.ones(2), torch.ones(0, 32), torch.ones(10**12, 0), torch.ones(1).expand(10**9, 32)]
)
def test_a_head_of_no_use_is_refused(tmp_path, head):
    name = "mmmodel.video_encoder.classifier."
    said = refused(tmp_path / "c.pt", released(model(False)) | {f"{name}weight": head, f"{name}bias": torch.ones(2)})
    assert f"misshapen ['classifier.weight is {tuple(head.shape)}, expected (2, 32)']" in said


def test_a_table_without_rows_is_refused(tmp_path):
    name = "mmmodel.video_encoder.bert.embeddings.word_embeddings.weight"
    assert "word_embeddings.weight is ()" in refused(tmp_path / "c.pt", released(model(False)) | {name: torch.ones(())})


@pytest.fixture
def fairseq(monkeypatch):
    """A stand-in for the modules whose objects a trainer pickles; gone again when the file is read."""

    def save(checkpoint, path, **options):
        for name in ("fairseq", "fairseq.meters", "omegaconf", "omegaconf.dictconfig"):
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        for module, name in (("fairseq.meters", "AverageMeter"), ("omegaconf.dictconfig", "Config")):
            made = type(name, (), {"__module__": module, "__init__": lambda self, *_: None})
            monkeypatch.setattr(sys.modules[module], name, made, raising=False)
        meter = sys.modules["fairseq.meters"].AverageMeter()
        meter.__dict__.update(count=3, of=float, hint=typing.Any)
        config = sys.modules["omegaconf.dictconfig"].Config()
        config.__dict__.update(_content={"lr": [5e-5, collections.defaultdict(dict, a={})]}, _parent=config)
        arguments = argparse.Namespace(arch="mmarch", taskconfig="how2.yaml", nested=argparse.Namespace(config=config))
        torch.save(checkpoint | {"args": arguments, "cfg": {"model": arguments}, "meter": meter}, path, **options)
        monkeypatch.undo()

    return save


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", [torch.float16, torch.float32])
def test_what_a_trainer_pickles_beside_the_weights_is_inert(tmp_path, fairseq, shared, zipped, kind):
    expected = model(shared).to(kind)
    path = tmp_path / "c.pt"
    more = {"last_optimizer_state": {"state": {0: {"exp_avg": torch.zeros(3)}}}, "anything": (1, "two", None)}
    fairseq({"model": released(expected)} | more, path, _use_new_zipfile_serialization=zipped)
    assert "omegaconf" not in sys.modules
    loaded = load_videoclip(path, expected.config)
    torch.testing.assert_close(loaded.state_dict(), expected.float().state_dict(), atol=0, rtol=0)
    assert "omegaconf" not in sys.modules


class Calls:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("function", "argument", "name"),
    [
        (os.system, "touch BEACON", "system"),
        (builtins.eval, "open('BEACON', 'w')", "builtin.*eval"),
        (torch.load, "BEACON", "torch.serialization.load"),
        (torch.hub.load, "BEACON", "torch.hub.load"),
    ],
)
def test_a_file_that_would_run_code_is_refused_by_name(tmp_path, monkeypatch, zipped, function, argument, name):
    monkeypatch.chdir(tmp_path)
    hostile = argparse.Namespace(deep=[{"x": (Calls(function, argument),)}])
    for checkpoint in (
        {"model": released(model(False)), "args": hostile},
        {"model": released(model(False)) | {"mmmodel.extra": Calls(function, argument)}},
    ):
        torch.save(checkpoint, "c.pt", _use_new_zipfile_serialization=zipped)
        for read in (load_videoclip, load_s3d):
            with pytest.raises(ValueError, match=f"{name}.*refused"):
                read(tmp_path / "c.pt")
    assert not (tmp_path / "BEACON").exists()


def test_the_checkpoint_tuned_on_coin_keeps_its_head(tmp_path):
    expected = model(False, VideoCLIPForSegmentation, num_labels=7)
    torch.save({"model": released(expected)}, tmp_path / "c.pt")
    config = model(False).config
    loaded = load_videoclip(tmp_path / "c.pt", config)
    assert isinstance(loaded, VideoCLIPForSegmentation) and loaded.config.num_labels == 7 and config.num_labels == 2
    torch.testing.assert_close(loaded.state_dict(), expected.state_dict(), atol=0, rtol=0)
    convert(tmp_path / "c.pt", tmp_path / "coin", config=config)
    again = AutoModelForTokenClassification.from_pretrained(tmp_path / "coin")
    torch.testing.assert_close(again.state_dict(), expected.state_dict(), atol=0, rtol=0)
    weights = released(expected)
    del weights["mmmodel.video_encoder.classifier.bias"]
    torch.save({"model": weights}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match=r"missing \['classifier.bias'\]"):
        load_videoclip(tmp_path / "c.pt", config)


def test_the_command_converts_a_released_file(tmp_path, shared):
    folder = shared / "golden" / "model_separate"
    reference.config(folder).save_pretrained(tmp_path / "sizes")
    corpora.tokenizer().save_pretrained(tmp_path / "tokenizer")
    out = tmp_path / "deep" / "out"
    options = ["--tokenizer", str(tmp_path / "tokenizer"), "--config", str(tmp_path / "sizes")]
    command = [sys.executable, "-m", "vclip.models.convert", str(folder / "checkpoint.pt"), str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "largest difference once reloaded: 0\n" in done.stdout and "R@1, chance" in done.stdout
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    converted, processor = AutoModel.from_pretrained(out), AutoProcessor.from_pretrained(out)
    batch = reference.batch(folder)
    z_v = converted.get_video_features(batch["video_features"], batch["video_mask"]).pooler_output
    torch.testing.assert_close(z_v, batch["pooled_video"], atol=2e-5, rtol=0)
    assert processor(text="w3")["input_ids"].tolist() == [[101, 107, 102]]


def test_the_command_says_in_a_line_what_is_wrong(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.pt").write_bytes(b"text")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for arguments, said in (
        (["missing.pt", "out"], "No such file or directory: 'missing.pt'"),
        (["broken.pt", "out"], "broken.pt cannot be read as plain data"),
        (["broken.pt", "full"], "full is not empty"),
    ):
        monkeypatch.setattr(sys, "argv", ["vclip.models.convert", *arguments])
        with pytest.raises(SystemExit, match="^1$"):
            main()
        out, errors = capsys.readouterr()
        assert out == "" and errors.startswith("vclip.models.convert: ") and said in errors
        assert len(errors.splitlines()) == 1


@pytest.mark.parametrize("more", ["tokenizer", "config"])
def test_what_s3d_has_no_use_for_is_refused(tmp_path, more):
    torch.save({"fc.weight": torch.zeros(1)}, tmp_path / "s3d.pth")
    given = {"tokenizer": tmp_path, "config": model(False).config}[more]
    with pytest.raises(ValueError, match="s3d.pth is S3D's file, which takes no tokenizer and no config"):
        convert(tmp_path / "s3d.pth", tmp_path / "out", **{more: given})
    assert not (tmp_path / "out").exists()


def test_conversion_overwrites_nothing_and_leaves_nothing_half_done(tmp_path):
    torch.save({"model": released(model(False))}, tmp_path / "c.pt")
    config, out = model(False).config, tmp_path / "out"
    corpora.tokenizer().save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(ValueError, match="is another model's"):
        narrow = VideoCLIPConfig(**config.to_dict() | {"cls_token_id": 7})
        convert(tmp_path / "c.pt", out, tmp_path / "tokenizer", narrow)
    with pytest.raises(ValueError, match="misshapen"):
        convert(tmp_path / "c.pt", out)
    assert {path.name for path in tmp_path.iterdir()} == {"c.pt", "tokenizer"}
    out.mkdir()
    convert(tmp_path / "c.pt", out, config=config)
    before = (out / "model.safetensors").stat().st_mtime_ns
    with pytest.raises(FileExistsError, match="is not empty"):
        convert(tmp_path / "c.pt", out, config=config)
    assert (out / "model.safetensors").stat().st_mtime_ns == before


def test_s3d_without_its_text_model(tmp_path):
    network = S3D()
    weights = network.state_dict()
    torch.save(weights | {"text_module.fc1.weight": torch.zeros(2)}, tmp_path / "s3d.pth")
    loaded = load_s3d(tmp_path / "s3d.pth")
    torch.testing.assert_close(loaded.state_dict(), weights, atol=0, rtol=0)
    assert not loaded.training
    torch.save({k: v for k, v in weights.items() if k != "fc.bias"}, tmp_path / "s3d.pth")
    with pytest.raises(ValueError, match=r"missing \['fc\.bias'\]"):
        load_s3d(tmp_path / "s3d.pth")


def test_s3d_as_a_folder(tmp_path):
    network = S3D()
    torch.save(network.state_dict() | {"text_module.fc1.weight": torch.zeros(2)}, tmp_path / "s3d.pth")
    convert(tmp_path / "s3d.pth", tmp_path / "s3d")
    torch.testing.assert_close(load_s3d(tmp_path / "s3d").state_dict(), network.state_dict(), atol=0, rtol=0)
    torch.save([1], tmp_path / "s3d.pth")
    with pytest.raises(ValueError, match="not a dictionary of S3D's tensors"):
        load_s3d(tmp_path / "s3d.pth")
    cut(tmp_path / "s3d" / "s3d.safetensors", tmp_path / "cut.safetensors")
    with pytest.raises(ValueError, match=r"cut\.safetensors is damaged"):
        load_s3d(tmp_path / "cut.safetensors")


@pytest.mark.long
def test_released_weights_search_own_videos(tmp_path, shared):
    """As the README says it: one command, then an index of a folder of videos."""
    golden = shared / "golden" / "model_separate"
    reference.config(golden).save_pretrained(tmp_path / "sizes")
    corpora.tokenizer().save_pretrained(tmp_path / "tokenizer")
    torch.manual_seed(0)
    torch.save(S3D().state_dict() | {"text_module.fc1.weight": torch.zeros(2)}, tmp_path / "s3d_howto100m.pth")
    command = [sys.executable, "-m", "vclip.models.convert", str(golden / "checkpoint.pt"), str(tmp_path / "videoclip")]
    command += ["--tokenizer", str(tmp_path / "tokenizer"), "--s3d", str(tmp_path / "s3d_howto100m.pth")]
    done = subprocess.run([*command, "--config", str(tmp_path / "sizes")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "S3D, largest difference once reloaded: 0\n" in done.stdout
    for i in range(2):
        write(tmp_path / "videos" / f"{i}.mov", seconds=1 + i, seed=i)

    clip = load(tmp_path / "videoclip")
    hits = clip.index(tmp_path / "videos").search("w3 w4", k=2)
    assert {hit.video for hit in hits} == {"0.mov", "1.mov"}
    assert clip.encoder.spec == clip.spec == S3DEncoder(load_s3d(tmp_path / "s3d_howto100m.pth")).spec
    clip.encoder = S3DEncoder(S3D())
    with pytest.raises(ValueError, match="weights"):
        clip.index(tmp_path / "videos", path=tmp_path / "other")


def test_s3d_goes_along_only_where_it_fits(tmp_path):
    torch.save(S3D().state_dict(), tmp_path / "s3d.pth")
    torch.save({"model": released(model(False))}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match="takes features of 16, s3d-g makes 512"):
        convert(tmp_path / "c.pt", tmp_path / "out", config=model(False).config, s3d=tmp_path / "s3d.pth")
    with pytest.raises(ValueError, match="is S3D's file: give VideoCLIP's first"):
        convert(tmp_path / "s3d.pth", tmp_path / "out", s3d=tmp_path / "s3d.pth")
    with pytest.raises(ValueError, match=r"c\.pt is not a dictionary of S3D's tensors"):
        convert(tmp_path / "c.pt", tmp_path / "out", config=model(False).config, s3d=tmp_path / "c.pt")
    assert not (tmp_path / "out").exists()
