"""The rows of the paper's Table 7: configs, cached runs, their results as a table."""

from ablations.results import (
    OUTCOMES,
    PRIMARY,
    adjusted,
    by_seed,
    difference,
    effects,
    mean,
    read_runs,
    results,
    verdict,
    write_runs,
)
from ablations.rows import ROWS, Scored, Trial, ablation_base
from ablations.runs import run_all, run_row, trial_key

__all__ = [
    "OUTCOMES",
    "PRIMARY",
    "ROWS",
    "Scored",
    "Trial",
    "ablation_base",
    "adjusted",
    "by_seed",
    "difference",
    "effects",
    "mean",
    "read_runs",
    "results",
    "run_all",
    "run_row",
    "trial_key",
    "verdict",
    "write_runs",
]
