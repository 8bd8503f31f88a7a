"""Make the ablation's results again: `python data_samples/ablate.py`. Stopped and started again, it goes on.

It trains every row of the table; full and without overlap on narration with other lags; full and without retrieval on
corpora of few topics, and on as few videos of all topics. Work and results go to `runs/ablations`;
`--out data_samples/ablations/results.jsonl` replaces the results that ship.
"""

import argparse
from pathlib import Path

from ablations.results import write_runs
from ablations.rows import ROWS, Trial, draw_topics, spread_corpus, topic_corpus
from ablations.runs import run_all
from narrations import LAGS, folder_of, with_lag

TOPICS = (3, 10)  # numbers of topics; the control has as many videos as the first


def trials(seeds: range, work: Path) -> list[Trial]:
    """All runs, seed by seed; their training corpora are made in `work`."""
    found = [Trial(row, seed) for seed in seeds for row in ROWS]
    for lag in LAGS:
        corpus = str(with_lag(lag, folder_of(lag, work / "narrations")).path)
        found += [Trial(row, seed, corpus, lag=lag) for seed in seeds for row in ("full", "w/o overlap")]
    for seed in seeds:
        drawn = [draw_topics(number, seed) for number in TOPICS]
        corpora = [topic_corpus(topics, work / f"topics_{len(topics)}_{seed}") for topics in drawn]
        control = spread_corpus(len(corpora[0]), seed, work / f"spread_{seed}")
        for corpus, topics in zip([*corpora, control], [*drawn, drawn[0]], strict=True):
            found += [Trial(row, seed, str(corpus.path), among=topics) for row in ("full", "w/o retrieval")]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, help="one a core by default")
    parser.add_argument("--work", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--out", type=Path, help="file of all results; results.jsonl in the work folder by default")
    arguments = parser.parse_args()
    chosen = trials(range(arguments.seeds), arguments.work)
    runs = run_all(chosen, arguments.work / "cache", arguments.processes)
    write_runs(runs, arguments.out or arguments.work / "results.jsonl")


if __name__ == "__main__":
    main()
