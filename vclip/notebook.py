"""What only the notebooks need: checked parameters and written scores."""

import re
from collections.abc import Mapping

from transformers.utils.logging import set_tqdm_hook

from vclip.data.text import refuse_unknown
from vclip.tasks.report import write_scores as write_scores

# a bar stays in the notebook when it is full: weights that load at once need none
set_tqdm_hook(lambda bar, args, options: bar(*args, **options | {"delay": 5}))


def check_parameters(namespace: Mapping) -> None:
    """Refuse a parameter given by papermill's `-p` that the notebook does not have, or a number in place of a text.

    `namespace` is the notebook's `globals()`: `In` holds its parameters' cell, then papermill's, if it made one.
    """
    cells = [source for source in namespace.get("In", []) if source.strip()]
    injected = [source for source in cells[1:2] if source.lstrip().startswith("# Parameters")]
    if injected:
        # names, and the first character of each value
        known, given = (
            dict(re.findall(r"^(\w+)[^=\n]*= *(.)", source, re.MULTILINE)) for source in (cells[0], injected[0])
        )
        refuse_unknown(given, known, "parameter of this notebook")
        for name in given:
            if known[name] in "\"'" and isinstance(value := namespace.get(name), int | float):
                raise TypeError(f"{name} is a text, but {value!r} was read as a number: use -r {name} {value}")
