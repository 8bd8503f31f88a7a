"""What an evaluation found: scores beside chance-level and trivial baselines, every example, and what made them."""

import hashlib
import html
import json
import platform
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic_core import to_jsonable_python
from tqdm.auto import tqdm

from vclip.data.corpus import Corpus
from vclip.data.storage import replace, write_json
from vclip.datasets._records import Dataset
from vclip.models.dual_encoder import DualEncoder

VIDEOS_AT_ONCE = 64
ROUNDED = 2  # seconds by which annotations may outlast a video


@dataclass(frozen=True, repr=False, eq=False)
class Report:
    """Scores of one task on one data set; shown as a table in a notebook.

    `scores` are fractions except median ranks, NaN where undefined; `baselines` the same of trivial methods (chance,
    all-Outside, ...). `n` examples of kind `unit` have a row each in `examples`. `coverage`: `videos` of `of` had
    features, `missing` names the others; `records` of `of_records` are of videos with features; of these, `seconds` of
    `of_seconds` up to the last annotation have features, and `short` says how many a video lacks. `details` is what the
    task says beside the scores, such as segmentation's threshold; `about` model, data, features, seed and options.
    """

    task: str
    scores: dict[str, float]
    baselines: dict[str, dict[str, float]]
    n: int
    unit: str
    examples: pd.DataFrame
    coverage: dict[str, Any]
    details: dict[str, Any] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def table(self) -> pd.DataFrame:
        """One row for each score: the model's, then the baselines'."""
        return pd.DataFrame({"score": self.scores} | self.baselines, index=pd.Index(list(self.scores)))

    @property
    def percent(self) -> pd.DataFrame:
        """A row for the model, then for each baseline: fractions in per cent, a median rank as it is."""
        rank = self.table.index == "median_rank"
        return self.table.mul(np.where(rank, 1, 100), axis=0).set_index(self.table.index + np.where(rank, "", " %")).T

    def as_dict(self) -> dict[str, Any]:
        """Everything but the examples as JSON holds it; an undefined score is None."""
        whole = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("examples", "about")}
        return _plain(whole | self.about)

    def save(self, output: str | Path) -> Path:
        """Write `examples.json` (one record a line) and `scores.json` into `output`; return the latter's path."""
        scores = write_scores(output, self.as_dict())
        examples = Path(output) / "examples.json"
        replace(examples, lambda file: self.examples.to_json(file, orient="records", lines=True))
        return scores

    def _headline(self) -> str:
        data, found, missing = self.about.get("data", {}), self.coverage, self.coverage["missing"]
        but = f" (not {', '.join(map(repr, missing[:3]))}{', ...' if len(missing) > 3 else ''})" if missing else ""
        if short := found.get("short"):
            but += f", {len(short)} of them only {found['seconds']:.0f} of {found['of_seconds']:.0f} annotated seconds"
        left_out = f", {data['left_out']} listed left out" if data.get("left_out") else ""
        return (
            f"{self.task}, {data.get('name', '')} {data.get('split', '')}: n = {self.n} {self.unit}, "
            f"{found['videos']} of {found['of']} videos have features{but}, "
            f"{found['records'] - self.details.get('left_out', 0)} of {found['of_records']} records scored{left_out}"
        )

    def __repr__(self) -> str:
        return f"{self._headline()}\n{self.percent.to_string(float_format='{:.1f}'.format, na_rep='–')}"

    def _repr_html_(self) -> str:
        table = self.percent.to_html(float_format="{:.1f}".format, na_rep="–", border=0)
        return f"<p>{html.escape(self._headline())}</p>{table}"


def coverage(dataset: Dataset, corpus: Corpus) -> dict[str, Any]:
    """Count videos, records and annotated seconds with features, and name the videos that lack some; see `Report`.

    Raises ValueError if no video has features, or if there are obviously more or less than one a second.
    """
    videos, missing, scored = dataset.video_ids, dataset.missing(corpus), covered(dataset, corpus)
    if not videos:
        raise ValueError(f"{dataset}: nothing to score; is it the right split?")
    ids = f"its ids are like {corpus.video_ids[:3]}, not like {missing[:3]}"
    if not scored:
        raise ValueError(f"{corpus} has none of the {len(videos)} videos of {dataset}: {ids}")
    if len(missing) > len(videos) / 2:
        lacks = f"{corpus} lacks {len(missing)} of the {len(videos)} videos of {dataset}: {ids}"
        warnings.warn(lacks, stacklevel=3)
    ends: dict[int, float] = {}  # of each video's last annotation
    for record in (dataset[i] for i in scored):
        i, segments = corpus.index(record.video_id), getattr(record, "segments", ())
        spans = [(s.start, s.end) if hasattr(s, "end") else s[-2:] for s in segments]
        spans += [] if getattr(record, "end", None) is None else [(record.start or 0, record.end)]
        if wrong := [span for span in spans if not 0 <= span[0] <= span[1] < float("inf")]:
            raise ValueError(f"{dataset}: {record.video_id!r} has a segment {wrong[0]}: 0 <= start <= end is needed")
        ends[i] = max([ends.get(i, 0), *(end for _, end in spans)])
    if rate := _other_rate([corpus.seconds[i] / end for i, end in ends.items() if end], corpus):
        how = f"Corpus.open({str(corpus.path)!r}, rate={rate:g}) makes them one a second (rate=1: they are)"
        raise ValueError(f"{corpus} has about {rate:g} features for each annotated second of {dataset}: {how}")
    lacking = {corpus.video_ids[i]: round(float(end - corpus.seconds[i]), 1) for i, end in ends.items()}
    short = {video_id: seconds for video_id, seconds in lacking.items() if seconds > ROUNDED}
    total = sum(ends.values())
    return {
        "videos": len(videos) - len(missing), "of": len(videos), "missing": missing,
        "records": len(scored), "of_records": len(dataset),
        "seconds": total - sum(short.values()), "of_seconds": total, "short": short,
    }  # fmt: skip


def _other_rate(ratios: list[float], corpus: Corpus) -> float | None:
    """Features of another tool a second, if not 1, by how many each video has up to its last annotation."""
    if len(ratios) < 8 or corpus.spec is not None or corpus.rate is not None:
        return None
    # in real COIN and YouCook2 a tenth of the videos end within 5 % of their last annotation, half within 19 %
    low, middle = np.quantile(ratios, [0.1, 0.5])
    if 0.9 <= low <= 1.2 or middle > 1.3 * low:
        return None
    return near if abs((near := round(4 * low) / 4) - low) < 0.1 * low else round(low, 2)


def covered(records: Sequence, corpus: Corpus) -> list[int]:
    """Positions of the records whose video has features."""
    return [i for i, record in enumerate(records) if record.video_id in corpus]


def encoded_seconds(clip: DualEncoder, videos: Sequence[np.ndarray], task: str) -> Iterator[np.ndarray]:
    """h_v (T, D) of every second of each video (T, F), some videos at a time."""
    for first in tqdm(range(0, len(videos), VIDEOS_AT_ONCE), desc=task, delay=10, leave=False):
        yield from clip.encode_seconds(videos[first : first + VIDEOS_AT_ONCE])


def about(clip: DualEncoder, dataset: Dataset, corpus: Corpus, seed: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """What made a report: hashes of weights, data (records and label texts) and features, seed and options."""
    data = [[asdict(record) for record in dataset], getattr(dataset, "texts", None)]
    return {
        "model": {"name": clip.name} | clip.identity,
        "data": {
            "name": dataset.name, "split": dataset.split, "records": len(dataset), "left_out": len(dataset.left_out),
            "hash": hashlib.sha256(json.dumps(data, default=str).encode()).hexdigest()[:16],
        },
        "features": (asdict(corpus.spec) if corpus.spec else {}) | {"hash": features_hash(dataset, corpus)},
        "seed": seed,
        "options": dict(options),
    }  # fmt: skip


def features_hash(dataset: Dataset, corpus: Corpus) -> str:
    """16 digits of the SHA-256 over ids and features of the data set's videos that the corpus has."""
    digest = hashlib.sha256()
    for video_id in sorted(set(dataset.video_ids) - set(dataset.missing(corpus))):
        rows = corpus.features(corpus.index(video_id))
        digest.update(f"{video_id!r} {rows.shape}".encode() + rows.tobytes())
    return digest.hexdigest()[:16]


def write_scores(output: str | Path, scores: dict) -> Path:
    """Write `scores.json` into the folder `output`, with the versions of the libraries."""
    file = Path(output) / "scores.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    versions = {name: version(name) for name in ("vclip", "torch", "transformers", "numpy")}
    write_json(file, _plain(scores) | {"versions": versions | {"python": platform.python_version()}})
    return file


def _plain(value: Any) -> Any:
    """The same in what JSON knows: what is not finite as None, arrays as lists, other things as text."""
    return to_jsonable_python(value, inf_nan_mode="null", fallback=lambda v: getattr(v, "tolist", lambda: str(v))())


@dataclass(frozen=True, repr=False, kw_only=True)
class Score:
    """Base of a task's score, whose numbers are its float fields; `chance`: random answers', a number or a Score."""

    n: int
    chance: Any = None

    def values(self) -> dict[str, float]:
        return {f.name: getattr(self, f.name) for f in fields(self) if f.type is float}

    def beside(self) -> dict[str, dict[str, float]]:
        """Scores of trivial methods, by name."""
        if isinstance(self.chance, Score):
            return {"chance": self.chance.values()}
        return {} if self.chance is None else {"chance": dict.fromkeys(self.values(), float(self.chance))}

    def report(self, baselines: Mapping[str, Mapping[str, float]] | None = None) -> dict[str, Any]:
        """`scores`, `baselines` and `n`, as the `examine` of a task returns them."""
        return {"scores": self.values(), "baselines": {**self.beside(), **(baselines or {})}, "n": self.n}

    def __repr__(self) -> str:
        shown = []
        for name, value in self.values().items():
            baselines = [f"{who} {numbers[name]:.4g}" for who, numbers in self.beside().items() if name in numbers]
            shown.append(f"{name} {value:.4g}" + (f" ({', '.join(baselines)})" if baselines else ""))
        return f"{type(self).__name__}({', '.join(shown)}, n {self.n})"
