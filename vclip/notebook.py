"""What only the notebooks need: checked parameters and written scores."""

import re
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
        given, known = (re.findall(r"^(\w+)[^=\n]*=", source, re.MULTILINE) for source in (injected[0], cells[0]))
        refuse_unknown(given, known, "parameter of this notebook")
