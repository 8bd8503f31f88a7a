"""Every public name says how it is used, in a docstring whose example runs."""

import doctest
import importlib
import re
from pathlib import Path

import pytest

import vclip

ROOT = Path(vclip.__file__).parent
MODULES = [
    ".".join(["vclip", *file.relative_to(ROOT).with_suffix("").parts])
    for file in sorted(ROOT.rglob("*.py"))
    if re.search(r">>> (?!.*doctest: \+SKIP)", file.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name):
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted and not found.failed


@pytest.mark.parametrize("name", vclip.__all__)
def test_public_names_show_an_example(name):
    assert "Example:" in (getattr(vclip, name).__doc__ or "")
