"""transformers' own common tests, from its source distribution on PyPI, as an importable package."""

import hashlib
import importlib
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import transformers

VERSION = "5.23.0"
SHA256 = "19d647a4d5d903a7c644ca5cde2d86efc3dde7d8c687ae7988806ff2205efa71"
PACKAGE = "transformers_common_tests"
# two mixins that the distribution leaves out: the first tests export, the second text generation
LEFT_OUT = {"exporters/test_export.py": "ExportTesterMixin", "generation/test_utils.py": "GenerationTesterMixin"}


def common_tests(cache: Path) -> ModuleType:
    """Their `test_modeling_common`, downloaded to `cache` the first time.

    Raises RuntimeError for another transformers than the tests' own, and if the archive is not the known one.
    """
    if transformers.__version__ != VERSION:
        raise RuntimeError(
            f"transformers {transformers.__version__} is installed, but these are the tests of {VERSION}: "
            "pip install -e '.[contract]'"
        )
    folder = cache / f"transformers-{VERSION}"
    if not (folder / PACKAGE).is_dir():
        archive = folder / f"transformers-{VERSION}.tar.gz"
        if not archive.is_file():
            wanted = [f"transformers=={VERSION}", "--no-deps", "--no-binary", "transformers", "--dest", str(folder)]
            subprocess.run([sys.executable, "-m", "pip", "download", *wanted], check=True)
        if (found := hashlib.sha256(archive.read_bytes()).hexdigest()) != SHA256:
            raise RuntimeError(f"{archive} has the hash {found}, not {SHA256}: delete it")
        _extract(archive, folder / PACKAGE)
    sys.path.insert(0, str(folder))
    return importlib.import_module(f"{PACKAGE}.test_modeling_common")


def _extract(archive: Path, package: Path) -> None:
    unfinished = package.with_suffix(".tmp")
    unfinished.mkdir(exist_ok=True)
    with tarfile.open(archive) as files:
        member = files.extractfile(f"transformers-{VERSION}/tests/test_modeling_common.py")
        assert member is not None
        (unfinished / "test_modeling_common.py").write_bytes(member.read())
    for name, mixin in LEFT_OUT.items():
        (unfinished / name).parent.mkdir(exist_ok=True)
        (unfinished / name).with_name("__init__.py").touch()
        (unfinished / name).write_text(f"class {mixin}:\n    pass\n")
    (unfinished / "__init__.py").touch()
    unfinished.rename(package)
