"""A report's scores beside the paper's."""

import json
from pathlib import Path

import pandas as pd

from vclip.tasks.report import Report

PUBLISHED = Path(__file__).with_name("published.json")


def beside_published(report: Report) -> pd.DataFrame:
    """Scores and baselines of a report, then what the paper's Tables 1 to 5 and 7 print of the same test, in per cent.

    Rows are "measured here" or "published"; `setting` is ZS (zero-shot) or FT (fine-tuned or trained on labels).
    Where videos lack features, `note` says how many records are scored: retrieval among fewer is easier.

    Raises:
        ValueError: the records are not those of the real test set; files in its format are not enough.
    """
    data = report.about["data"]
    test, records = f"{data['name']} {data['split']}, {report.task}", data["records"] + data["left_out"]
    found = json.loads(PUBLISHED.read_text(encoding="utf-8")).get(test, {"records": [1, 0], "ids": ""})
    fewest, most = found["records"]
    if not fewest <= records <= most or not report.examples["video_id"].str.fullmatch(found["ids"]).all():
        raise ValueError(f"no published scores for {test} with {records} records: only real test sets have some")
    theirs = pd.DataFrame(found["rows"], columns=found["columns"]).assign(source="published")
    ours: pd.DataFrame = 100 * report.table.T.filter(theirs.columns).rename({"score": report.about["model"]["name"]})
    ours = ours.rename_axis("system").reset_index().assign(source="measured here", table="", setting="")
    ours["note"] = f"{report.coverage['records']} of {records} records have features"
    return pd.concat([ours, theirs]).set_index("source").reindex(columns=found["columns"])
