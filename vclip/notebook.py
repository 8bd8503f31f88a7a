"""What only the notebooks need: checked parameters and written scores."""

import ast
from collections.abc import Mapping

from vclip.data.text import refuse_unknown
from vclip.tasks.report import write_scores

__all__ = ["check_parameters", "write_scores"]


def check_parameters(namespace: Mapping) -> None:
    """Refuse a parameter given by papermill's `-p` that the notebook does not have; papermill itself only warns.

    `namespace` is the notebook's `globals()`: `In` holds its parameters' cell, then papermill's, if it made one.
    """
    cells = [source for source in namespace.get("In", []) if source.strip()]
    injected = [source for source in cells[1:2] if source.lstrip().startswith("# Parameters")]
    if injected:
        refuse_unknown(_assigned(injected[0]), _assigned(cells[0]), "parameter of this notebook")


def _assigned(source: str) -> list[str]:
    statements = ast.parse(source).body
    targets = [t for s in statements if isinstance(s, ast.Assign) for t in s.targets]
    targets += [s.target for s in statements if isinstance(s, ast.AnnAssign)]
    return [target.id for target in targets if isinstance(target, ast.Name)]
