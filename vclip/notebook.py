"""What only the notebooks need: checked parameters and written scores."""

import ast
from collections.abc import Mapping

from vclip.data.text import refuse_unknown
from vclip.tasks.report import write_scores

__all__ = ["check_parameters", "write_scores"]


def check_parameters(namespace: Mapping) -> None:
    """Refuse a parameter given by papermill's `-p` that the notebook does not have, or a number in place of a text.

    `namespace` is the notebook's `globals()`: `In` holds its parameters' cell, then papermill's, if it made one.
    """
    cells = [source for source in namespace.get("In", []) if source.strip()]
    injected = [source for source in cells[1:2] if source.lstrip().startswith("# Parameters")]
    if injected:
        given, known = _assigned(injected[0]), _assigned(cells[0])
        refuse_unknown(given, known, "parameter of this notebook")
        for name in given:
            value, default = namespace.get(name), known[name]
            if isinstance(getattr(default, "value", None), str) and isinstance(value, int | float):
                raise TypeError(f"{name} is a text, but {value!r} was read as a number: use -r {name} {value}")


def _assigned(source: str) -> dict[str, ast.expr | None]:
    """Names and their values."""
    statements = ast.parse(source).body
    pairs = [(t, s.value) for s in statements if isinstance(s, ast.Assign) for t in s.targets]
    pairs += [(s.target, s.value) for s in statements if isinstance(s, ast.AnnAssign)]
    return {target.id: value for target, value in pairs if isinstance(target, ast.Name)}
