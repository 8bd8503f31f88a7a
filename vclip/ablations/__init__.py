"""The rows of the paper's Table 7 on the corpus that ships: configs, cached runs, their results as a table."""

from vclip.ablations.results import (
    HEADLINE,
    by_seed,
    difference,
    effects,
    mean,
    read_runs,
    results,
    shipped_results,
    verdict,
    write_runs,
)
from vclip.ablations.rows import ROWS, Trial, ablation_base, draw_topics, topic_corpus
from vclip.ablations.runs import config_hash, run_all, run_row

__all__ = [
    "HEADLINE",
    "ROWS",
    "Trial",
    "ablation_base",
    "by_seed",
    "config_hash",
    "difference",
    "draw_topics",
    "effects",
    "mean",
    "read_runs",
    "results",
    "run_all",
    "run_row",
    "shipped_results",
    "topic_corpus",
    "verdict",
    "write_runs",
]
