"""Make the ablation's results that ship, again: `python data_samples/ablate.py`. Stopped and started again, it goes on.

Every row of the table; full and without overlap on narration that lags by other times; full and without retrieval on
corpora of few topics. A run takes about a minute of one core. Keeps its work in `runs/ablations`.
"""

import argparse
from pathlib import Path

from narrations import LAGS, folder_of, with_lag

from vclip.ablations import ROWS, Trial, draw_topics, run_all, shipped_results, topic_corpus, write_runs

TOPICS = (3, 10)


def trials(seeds: range, work: Path) -> list[Trial]:
    """All runs, seed by seed, and the corpora they train on in `work`."""
    found = [Trial(row, seed) for seed in seeds for row in ROWS]
    for lag in LAGS:
        corpus = str(with_lag(lag, folder_of(lag, work / "narrations")).path)
        found += [Trial(row, seed, corpus, lag=lag) for seed in seeds for row in ("full", "w/o overlap")]
    for number in TOPICS:
        for seed in seeds:
            topics = draw_topics(number, seed)
            corpus = str(topic_corpus(topics, work / f"topics_{number}_{seed}").path)
            found += [Trial(row, seed, corpus, topics=topics) for row in ("full", "w/o retrieval")]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, help="one a core by default")
    parser.add_argument("--work", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--out", type=Path, default=shipped_results(), help="file of all results")
    arguments = parser.parse_args()
    chosen = trials(range(arguments.seeds), arguments.work)
    write_runs(run_all(chosen, arguments.work / "cache", arguments.processes), arguments.out)


if __name__ == "__main__":
    main()
