"""Runs of the ablation as one table, and its effects: differences of rows, paired by seed, with intervals."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from shipped import STYLES

from ablations.intervals import Interval, holm, mean_interval, paired_difference
from ablations.rows import LAG, ROWS
from vclip.data.storage import replace
from vclip.datasets.minihowto import minihowto
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
COLUMNS = ["row", "seed", "lag", "topics", "per_topic", "style", "task", "score", "value", "baseline", "n", "seconds"]


def shipped_results() -> Path:
    """The file of finished runs beside the corpus that ships."""
    return minihowto().parent / "ablations" / "results.jsonl"


def read_runs(path: str | Path = "") -> list[dict]:
    """Read finished runs as `run_row` returned them.

    Args:
        path: a file with one run a line, or a cache folder of `.json` files; empty for the runs that ship.

    Returns:
        One dict a run.

    Raises:
        FileNotFoundError: `path` is missing or holds no run.
        ValueError: a line is damaged; names file and line.

    Example:
        >>> len(read_runs())
        100
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
                raise ValueError(f"{file}, line {number} is not a run of the ablation ({error}): remove it") from None
    if not runs:
        raise FileNotFoundError(f"{path} holds no finished run: name another file, or train some with `run_all`")
    return runs


def write_runs(runs: list[dict], file: str | Path) -> None:
    """Write runs, one a line, ordered by lag, topics, videos, seed and row. The file is replaced as a whole.

    Args:
        runs: what `run_row` returned.
        file: where to write; its folder is made.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_runs(read_runs(), Path(folder) / "results.jsonl")
        ...     len(read_runs(folder + "/results.jsonl"))
        100
    """
    place = {row: i for i, row in enumerate(ROWS)}
    ordered = sorted(
        runs, key=lambda r: (r["lag"], r["topics"], r["videos"], r["seed"], place.get(r["row"], len(place)))
    )
    text = "".join(json.dumps(run, separators=(",", ":")) + "\n" for run in ordered)
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    replace(file, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def results(path: str | Path = "") -> pd.DataFrame:
    """Finished runs as a table with one line a run and score. Warns where they mix versions of torch or vclip.

    Args:
        path: as in `read_runs`.

    Returns:
        A table with the columns `COLUMNS`. `lag` is in seconds; `topics` and `per_topic` count the topics of the
        training corpus and its videos a topic (rounded); `value` and `baseline` are fractions, but for median ranks;
        `n` is how many clips, questions or steps the score is over; `seconds` is what training and scoring took.

    Raises:
        FileNotFoundError, ValueError: as `read_runs`.

    Example:
        >>> results().columns.tolist() == COLUMNS
        True
    """
    runs = read_runs(path)
    for library in ("vclip", "torch"):
        versions = sorted({run.get("versions", {}).get(library, "unknown") for run in runs})
        if len(versions) > 1:
            message = f"the runs mix {library} {' and '.join(versions)}, which may cause effects of its own"
            warnings.warn(message, stacklevel=2)
    rows = [
        (run["row"], run["seed"], run["lag"], run["topics"], round(run["videos"] / run["topics"]), style, task, score,
         value, baseline, n, sum(run["seconds"].values()))
        for run in runs
        for style, tasks in run["scores"].items()
        for task, scores in tasks.items()
        for score, (value, baseline, n) in scores.items()
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def by_seed(table: pd.DataFrame, row: str, **chosen) -> dict[int, float]:
    """The values of a row by seed.

    Args:
        table: from `results`.
        row: a key of `ROWS`.
        **chosen: column = value; must leave one value a seed. Lag, topics and videos a topic are those of the corpus
            that ships unless given.

    Returns:
        {seed: value}.

    Raises:
        ValueError: nothing is left, or several values a seed.

    Example:
        >>> sorted(by_seed(results(), "shared towers", style="test", task="retrieval", score="r1"))
        [0, 1, 2, 3, 4]
    """
    chosen = {"row": row, "lag": LAG, "topics": 42, "per_topic": 14} | chosen
    keep = np.logical_and.reduce([table[column] == value for column, value in chosen.items()])
    seeds, values = table.loc[keep, "seed"].tolist(), table.loc[keep, "value"].tolist()
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(f"{len(seeds)} values of {chosen}: choose style, task and score that leave one a seed")
    return dict(zip(seeds, values, strict=True))


def mean(table: pd.DataFrame, row: str, **chosen) -> Interval:
    """Mean of a row over its seeds.

    Args:
        table, row, chosen: as in `by_seed`.

    Returns:
        The mean with its 95 % interval.

    Example:
        >>> round(100 * mean(results(), "full", style="test", task="retrieval", score="r1").mean, 1)
        16.0
    """
    return mean_interval(list(by_seed(table, row, **chosen).values()))


def difference(table: pd.DataFrame, first: str, second: str, **chosen) -> Interval:
    """Mean of row `first` minus row `second`, paired by seed.

    Args:
        table, chosen: as in `by_seed`.
        first: a key of `ROWS`.
        second: the row to compare it with.

    Returns:
        The mean difference with its 95 % interval and p.

    Example:
        >>> verdict(difference(results(), "w/o retrieval", "full", style="test", task="retrieval", score="r1"))
        '+5.3 (+2.1 to +8.4)'
    """
    return paired_difference(by_seed(table, first, **chosen), by_seed(table, second, **chosen))


def effects(
    table: pd.DataFrame, pairs: Mapping[str, tuple[str, str]], styles: Sequence[str] = STYLES, **chosen
) -> pd.DataFrame:
    """`difference` of several pairs of rows, for every score in `HEADLINE` and each style.

    Args:
        table, chosen: as in `by_seed`.
        pairs: {name: (first, second)}, names of rows.
        styles: test sets to compare on.

    Returns:
        A table with the columns row (the pair's name), style, task (with its score), mean, low, high, n (seeds) and p.

    Example:
        >>> len(effects(results(), {"overlap": ("full", "w/o overlap")}))
        10
    """
    lines = []
    for name, (first, second) in pairs.items():
        for (task, score), title in HEADLINE.items():
            for style in styles:
                of = difference(table, first, second, task=task, score=score, style=style, **chosen)
                lines.append({"row": name, "style": style, "task": title, **asdict(of)})
    return pd.DataFrame(lines)


def adjusted(effects: pd.DataFrame) -> pd.DataFrame:
    """Correct effects for how many were tested (Holm). Primary and secondary effects are a family each.

    In 19 of 20 families without any true effect, no `holm` is below 0.05.

    Args:
        effects: from `effects`.

    Returns:
        `effects` with the columns `primary` (is it `PRIMARY`?) and `holm` (the corrected p).

    Example:
        >>> adjusted(effects(results(), {"overlap": ("full", "w/o overlap")}))["primary"].sum()
        np.int64(1)
    """
    primary = (effects["style"] == PRIMARY[0]) & (effects["task"] == PRIMARY[1])
    corrected = effects.groupby(primary)["p"].transform(lambda family: holm(family.to_numpy()))
    return effects.assign(primary=primary, holm=corrected)


def verdict(effect: Interval) -> str:
    """A difference of two fractions in words, in points.

    Args:
        effect: from `difference`.

    Returns:
        The mean and its interval; "none seen" instead of the mean where the interval holds 0. What lies outside the
        brackets is ruled out at the interval's level.

    Example:
        >>> verdict(Interval(0.01, -0.02, 0.04, n=5))
        'none seen (-2.0 to +4.0)'
    """
    seen = "none seen" if 0 in effect else _points(effect.mean)
    return f"{seen} ({_points(effect.low)} to {_points(effect.high)})"


def _points(fraction: float) -> str:
    """Tenths of a point, or thousandths where tenths would hide the sign."""
    points = 100 * fraction
    return f"{points:+.1f}" if abs(points) >= 0.05 else f"{points + 0.0:+.3f}"
