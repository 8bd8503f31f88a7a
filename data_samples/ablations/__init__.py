"""The rows of the paper's Table 7 on the corpus that ships: configs, cached runs, their results as a table."""

from ablations.results import (
    HEADLINE,
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
from ablations.rows import ROWS, Trial, ablation_base, draw_topics, spread_corpus, topic_corpus
from ablations.runs import run_all, run_row, trial_key

__all__ = [
    "HEADLINE",
    "PRIMARY",
    "ROWS",
    "Trial",
    "ablation_base",
    "adjusted",
    "by_seed",
    "difference",
    "draw_topics",
    "effects",
    "mean",
    "read_runs",
    "results",
    "run_all",
    "run_row",
    "spread_corpus",
    "topic_corpus",
    "trial_key",
    "verdict",
    "write_runs",
]
