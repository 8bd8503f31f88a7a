"""What start_processes decides; the processes themselves are started in test_pretrain.py and test_extraction.py."""

import os

import pytest

from vclip.launch import start_processes

ASKED = {"ACCELERATE_USE_CPU": "true", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture
def become(monkeypatch):
    """Runs `start_processes` under an environment and a parent's command line; what it would become, or None."""
    for name in [name for name in os.environ if name.endswith(("WORLD_SIZE", "PMI_SIZE")) or name in ASKED]:
        monkeypatch.delenv(name)

    def become(environment: dict, parent: list[str]):
        found = []
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("psutil.Process.cmdline", lambda self: parent)
        monkeypatch.setattr(os, "execv", lambda *arguments: found.append(arguments[1]))
        start_processes("vclip.pretrain", ["--seed", "1"])
        return found[0] if found else None

    return become


@pytest.mark.parametrize("words", [["--num_processes", "3"], ["--num-processes=3"]])
def test_on_a_cpu_it_becomes_torchs_launcher_of_as_many(become, words):
    command = become(ASKED, ["accelerate", "launch", "--cpu", *words, "-m", "vclip.pretrain"])
    assert command[1:5] == ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]
    assert command[5:] == ["3", "-m", "vclip.pretrain", "--seed", "1"]
    assert "MASTER_ADDR" not in os.environ and "MASTER_PORT" not in os.environ


@pytest.mark.parametrize(
    "environment",
    [{}, {"ACCELERATE_USE_CPU": "true"}, ASKED | {"ACCELERATE_USE_CPU": "false"}, ASKED | {"WORLD_SIZE": "2"}],
)
def test_alone_on_a_gpu_or_launched_already_it_returns(become, environment):
    assert become(environment, ["--num_processes", "3"]) is None


def test_a_number_that_cannot_be_read_is_an_error_with_a_way_out(become):
    with pytest.raises(RuntimeError, match="torchrun --nproc_per_node N -m vclip.pretrain"):
        become(ASKED, ["bash"])
