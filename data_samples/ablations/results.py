"""The runs of the ablation as one table, and the effects in it: paired by seed, with intervals."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from ablations.intervals import Interval, holm, mean_interval, p_value, paired_difference
from ablations.rows import LAG, ROWS
from vclip.data.storage import replace
from vclip.datasets.minihowto import STYLES, minihowto
from vclip.tasks.comparison import HEADLINES

TITLES = {
    "retrieval": "retrieval R@1",
    "videoqa": "VideoQA",
    "videoqa, hard": "VideoQA, hard",
    "segmentation": "segmentation F1@25",
    "localization": "localization recall",
}
# (task, its headline score) -> name in tables and figures
HEADLINE = {(task, HEADLINES[task.partition(",")[0]]): title for task, title in TITLES.items()}
PRIMARY = ("test", TITLES["retrieval"])  # style and score that decide; the others are secondary
COLUMNS = ["row", "seed", "lag", "topics", "per_topic", "style", "task", "score", "value", "floor", "n", "seconds"]


def shipped_results() -> Path:
    """The file of finished runs beside the corpus that ships."""
    return minihowto().parent / "ablations" / "results.jsonl"


def read_runs(path: str | Path = "") -> list[dict]:
    """What `run_row` returned: the lines of a file, the `.json` files of a cache folder, or the runs that ship.

    Raises FileNotFoundError if nothing is there, ValueError that names file and line for one that is damaged.
    """
    path = Path(path) if path else shipped_results()
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    runs = []
    for file in files:
        text = file.read_text(encoding="utf-8")
        for number, line in enumerate([text] if path.is_dir() else text.splitlines(), start=1):
            try:
                run = json.loads(line)
                runs.append(run | {"among": tuple(run["among"]), "scores": dict(run["scores"])})
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{file}, line {number} is no run of the ablation ({error}): remove it") from None
    if not runs:
        raise FileNotFoundError(f"{path} holds no finished run")
    return runs


def write_runs(runs: list[dict], file: str | Path) -> None:
    """The runs, one a line, by lag, topics, videos, seed and row; replaced as a whole."""
    place = {row: i for i, row in enumerate(ROWS)}
    ordered = sorted(
        runs, key=lambda r: (r["lag"], r["topics"], r["videos"], r["seed"], place.get(r["row"], len(place)))
    )
    text = "".join(json.dumps(run, separators=(",", ":")) + "\n" for run in ordered)
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    replace(file, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def results(path: str | Path = "") -> pd.DataFrame:
    """One line a run and score: the columns are `COLUMNS`. `path` and errors as in `read_runs`.

    `lag` in seconds; `topics` of the training corpus and videos `per_topic`, both numbers, the latter rounded; `value`
    and `floor` are shares from 0 to 1, but median ranks; `n` is what the score counts; `seconds` what the run took,
    training and scoring. Warns if the runs were made with several versions of torch or vclip.
    """
    runs = read_runs(path)
    for library in ("vclip", "torch"):
        versions = sorted({run.get("versions", {}).get(library, "unknown") for run in runs})
        if len(versions) > 1:
            warnings.warn(f"runs of {library} {' and '.join(versions)} are mixed: effects may be theirs", stacklevel=2)
    rows = [
        (run["row"], run["seed"], run["lag"], run["topics"], round(run["videos"] / run["topics"]), style, task, score,
         value, floor, n, sum(run["seconds"].values()))
        for run in runs
        for style, tasks in run["scores"].items()
        for task, scores in tasks.items()
        for score, (value, floor, n) in scores.items()
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def by_seed(table: pd.DataFrame, row: str, **chosen) -> dict[int, float]:
    """{seed: value} of a row. `chosen` are values of columns, which must leave one value a seed.

    Lag, topics and videos a topic are those of the corpus that ships unless chosen. Raises ValueError if there is none,
    or several a seed.
    """
    chosen = {"row": row, "lag": LAG, "topics": 42, "per_topic": 14} | chosen
    keep = np.logical_and.reduce([table[column] == value for column, value in chosen.items()])
    seeds, values = table.loc[keep, "seed"].tolist(), table.loc[keep, "value"].tolist()
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"{len(seeds)} values of {chosen}: one a seed is wanted, choose style, task and score")
    return dict(zip(seeds, values, strict=True))


def mean(table: pd.DataFrame, row: str, **chosen) -> Interval:
    """A row's mean over its seeds, with its 95 % interval; `chosen` as in `by_seed`."""
    return mean_interval(list(by_seed(table, row, **chosen).values()))


def difference(table: pd.DataFrame, first: str, second: str, **chosen) -> Interval:
    """Mean of row `first` less row `second`, paired by seed, with its 95 % interval; `chosen` as in `by_seed`."""
    return paired_difference(by_seed(table, first, **chosen), by_seed(table, second, **chosen))


def effects(
    table: pd.DataFrame, pairs: Mapping[str, tuple[str, str]], styles: Sequence[str] = STYLES, **chosen
) -> pd.DataFrame:
    """`difference` of each pair of rows, named by its key, for every one of `HEADLINE` and each style.

    Columns: row (the pair's name), style, task (with its score's name), mean, low, high and n, the number of seeds.
    """
    lines = []
    for name, (first, second) in pairs.items():
        for (task, score), title in HEADLINE.items():
            for style in styles:
                of = difference(table, first, second, task=task, score=score, style=style, **chosen)
                lines.append({"row": name, "style": style, "task": title, **asdict(of)})
    return pd.DataFrame(lines)


def adjusted(effects: pd.DataFrame) -> pd.DataFrame:
    """`effects` with `primary` (is it `PRIMARY`?), `p` of a two-sided test, and `holm`, p adjusted for many tests.

    Primary and secondary effects are a family each: below 0.05 in `holm`, no more than one family of twenty in which
    no part mattered would show any.
    """
    primary = (effects["style"] == PRIMARY[0]) & (effects["task"] == PRIMARY[1])
    p = [p_value(Interval(*of)) for of in effects[["mean", "low", "high", "n"]].itertuples(index=False)]
    found = effects.assign(primary=primary, p=p)
    return found.assign(holm=found.groupby("primary")["p"].transform(lambda family: holm(family.to_numpy())))


def verdict(effect: Interval) -> str:
    """A difference of two shares in points: "+4.6 (+0.8 to +8.5)", or, with 0 in its interval, "none seen (...)".

    What lies outside the brackets is ruled out at the interval's level.
    """
    seen = "none seen" if 0 in effect else _points(effect.mean)
    return f"{seen} ({_points(effect.low)} to {_points(effect.high)})"


def _points(share: float) -> str:
    """A tenth of a point, or two digits more where that would hide the sign."""
    points = 100 * share
    return f"{points:+.1f}" if abs(points) >= 0.05 else f"{points + 0.0:+.3f}"
