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

COMMAND = "pytest tests/benchmarks/bench_*.py --benchmark-json=FILE"


def check_parameters(namespace: Mapping) -> None:
    """Refuse a parameter given by papermill's `-p` that the notebook does not have; papermill itself only warns.

    Args:
        namespace: the notebook's `globals()`. The kernel keeps the source of its cells in `In`: the first holds the
            parameters, and papermill's, if any, comes next and begins with "# Parameters".

    Raises:
        TypeError: the parameter is unknown; offers the nearest name.
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
    """A benchmark's rows by their name, `what`.

    Args:
        path: the file they were read from.
        machine: where they were measured.
        rows: one dict a row.

    Raises:
        ValueError: two rows have the same name.
    """

    def __init__(self, path: str | Path, machine: dict, rows: list[dict]):
        super().__init__((row["what"], row) for row in rows)
        names = [row["what"] for row in rows]
        if twice := [name for name in self if names.count(name) > 1]:
            raise ValueError(f"two rows are named {twice[0]!r}")
        self.path, self.machine = path, machine

    def value(self, what: str, name: str) -> float:
        """A figure of a row: a number, or the number at the start of a text such as "58 GFLOP/s".

        Args:
            what: the row.
            name: the figure.

        Returns:
            The number.

        Raises:
            ValueError: the row or the figure is missing; says how to measure it.
        """
        found = re.match(r"[+-]?[\d,.]*\d(e[+-]?\d+)?", str(self.get(what, {}).get(name, "")))
        if found is None:
            missing = f"figure {name!r} in row {what!r}" if what in self else f"row {what!r}"
            raise ValueError(
                f"{self.path} has no {missing}: measure it again with {COMMAND} (full size; it says what it skips)"
            )
        return float(found[0].replace(",", ""))


def read_rows(path: str | Path = "") -> Rows:
    """Read the rows of a benchmark.

    Args:
        path: what `--benchmark-json` wrote; empty for the file that ships.

    Returns:
        The rows.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds something else, or two rows of the same name.
    """
    path = Path(path) if path else minihowto().parent / "benchmarks" / "cpu.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return Rows(path, dict(found["machine"]), found["rows"])
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no {path}: write it with {COMMAND}") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} does not hold the rows of a benchmark ({error!r}): write it with {COMMAND}") from None
