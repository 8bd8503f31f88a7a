"""Make the ablation's results again: `python data_samples/ablate.py`. Stopped and started again, it goes on.

It trains every row of Table 7 on MiniHowTo and in a world of numbers (`worlds.py`). Then, in such worlds, full and
without overlap for several lags of narration and lengths of clips, and full and without retrieval for several strengths
of dishes, shapes of batches and numbers of steps. Work and results go to `runs/ablations`;
`--out data_samples/ablations/results.jsonl` replaces the results that ship.
"""

import argparse
from pathlib import Path

from ablations.results import write_runs
from ablations.rows import ROWS, Trial
from ablations.runs import run_all
from worlds import World, make

CLAIMS = ("full", "w/o retrieval", "w/o overlap")  # rows with more seeds
STEPS = (375, 750)  # of the optimizer, on MiniHowTo
LAGS = (0.0, 4.0, 8.0)  # seconds
CLIPS = {0.4: (2, 7), 0.8: (4, 14), 1.6: (8, 28)}  # mean length in steps: shortest and longest video clip in seconds
DISHES = (0.25, 0.5, 1.0)
BATCHES = ((8, 8), (16, 4), (64, 1))  # videos, and clips of each
WORLD_STEPS = (500, 1000, 2000)


def table(seeds: int, others: int, corpus: str, setting: dict, **changes) -> list[Trial]:
    """Every row; `seeds` of the rows that the claims are about, `others` of the rest."""
    counts = {row: seeds if row in CLAIMS else others for row in ROWS}
    return [Trial(row, seed, corpus, setting, changes) for row, n in counts.items() for seed in range(n)]


def world(work: Path, **changes) -> str:
    """The folder of a world, made in `work` unless it is there."""
    name = "_".join(f"{key}_{value:g}" for key, value in changes.items()) or "base"
    return str(make(World(**changes), work / "worlds" / name))


def overlap_map(seeds: int, work: Path) -> list[Trial]:
    """Full and without overlap, by lag of narration and length of video clips; 1,000 steps."""
    found = []
    for lag in LAGS:
        corpus = world(work) if lag == World().lag else world(work, lag=lag)
        for clip, seconds in CLIPS.items():
            setting, changes = {"lag": lag, "clip": clip}, {"total_steps": 1000}
            for seed in range(seeds):
                found.append(Trial("full", seed, corpus, setting, changes | {"video_seconds": seconds}))
                found.append(Trial("w/o overlap", seed, corpus, setting, changes))  # as long as their texts
    return found


def retrieval_map(seeds: int, work: Path) -> list[Trial]:
    """Full and without retrieval, by strength of dishes and shape of batches, and by steps."""
    found, rows = [], ("full", "w/o retrieval")
    for dish in DISHES:
        corpus = world(work) if dish == World().dish else world(work, dish=dish)
        for videos, clips in BATCHES:
            changes = {
                "videos_per_batch": videos,
                "clips_per_video": clips,
                "candidates": 2 * videos,
                "total_steps": 1000,
            }
            setting = {"dish": dish, "videos_per_batch": videos}
            found += [Trial(row, seed, corpus, setting, changes) for seed in range(seeds) for row in rows]
    for steps in WORLD_STEPS:
        setting, changes = {"steps": steps}, {"total_steps": steps}
        found += [Trial(row, seed, world(work), setting, changes) for seed in range(seeds) for row in rows]
    return found


def trials(seeds: int, others: int, mapped: int, work: Path) -> list[Trial]:
    """All runs; worlds are made in `work`."""
    found = table(seeds, others, world(work), {})
    for steps in STEPS:
        found += table(seeds, others, "", {"steps": steps}, total_steps=steps)
    return found + retrieval_map(mapped, work) + overlap_map(mapped, work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8, help=f"of {', '.join(CLAIMS)}")
    parser.add_argument("--others", type=int, default=5, help="seeds of the other rows")
    parser.add_argument("--mapped", type=int, default=3, help="seeds of a place in the maps")
    parser.add_argument("--processes", type=int, help="one a core by default")
    parser.add_argument("--work", type=Path, default=Path("runs/ablations"))
    parser.add_argument("--out", type=Path, help="file of all results; results.jsonl in the work folder by default")
    arguments = parser.parse_args()
    chosen = trials(arguments.seeds, arguments.others, arguments.mapped, arguments.work)
    runs = run_all(chosen, arguments.work / "cache", arguments.processes)
    write_runs(runs, arguments.out or arguments.work / "results.jsonl")


if __name__ == "__main__":
    main()
