"""What an evaluation found: scores beside what knowing nothing scores, every example, and what made them."""

import hashlib
import html
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from vclip.corpus import Corpus
from vclip.datasets._records import Dataset
from vclip.model import VideoCLIPModel
from vclip.notebook import write_scores


@dataclass(frozen=True, repr=False)
class Report:
    """Scores of one task on one data set; shown as a table in a notebook.

    `scores` by name, fractions except median ranks; `floors[name]` holds the same scores of an answer that knows
    nothing (chance, all-Outside, ...), as far as it has them. `n` examples of kind `unit` were scored; `examples` has a
    row for each. `coverage`: `videos` of `of` had features, `missing` are the ids of the others. `about` names model,
    data, features, seed and options.
    """

    task: str
    scores: dict[str, float]
    floors: dict[str, dict[str, float]]
    n: int
    unit: str
    examples: pd.DataFrame
    coverage: dict[str, Any]
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def table(self) -> pd.DataFrame:
        """A row a score; the first column is the model's, the others the floors'."""
        return pd.DataFrame({"score": self.scores} | self.floors, index=pd.Index(list(self.scores)))

    def as_dict(self) -> dict[str, Any]:
        """What `scores.json` holds: everything but the examples; an undefined score is None."""
        scores = {name: None if value != value else value for name, value in self.scores.items()}
        return {
            "task": self.task, "scores": scores, "floors": self.floors, "n": self.n, "unit": self.unit,
            "coverage": self.coverage, **self.about,
        }  # fmt: skip

    def save(self, output: str | Path) -> Path:
        """Writes `scores.json` and `examples.json` (a record a line) into the folder `output`; returns the former."""
        path = write_scores(output, self.as_dict())
        self.examples.to_json(Path(output) / "examples.json", orient="records", lines=True)
        return path

    def _headline(self) -> str:
        data = self.about.get("data", {})
        covered = f"{self.coverage['videos']} of {self.coverage['of']} videos have features"
        return f"{self.task}, {data.get('name', '')} {data.get('split', '')}: n = {self.n} {self.unit}, {covered}"

    def __repr__(self) -> str:
        return f"{self._headline()}\n{self.table.to_string(float_format='{:.4g}'.format, na_rep='')}"

    def _repr_html_(self) -> str:
        table = self.table.to_html(float_format="{:.4g}".format, na_rep="", border=0)
        return f"<p>{html.escape(self._headline())}</p>{table}"


def coverage(dataset: Dataset, corpus: Corpus) -> dict[str, Any]:
    """How many of the data set's videos have features, and which lack them.

    Raises ValueError if none has: then these are other videos' features.
    """
    videos, missing = dataset.video_ids, dataset.missing(corpus)
    if len(missing) == len(videos):
        raise ValueError(f"{corpus} has none of the {len(videos)} videos of {dataset}: are these the right features?")
    return {"videos": len(videos) - len(missing), "of": len(videos), "missing": missing}


def about(
    model: VideoCLIPModel, dataset: Dataset, corpus: Corpus, seed: int, options: Mapping[str, Any]
) -> dict[str, Any]:
    """What made a report, so that a second run can be compared: hashes of the weights and of the records."""
    records = json.dumps([asdict(record) for record in dataset], default=str).encode()
    return {
        "model": {"name": Path(model.config._name_or_path).name, "weights": weights_hash(model)},
        "data": {
            "name": dataset.name, "split": dataset.split, "records": len(dataset),
            "hash": hashlib.sha256(records).hexdigest()[:16],
        },
        "features": asdict(corpus.spec) if corpus.spec else None,
        "seed": seed,
        "options": dict(options),
    }  # fmt: skip


def weights_hash(model: VideoCLIPModel) -> str:
    """16 hexadecimal digits of the SHA-256 over names and float32 values of all parameters."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def covered(dataset: Dataset, corpus: Corpus) -> list[int]:
    """Positions of the records whose video has features."""
    return [i for i, record in enumerate(dataset) if record.video_id in corpus]
