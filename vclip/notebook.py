"""What the notebooks share: their parameters are checked, their scores are written."""

import ast
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from vclip.names import refuse_unknown
from vclip.storage import write_json


def check_parameters(namespace: Mapping) -> None:
    """Refuse a parameter that papermill's `-p` set but the notebook does not have; papermill itself only warns.

    `namespace` is the notebook's `globals()`: the kernel keeps the source of the cells it ran in `In`. The first
    holds the parameters; papermill's cell, if there is one, comes next and begins with "# Parameters".
    Raises TypeError that offers the nearest name.
    """
    cells = [source for source in namespace.get("In", []) if source.strip()]
    injected = [source for source in cells[1:2] if source.lstrip().startswith("# Parameters")]
    if injected:
        refuse_unknown(_assigned(injected[0]), _assigned(cells[0]), "parameter of this notebook")


def write_scores(output: str | Path, scores: dict) -> Path:
    """`scores.json` in the folder `output`, with the versions that made them."""
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True)
    versions = {name: version(name) for name in ("vclip", "torch", "transformers", "numpy")}
    write_json(
        folder / "scores.json",
        json.loads(json.dumps(scores)) | {"versions": versions | {"python": platform.python_version()}},
    )
    return folder / "scores.json"


def _assigned(source: str) -> list[str]:
    statements = ast.parse(source).body
    targets = [t for s in statements if isinstance(s, ast.Assign) for t in s.targets]
    targets += [s.target for s in statements if isinstance(s, ast.AnnAssign)]
    return [target.id for target in targets if isinstance(target, ast.Name)]
