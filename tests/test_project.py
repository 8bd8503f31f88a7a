"""What the repository promises about itself."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import vclip

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
TRAIN = "pip install -e . && mkdir -p runs && papermill notebooks/03_pretrain.ipynb runs/03_pretrain.ipynb"
TEST = "pip install -e '.[test]' && pytest"


def test_readme_and_ci_run_the_same_line():
    assert TRAIN in README.splitlines() and TEST in README.splitlines()
    assert TEST in (ROOT / ".ci/run").read_text().splitlines()


def test_importing_is_light():
    heavy = ("torch", "faiss", "av", "matplotlib", "transformers")
    code = f"import sys, vclip; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_plots_tasks_and_search_do_without_the_models_code():
    """It takes seconds: the first cell of a notebook waits for it where it is imported there."""
    code = "import sys, vclip.plots, vclip.notebook, vclip.scrubber, vclip.search.index, vclip.training.config\n"
    code += "from vclip.tasks import evaluate, localization, retrieval, segmentation, videoqa\n"
    code += "print('torch' in sys.modules, 'transformers.modeling_utils' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_every_public_name_is_there():
    assert all(getattr(vclip, name) is not None for name in vclip.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        vclip.nonsense  # noqa: B018


def test_modules_stay_small_and_imports_run_one_way():
    imports = {}
    for path in (ROOT / "vclip").rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        assert source.count("\n") <= 350, f"{path.name}: more than one idea in the module?"
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if name != "vclip":
            tree = ast.parse(source)
            imports[name] = {n.module for n in tree.body if isinstance(n, ast.ImportFrom) and n.module}

    def reach(name, seen):
        for target in imports.get(name, ()):
            assert target not in seen, f"import circle: {' -> '.join([*seen, target])}"
            reach(target, [*seen, target])

    for name in imports:
        reach(name, [name])


RANKS = {"data": 0, "losses": 0, "datasets": 1, "encoders": 1, "models": 2, "tasks": 3, "training": 4}
RANKS |= {"search": 4, "plots": 5, "notebook": 5, "scrubber": 6}


def test_imports_of_rooms_run_one_way():
    """data < datasets, encoders < models < tasks < training, search < plots < scrubber, in functions too."""
    for path in (ROOT / "vclip").rglob("*.py"):
        room = path.relative_to(ROOT / "vclip").with_suffix("").parts[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("vclip."):
                target = node.module.split(".")[1]
                assert room in ("__init__", target) or RANKS[target] < RANKS[room], f"{path}: {node.module}"
    assert len([entry for entry in (ROOT / "vclip").iterdir() if entry.name != "__pycache__"]) <= 15


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_ruff_is_content(command):
    done = subprocess.run([sys.executable, "-m", "ruff", *command, "."], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.long
def test_the_type_checker_is_content():
    done = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--pythonpath", sys.executable], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_no_path_of_a_machine_in_any_notebook():
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(/(home|root|Users|tmp|work)/|[A-Z]:\\\\)", text), path.name
        assert len(text) < 1_000_000, path.name
