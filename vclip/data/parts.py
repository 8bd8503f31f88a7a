"""What `extract` has finished but not yet merged into the corpus, so that a run that is killed goes on.

`unmerged/` in the corpus folder holds parts. A part is a features file and, written after it, the rows of its videos
as JSON; without them it does not count. A video is a part of its own until its process has enough for a shard. At
the end the main process gives the parts to the corpus and writes the tables.

A row is a dict: video (its id), seconds, status, error, sizes (bytes of the video and its captions), media (path),
captions (start, end, text) or None. The report keeps the first five.
"""

import hashlib
import json
import shutil
from collections.abc import Container
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
from safetensors import safe_open
from safetensors.numpy import load_file

from vclip.data import storage
from vclip.data.captions import Captions
from vclip.data.corpus import Corpus
from vclip.data.spec import FeatureSpec

REPORT = "report.json"
REPORTED = ("video", "seconds", "status", "error", "sizes")


class Part(NamedTuple):
    features: Path
    table: Path
    rows: list[dict]


def prepare(out: Path, spec: FeatureSpec) -> None:
    """Make the folder, or make sure that it holds a corpus or an unfinished one of this spec."""
    work = _work(out)
    there = []
    if (work / "spec.json").is_file():
        there.append(FeatureSpec.read(json.loads((work / "spec.json").read_text(encoding="utf-8")), work / "spec.json"))
    if (out / "corpus.json").is_file():
        there.append(Corpus.open(out).spec)
    for found in there:
        if found not in (None, spec):
            raise ValueError(
                f"{out} holds another encoder's features ({found.difference(spec)}): choose another folder"
            )
    if (
        not (out / "corpus.json").is_file()
        and out.exists()
        and not there
        and (not out.is_dir() or {*out.iterdir()} - {work})
    ):
        raise FileExistsError(f"{out} holds something else: choose another folder or remove it first")
    work.mkdir(parents=True, exist_ok=True)
    storage.write_json(work / "spec.json", asdict(spec))
    keep = {path for part in read(out) for path in (part.features, part.table)} | {work / "spec.json"}
    for path in work.iterdir():
        if path not in keep:
            path.unlink()


def is_unfinished(out: Path) -> bool:
    """Whether `extract` was stopped here, and has to be called again."""
    return _work(out).exists()


def write(out: Path, features: list[np.ndarray], rows: list[dict]) -> Part:
    name = f"{len(rows)}-{hashlib.sha256(rows[0]['video'].encode()).hexdigest()[:32]}"
    part = Part(_work(out) / f"{name}.safetensors", _work(out) / f"{name}.json", rows)
    storage.write_shard(part.features, features)
    storage.write_json(part.table, {"rows": rows})
    return part


def read(out: Path) -> list[Part]:
    """The whole parts, largest first, without those whose videos are in a larger one (left by a stop while packing)."""
    found = []
    for table in sorted(_work(out).glob("*-*.json")):
        features = table.with_suffix(".safetensors")
        if features.is_file():
            found.append(Part(features, table, json.loads(table.read_text(encoding="utf-8"))["rows"]))
    seen, kept = set(), []
    for part in sorted(found, key=lambda part: -len(part.rows)):
        names = {row["video"] for row in part.rows}
        if not names <= seen:
            seen |= names
            kept.append(part)
    return kept


def fill_a_shard(parts: list[Part]) -> bool:
    size = sum(_bytes(part) for part in parts)
    return size >= storage.SHARD_BYTES or sum(len(part.rows) for part in parts) >= storage.SHARD_VIDEOS


def pack(out: Path, parts: list[Part]) -> Part:
    """Several parts become one; a single one stays as it is."""
    if len(parts) == 1:
        return parts[0]
    features = []
    for part in parts:
        tensors = load_file(part.features)
        features += np.split(tensors["features"], tensors["starts"][1:-1])
    packed = write(out, features, [row for part in parts for row in part.rows])
    for part in parts:
        part.table.unlink()
        part.features.unlink()
    return packed


def merge(out: Path, spec: FeatureSpec, failed: list[dict], order: list[str]) -> None:
    """Parts into the corpus; `failed` rows go into the report only. Videos are listed in this `order`, others last.

    Until the tables are written nothing in `unmerged/` goes, so a stop at any moment loses nothing.
    """
    whole = _pack_small(out)
    new = {row["video"]: row for part in whole for row in part.rows}
    _write_report(out, failed, new)
    if whole or not (out / "corpus.json").is_file():
        _write_corpus(out, spec, whole, new, order)
    shutil.rmtree(_work(out))


def _write_report(out: Path, failed: list[dict], new: dict[str, dict]) -> None:
    report = {row["video"]: row for row in read_report(out)}
    kept = {video for video, row in report.items() if row["status"] != "failed"}
    for row in (*(row for row in failed if row["video"] not in kept), *new.values()):
        report[row["video"]] = {key: row[key] for key in REPORTED}
    storage.write_json(out / REPORT, {"rows": list(report.values())})


def _write_corpus(out: Path, spec: FeatureSpec, whole: list[Part], replaced: Container[str], order: list[str]) -> None:
    entries, split, licence = _kept(out, replaced)
    taken = [int(path.stem.split("-")[1]) for path in out.glob("features-*.safetensors")]
    for shard, part in enumerate(whole, max(taken, default=-1) + 1):
        storage.link_or_copy(part.features, out / storage.shard_name(shard))
        for i, row in enumerate(part.rows):
            captions = None if row["captions"] is None else Captions(**row["captions"])
            entries.append(_Entry((row["video"], row["seconds"], shard, i), captions, row["media"]))
    rank = {video: i for i, video in enumerate(order)}
    entries.sort(key=lambda entry: rank.get(entry.row[0], len(rank)))
    captioned = [(entry.row[0], entry.captions) for entry in entries if entry.captions is not None]
    media = {entry.row[0]: entry.media for entry in entries if entry.media is not None}
    storage.write_tables(out, spec, [entry.row for entry in entries], captioned, split, licence, media)
    used = {storage.shard_name(entry.row[2]) for entry in entries}
    for path in out.glob("features-*.safetensors"):
        if path.name not in used:
            path.unlink()


def read_report(out: Path) -> list[dict]:
    """The report's rows of all runs so far; a corpus that was made otherwise is ok."""
    if (out / REPORT).is_file():
        return json.loads((out / REPORT).read_text(encoding="utf-8"))["rows"]
    if not (out / "corpus.json").is_file():
        return []
    corpus = Corpus.open(out)
    rows = zip(corpus.video_ids, corpus.seconds.tolist(), strict=True)
    return [dict(zip(REPORTED, (video, seconds, "ok", "", None), strict=True)) for video, seconds in rows]


def _bytes(part: Part) -> int:
    with safe_open(part.features, "np") as file:
        seconds, dim = file.get_slice("features").get_shape()
    return 2 * seconds * dim


def _work(out: Path) -> Path:
    return out / "unmerged"


def _pack_small(out: Path) -> list[Part]:
    """Parts below a shard's size packed together, so that each process's last videos share shards."""
    parts = read(out)
    whole, pending = [part for part in parts if fill_a_shard([part])], []
    for part in parts:
        if not fill_a_shard([part]):
            pending.append(part)
            if fill_a_shard(pending):
                whole.append(pack(out, pending))
                pending = []
    return whole + ([pack(out, pending)] if pending else [])


class _Entry(NamedTuple):
    row: tuple[str, int, int, int]  # video_id, seconds, shard, row
    captions: Captions | None
    media: str | None


def _kept(out: Path, replaced: Container[str]) -> tuple[list[_Entry], str | None, str | None]:
    """The videos that the corpus holds and keeps, its split and licence."""
    if not (out / "corpus.json").is_file():
        return [], None, None
    corpus = Corpus.open(out)
    entries = []
    for i, row in enumerate(pq.read_table(out / "videos.parquet").to_pylist()):
        if row["video_id"] not in replaced:
            place = (row["video_id"], row["seconds"], row["shard"], row["row"])
            entries.append(_Entry(place, corpus.captions(i), corpus.media[i]))
    return entries, corpus.split, corpus.licence
