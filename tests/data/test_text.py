import re

import numpy as np
import pytest
import torch

from vclip.data.corpus import Corpus
from vclip.data.layouts import read_rows
from vclip.data.pickles import load_pickle, load_torch
from vclip.data.text import printable, refuse_unknown, short
from vclip.datasets import coin
from vclip.encoders.s3d import load_s3d

import corpora


def test_the_first_unknown_name_is_refused_with_the_nearest_known():
    with pytest.raises(TypeError, match="unknown field 'epoch': did you mean 'epochs'. There are: epochs, seed"):
        refuse_unknown(["seed", "epoch", "sead"], ["seed", "epochs"], "field")
    with pytest.raises(TypeError, match="did you mean"):  # however far away
        refuse_unknown(["zzz"], ["seed", "epochs"], "field")
    refuse_unknown(["seed"], {"seed": 1, "epochs": 2}, "field")
    refuse_unknown([], [], "field")


def test_a_value_of_any_size_is_quoted_in_a_line():
    deep = 1
    for _ in range(6):
        deep = [deep] * 6
    for value in (deep, [["x" * 10**6] * 6] * 6, {"k" * 10**6: {"k" * 10**6: deep}}):
        assert len(short(value)) <= 203
    assert short(["a", 1]) == "['a', 1]"


def test_names_are_made_fit_for_utf8():
    assert printable("caf\xe9 \U0001f600") == "caf\xe9 \U0001f600" and printable("d\udcff \ud83d") == "d\\udcff \\ud83d"


PAGES = {
    b"\n<!DOCTYPE html><title>Google Drive - Quota exceeded</title>": "it is a web page: fetch the file itself",
    b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>': "it is a web page: fetch the file itself",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n": "it is a Git LFS pointer: run git lfs pull",
}


@pytest.mark.parametrize("page", PAGES)
def test_what_a_download_left_in_place_of_a_file_is_said(tmp_path, page):
    readers = {"w.pt": load_torch, "w.pkl": load_pickle, "w.h5": Corpus.open, "COIN.json": coin.load}
    readers |= {"w.pth": load_s3d, "w.safetensors": load_s3d}
    for name, read in readers.items():
        (tmp_path / name).write_bytes(page)
        with pytest.raises(ValueError, match=f"{re.escape(str(tmp_path / name))} .*{PAGES[page]}"):
            read(tmp_path / name)
    for name in ("v.npy", "v.npz", "v.pt"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(page)
        with pytest.raises(ValueError, match=f"{name} .*{PAGES[page]}"):
            Corpus.open(tmp_path / name)
    file = corpora.make(tmp_path / "c").path / "features-00000.safetensors"
    file.write_bytes(page)
    with pytest.raises(ValueError, match=f"safetensors is damaged .*{PAGES[page]}"):
        Corpus.open(tmp_path / "c")


def test_half_a_download_is_said(tmp_path):
    torch.save({"features": torch.ones(50, 8)}, tmp_path / "v.pt")
    np.savez(tmp_path / "v.npz", np.ones((50, 8)))
    for name, read in {"v.pt": load_torch, "v.npz": read_rows}.items():
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match=rf"{name} .*its end is missing: fetch it again"):
            read(tmp_path / name)
