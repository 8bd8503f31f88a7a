"""What the notebooks share: checked parameters, written scores, and the rows that the benchmarks measured."""

import ast
import json
import re
from collections.abc import Mapping
from pathlib import Path

from vclip.data.text import refuse_unknown
from vclip.datasets.minihowto import minihowto
from vclip.tasks.report import write_scores

__all__ = ["Rows", "check_parameters", "read_rows", "write_scores"]

COMMAND = "pytest tests/benchmarks/bench_*.py --benchmark-json=FILE"


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


def _assigned(source: str) -> list[str]:
    statements = ast.parse(source).body
    targets = [t for s in statements if isinstance(s, ast.Assign) for t in s.targets]
    targets += [s.target for s in statements if isinstance(s, ast.AnnAssign)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


class Rows(dict[str, dict]):
    """A benchmark's rows by their `what`; `machine` says where they were measured, `path` in which file they are.

    Raises ValueError that names a `what` which two rows have.
    """

    def __init__(self, path: Path, machine: dict, rows: list[dict]):
        super().__init__((row["what"], row) for row in rows)
        names = [row["what"] for row in rows]
        if twice := [name for name in self if names.count(name) > 1]:
            raise ValueError(f"two rows are named {twice[0]!r}")
        self.path, self.machine = path, machine

    def value(self, what: str, name: str) -> float:
        """The figure `name` of a row: a number, or the one that a text such as "58 GFLOP/s" begins with.

        Raises ValueError that names what is missing, in which file, and how to measure it.
        """
        found = re.match(r"[+-]?[\d,.]*\d(e[+-]?\d+)?", str(self.get(what, {}).get(name, "")))
        if found is None:
            missing = f"figure {name!r} in row {what!r}" if what in self else f"row {what!r}"
            raise ValueError(
                f"{self.path} has no {missing}: measure it again, by {COMMAND} (full size; it says what it skips)"
            )
        return float(found[0].replace(",", ""))


def read_rows(path: str | Path = "") -> Rows:
    """The file that `--benchmark-json` wrote, or the one that ships.

    Raises FileNotFoundError if there is none, ValueError for another file or two rows of one name.
    """
    path = Path(path) if path else minihowto().parent / "benchmarks" / "cpu.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Rows(path, dict(found["machine"]), found["rows"])
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no {path}: write it by {COMMAND}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no rows of a benchmark ({error!r}): write it by {COMMAND}") from None
