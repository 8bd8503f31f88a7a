"""Tables as a page shows them: in per cent beside chance, or folded away."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from IPython.display import HTML
from pandas.io.formats.style import Styler

from vclip.tasks.report import Report

NAMES = {"r1": "R@1", "r5": "R@5", "r10": "R@10", "median_rank": "median rank"}


def folded(table: Styler, summary: str) -> HTML:
    """A styled table below a line that opens it."""
    return HTML(f"<details><summary>{summary}</summary>{table.to_html()}</details>")


def beside_chance(reports: Mapping[str, Report]) -> Styler:
    """Sets x scores of retrieval in per cent, chance in the row below each set."""
    rows, n = {}, []
    for name, report in reports.items():
        scale = np.where(report.table.index == "median_rank", 1, 100)
        rows |= {name: report.table["score"] * scale, f"chance, {name}": report.table["chance"] * scale}
        n += [report.n, report.n]
    table = pd.DataFrame(rows).T.rename(columns=NAMES)
    return table.assign(n=n).style.format("{:.1f}", subset=list(table))
