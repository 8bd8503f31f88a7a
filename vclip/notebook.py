"""What only the notebooks need: checked parameters, written scores, and the rows that the benchmarks measured."""

import ast
import json
import re
from collections.abc import Mapping
from pathlib import Path

from vclip.data.text import refuse_unknown
from vclip.datasets.minihowto import minihowto
from vclip.tasks.report import write_scores

__all__ = ["Rows", "check_parameters", "read_rows", "write_scores"]

COMMAND = "pytest -n 0 tests/benchmarks/bench_*.py --benchmark-json=FILE"


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


class Rows(dict[str, dict]):
    """A benchmark's rows by their name, `what`, and the `machine` that they were measured on."""

    def __init__(self, path: Path, machine: dict, rows: list[dict]):
        super().__init__((row["what"], row) for row in rows)
        self.path, self.machine = path, machine

    def value(self, what: str, name: str) -> float:
        """A figure of a row: a number, or the number at the start of a text such as "58 GFLOP/s"."""
        found = re.match(r"[+-]?[\d,.]*\d(e[+-]?\d+)?", str(self.get(what, {}).get(name, "")))
        if found is None:
            raise ValueError(f"{self.path} has no figure {name!r} in row {what!r}: measure it again with {COMMAND}")
        return float(found[0].replace(",", ""))


def read_rows(path: str | Path = "") -> Rows:
    """The rows that `--benchmark-json` wrote to `path`; empty for the file that ships."""
    path = Path(path) if path else minihowto().parent / "benchmarks" / "cpu.json"
    found = json.loads(path.read_text(encoding="utf-8"))
    return Rows(path, found["machine"], found["rows"])
