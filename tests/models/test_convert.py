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
from safetensors.torch import save_file
from transformers import AutoModel, AutoModelForTokenClassification, AutoProcessor
from videos import cut

from vclip.encoders.networks import S3DEncoder
from vclip.encoders.s3d import S3D, load_s3d
from vclip.models.config import VideoCLIPConfig
from vclip.models.convert import convert, load_videoclip, main
from vclip.models.loading import load
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
        'Missing key(s) in state_dict: "text_model.encoder.layer.1.output.dense.bias"',
        'Unexpected key(s) in state_dict: "extra"',
        "size mismatch for video_mlp.linear1.bias",
    ):
        assert part in str(error.value)


def test_other_files_are_refused(tmp_path):
    for content in ([1, 2], {"epoch": 3}):
        torch.save(content, tmp_path / "c.pt")
        with pytest.raises(ValueError, match="c.pt is no checkpoint: it holds no weights"):
            load_videoclip(tmp_path / "c.pt")
    torch.save({"model": released(model(True))}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match="holds shared towers, but share_towers is False"):
        load_videoclip(tmp_path / "c.pt", model(False).config)


def test_keys_of_both_layouts_are_refused(tmp_path):
    shared, separate = released(model(True)), released(model(False))
    for both in (shared | separate, separate | dict([next(iter(shared.items()))])):
        torch.save({"model": both}, tmp_path / "c.pt")
        with pytest.raises(ValueError, match=r"c\.pt mixes two layouts"):
            load_videoclip(tmp_path / "c.pt")


def test_the_prefix_may_be_left_out(tmp_path):
    expected, path = model(False), tmp_path / "c.pt"
    torch.save({"model": {key.removeprefix("mmmodel."): value for key, value in released(expected).items()}}, path)
    loaded = load_videoclip(path, expected.config)
    torch.testing.assert_close(loaded.state_dict(), expected.state_dict(), atol=0, rtol=0)


@pytest.mark.parametrize("key", ["audio_encoder.pooler.dense.weight", "text_encoder.bert.pooler.dense.bias"])
def test_only_the_trunks_own_poolers_are_passed_over(tmp_path, key):
    torch.save({"model": released(model(False)) | {f"mmmodel.{key}": torch.zeros(3)}}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match=rf"Unexpected key.*{key[-17:]}"):
        load_videoclip(tmp_path / "c.pt", model(False).config)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])  # the last as a float32
def test_weights_are_finite(tmp_path, value):
    name = "mmmodel.video_encoder.videomlp.LayerNorm.weight"
    weights = released(model(False))
    weights[name] = weights[name].double()
    weights[name][3] = value
    torch.save({"model": weights}, tmp_path / "c.pt")
    with pytest.raises(ValueError, match=r"c\.pt holds NaN or infinity in \['video_mlp.layer_norm.weight'\]"):
        load_videoclip(tmp_path / "c.pt", model(False).config)


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


@pytest.mark.parametrize(("zipped", "kind"), [(True, torch.float16), (False, torch.float32)])
def test_what_a_trainer_pickles_beside_the_weights_is_inert(tmp_path, fairseq, zipped, kind):
    expected = model(False).to(kind)
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
    with pytest.raises(ValueError, match=r'Missing key.*"classifier.bias"'):
        load_videoclip(tmp_path / "c.pt", config)


def test_the_command_converts_a_released_file(tmp_path, shared, monkeypatch, capsys):
    folder = shared / "golden" / "model_separate"
    reference.config(folder).save_pretrained(tmp_path / "sizes")
    corpora.tokenizer().save_pretrained(tmp_path / "tokenizer")
    out = tmp_path / "deep" / "out"
    options = ["--tokenizer", str(tmp_path / "tokenizer"), "--config", str(tmp_path / "sizes")]
    monkeypatch.setattr(sys, "argv", ["vclip.models.convert", str(folder / "checkpoint.pt"), str(out), *options])
    main()
    assert capsys.readouterr().out == f"{folder / 'checkpoint.pt'} -> {out}\n"
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


def test_conversion_overwrites_nothing_and_leaves_nothing_half_done(tmp_path):
    torch.save({"model": released(model(False))}, tmp_path / "c.pt")
    config, out = model(False).config, tmp_path / "out"
    corpora.tokenizer().save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(ValueError, match="its ids are .7, 102"):
        narrow = VideoCLIPConfig(**config.to_dict() | {"cls_token_id": 7})
        convert(tmp_path / "c.pt", out, tmp_path / "tokenizer", narrow)
    with pytest.raises(ValueError, match="size mismatch"):
        convert(tmp_path / "c.pt", out, config=VideoCLIPConfig(**config.to_dict() | {"video_feature_dim": 17}))
    assert {path.name for path in tmp_path.iterdir()} == {"c.pt", "tokenizer"}
    out.mkdir()
    convert(tmp_path / "c.pt", out, config=config)
    before = (out / "model.safetensors").stat().st_mtime_ns
    with pytest.raises(FileExistsError, match="is not empty"):
        convert(tmp_path / "c.pt", out, config=config)
    assert (out / "model.safetensors").stat().st_mtime_ns == before


def test_s3d_without_its_text_model_as_a_file_and_as_a_folder(tmp_path):
    network, path = S3D(), tmp_path / "s3d.pth"
    weights = network.state_dict()
    torch.save(weights | {"text_module.fc1.weight": torch.zeros(2)}, path)
    (tmp_path / "s3d").mkdir()
    save_file(weights, tmp_path / "s3d" / "s3d.safetensors")
    for loaded in (load_s3d(path), load_s3d(tmp_path / "s3d")):
        torch.testing.assert_close(loaded.state_dict(), weights, atol=0, rtol=0)
        assert not loaded.training
    torch.save({k: v for k, v in weights.items() if k != "fc.bias"}, path)
    with pytest.raises(ValueError, match=r's3d.pth does not fit.*\s.*Missing key.*"fc\.bias"'):
        load_s3d(path)
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
    with pytest.raises(ValueError, match="takes features of 16, S3D makes 512"):
        convert(tmp_path / "c.pt", tmp_path / "out", config=model(False).config, s3d=tmp_path / "s3d.pth")
    with pytest.raises(ValueError, match=r"c\.pt does not fit"):
        convert(tmp_path / "c.pt", tmp_path / "out", config=model(False).config, s3d=tmp_path / "c.pt")
    assert not (tmp_path / "out").exists()
