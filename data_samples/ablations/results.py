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
from ablations.rows import ROWS
from vclip.data.storage import replace
from vclip.datasets.minihowto import minihowto

# (task, score) -> name in tables and figures
OUTCOMES = {
    ("retrieval", "r1"): "retrieval R@1",
    ("videoqa", "accuracy"): "VideoQA",
    ("videoqa, hard", "accuracy"): "VideoQA, hard",
    ("segmentation", "f1_25"): "segmentation F1@25",
    ("segmentation", "mean_recall"): "segmentation recall",
    ("localization", "recall"): "localization recall",
}
# the score that decides about a part of the method, in the style of the training videos; named before the runs
PRIMARY = {
    ("overlap", "MiniHowTo"): "retrieval R@1",
    ("overlap", "world"): "retrieval R@1",
    ("retrieval", "MiniHowTo"): "segmentation recall",
    ("retrieval", "world"): "retrieval R@1",
}
COLUMNS = ["row", "seed", "data", "style", "task", "score", "value", "baseline", "n", "steps", "mass", "seconds"]


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
        >>> read_runs()[0]["row"]
        'full'
    """
    path = Path(path) if path else shipped_results()
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    runs = []
    for file in files:
        text = file.read_text(encoding="utf-8")
        for number, line in enumerate([text] if path.is_dir() else text.splitlines(), start=1):
            try:
                run = json.loads(line)
                runs.append(run | {"setting": dict(run["setting"]), "scores": dict(run["scores"])})
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{file}, line {number} is not a run of this ablation ({error}): make it again with ablate.py"
                ) from None
    if not runs:
        raise FileNotFoundError(f"{path} holds no finished run: name another file, or train some with `run_all`")
    return runs


def write_runs(runs: list[dict], file: str | Path) -> None:
    """Write runs, one a line, ordered by data, setting, row and seed. The file is replaced as a whole.

    Args:
        runs: what `run_row` returned.
        file: where to write; its folder is made.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_runs(read_runs(), Path(folder) / "results.jsonl")
        ...     read_runs(folder + "/results.jsonl") == read_runs()
        True
    """
    place = {row: i for i, row in enumerate(ROWS)}
    ordered = sorted(
        runs, key=lambda r: (r["data"], json.dumps(r["setting"]), place.get(r["row"], len(place)), r["seed"])
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
        A table with the columns `COLUMNS`, then "at NAME" for each name in the runs' settings, NaN where there is none.
        `value` and `baseline` are fractions, but for median ranks; `n` is how many clips, questions or steps the score
        is over; `mass` is the softmax mass on other videos in random batches, as the last epoch began (NaN for
        MIL-NCE); `seconds` is what training and scoring took.

    Raises:
        FileNotFoundError, ValueError: as `read_runs`.

    Example:
        >>> results().columns.tolist()[: len(COLUMNS)] == COLUMNS
        True
    """
    runs = read_runs(path)
    for library in ("vclip", "torch"):
        versions = sorted({run.get("versions", {}).get(library, "unknown") for run in runs})
        if len(versions) > 1:
            message = f"the runs mix {library} {' and '.join(versions)}, which may cause effects of its own"
            warnings.warn(message, stacklevel=2)
    names = list(dict.fromkeys(name for run in runs for name in run["setting"]))
    rows = [
        (run["row"], run["seed"], run["data"], style, task, score, value, baseline, n, run["steps"],
         run["mass_on_other_videos"], sum(run["seconds"].values()), *(run["setting"].get(name) for name in names))
        for run in runs
        for style, tasks in run["scores"].items()
        for task, scores in tasks.items()
        for score, (value, baseline, n) in scores.items()
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=[*COLUMNS, *(f"at {name}" for name in names)])


def by_seed(
    table: pd.DataFrame, row: str, setting: Mapping[str, object] | None = None, column: str = "value", **chosen
) -> dict[int, float]:
    """The values of a row by seed.

    Args:
        table: from `results`.
        row: a key of `ROWS`.
        setting: of the runs, all of it; empty unless given.
        column: what to take instead of the value.
        **chosen: column = value, such as `task="retrieval"`; must leave one value a seed. MiniHowTo's and test sets in
            the training style unless given.

    Returns:
        {seed: value}.

    Raises:
        ValueError: nothing is left, or several values a seed.

    Example:
        >>> sorted(by_seed(results(), "shared towers", {"steps": 375}, task="retrieval", score="r1"))
        [0, 1, 2, 3, 4]
    """
    chosen = {"row": row, "data": "MiniHowTo", "style": "test"} | chosen
    wanted = {f"at {name}": value for name, value in (setting or {}).items()}
    columns = (table.get(name, np.nan) == value for name, value in (chosen | wanted).items())
    keep = np.logical_and.reduce([np.broadcast_to(column, len(table)) for column in columns])
    for other in table.columns:
        if other.startswith("at ") and other not in wanted:
            keep &= table[other].isna()
    seeds, values = table.loc[keep, "seed"].tolist(), table.loc[keep, column].tolist()
    if not seeds or len(set(seeds)) < len(seeds):
        raise ValueError(
            f"{len(seeds)} values of {chosen} at {setting or {}}: choose setting, task and score that leave one a seed"
        )
    return dict(zip(seeds, values, strict=True))


def mean(table: pd.DataFrame, row: str, setting: Mapping[str, object] | None = None, **chosen) -> Interval:
    """Mean of a row over its seeds.

    Args:
        table, row, setting, chosen: as in `by_seed`.

    Returns:
        The mean with its 95 % interval.

    Example:
        >>> mean(results(), "full", data="world", task="retrieval", score="r1").n
        8
    """
    return mean_interval(list(by_seed(table, row, setting, **chosen).values()))


def difference(
    table: pd.DataFrame, first: str, second: str, setting: Mapping[str, object] | None = None, **chosen
) -> Interval:
    """Mean of row `first` minus row `second`, paired by seed.

    Args:
        table, setting, chosen: as in `by_seed`.
        first: a key of `ROWS`.
        second: the row to compare it with.

    Returns:
        The mean difference with its 95 % interval and p.

    Example:
        >>> gain = difference(results(), "full", "w/o overlap", data="world", task="retrieval", score="r1")
        >>> gain.low > 0
        True
    """
    return paired_difference(by_seed(table, first, setting, **chosen), by_seed(table, second, setting, **chosen))


def effects(
    table: pd.DataFrame,
    pairs: Mapping[str, tuple[str, str]],
    setting: Mapping[str, object] | None = None,
    styles: Sequence[str] = STYLES,
    **chosen,
) -> pd.DataFrame:
    """`difference` of several pairs of rows, for every score in `OUTCOMES` that the data have, and each style.

    Args:
        table, setting, chosen: as in `by_seed`.
        pairs: {name: (first, second)}, names of rows.
        styles: test sets to compare on.

    Returns:
        A table with the columns row (the pair's name), style, task (the outcome's name), mean, low, high, n (seeds), p.

    Example:
        >>> len(effects(results(), {"overlap": ("full", "w/o overlap")}, {"steps": 375}))
        12
    """
    lines, data = [], chosen.get("data", "MiniHowTo")
    scored = {*table.loc[table["data"] == data, ["task", "score"]].itertuples(index=False, name=None)}
    for name, (first, second) in pairs.items():
        for (task, score), title in ((key, title) for key, title in OUTCOMES.items() if key in scored):
            for style in styles:
                of = difference(table, first, second, setting, task=task, score=score, style=style, **chosen)
                lines.append({"row": name, "style": style, "task": title, **asdict(of)})
    return pd.DataFrame(lines)


def adjusted(effects: pd.DataFrame, primary: Sequence[bool] | pd.Series) -> pd.DataFrame:
    """Correct effects for how many were tested (Holm). Primary and secondary effects are a family each.

    In 19 of 20 families without any true effect, no `holm` is below 0.05.

    Args:
        effects: with a column `p`, from `effects` for instance.
        primary: which of them are.

    Returns:
        `effects` with the columns `primary` and `holm` (the corrected p).

    Example:
        >>> adjusted(pd.DataFrame({"p": [0.03, 0.02, 0.01]}), [True, False, False])["holm"].tolist()
        [0.03, 0.02, 0.02]
    """
    corrected = effects["p"].groupby(np.asarray(primary)).transform(lambda family: holm(family.to_numpy()))
    return effects.assign(primary=np.asarray(primary), holm=corrected)


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
