"""`merge`: the corpora that several machines extracted, each from its share of the videos, become one.

Shapes: N videos of all corpora.
"""

import argparse
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm.auto import tqdm

from vclip.data import parts, storage
from vclip.data.corpus import Corpus

CAPTIONS = pa.schema({"video_id": pa.string(), "start": pa.float64(), "end": pa.float64(), "text": pa.string()})
VIDEOS_AT_ONCE = 4096


def merge(corpora: Iterable, out) -> Corpus:
    """The corpus `out` of all videos of several corpora (folders). Features files are linked, or copied, as they are.

    Videos are listed in the order of their files' paths, as `extract` lists a folder; those without a path come last,
    in the order given. The reports become one: a failed row goes where another corpus has the video. Word pieces are
    left out (`Corpus.tokenize` makes them again).

    `corpora` are only read; `out` is there once it is whole, and a merge that was stopped begins again.

    Raises FileExistsError if `out` holds something or is the current folder, FileNotFoundError for a folder that is no
    corpus or lacks a file, and ValueError for no corpora, one inside `out` or around it, one that `extract` has not
    finished, another spec, split or licence than the first one's, or a video that two corpora hold.
    """
    out, folders = Path(out).resolve(), [Path(folder) for folder in corpora]
    for folder in folders:
        if out.is_relative_to(folder.resolve()) or folder.resolve().is_relative_to(out):
            raise ValueError(f"of {folder} and {out} one is inside the other: choose an `out` beside the shares")
    if (out / "corpus.json").is_file():
        raise FileExistsError(f"{out} is a corpus already, which nothing is added to: first name the folder to write")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} is not empty: choose another folder or remove it first")
    if out == Path.cwd():
        raise FileExistsError(f"{out} is the current folder, which cannot be replaced: name a new one")
    opened = [_open(folder) for folder in folders]
    _check(opened)
    making = out.parent / f".{out.name}.merging"
    if making.exists():
        shutil.rmtree(making)
    making.mkdir(parents=True)
    try:
        videos = _link_features(opened, making)
        media = videos["media"].to_pylist()
        order = np.array(sorted(range(len(media)), key=lambda i: _place(media[i])), np.int64)
        storage.replace(making / "videos.parquet", lambda path: pq.write_table(videos.take(order), path))
        storage.replace(making / "captions.parquet", lambda path: _write_captions(opened, order, path))
        storage.write_json(making / parts.REPORT, {"rows": _report(folders)})
        storage.write_meta(making, opened[0].spec, opened[0].split, opened[0].licence)
        if out.exists():
            out.rmdir()
        making.rename(out)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    return Corpus.open(out)


def _open(folder: Path) -> Corpus:
    if parts.is_unfinished(folder):
        raise ValueError(f"{folder} is not finished: call extract on its videos again, and it goes on")
    if not (folder / "corpus.json").is_file():
        raise FileNotFoundError(f"{folder} holds no corpus.json: name folders that extract or Corpus.create has made")
    return Corpus.open(folder)


def _check(corpora: list[Corpus]) -> None:
    if not corpora:
        raise ValueError("no corpora to merge: name at least one folder")
    first, holder = corpora[0], {}
    for corpus in corpora:
        assert first.spec is not None and corpus.spec is not None  # every corpus.json has one
        if corpus.spec != first.spec:
            difference = first.spec.difference(corpus.spec)
            raise ValueError(f"{first.path} and {corpus.path} were extracted by different encoders ({difference})")
        for name in ("split", "licence"):
            ours, theirs = getattr(first, name), getattr(corpus, name)
            if ours != theirs:
                raise ValueError(f"the {name} of {first.path} is {ours!r}, that of {corpus.path} {theirs!r}")
        for video in corpus.video_ids:
            if video in holder:
                raise ValueError(f"video {video!r} is in {holder[video]} and in {corpus.path}: leave one of them out")
            holder[video] = corpus.path


def _link_features(corpora: list[Corpus], making: Path) -> pa.Table:
    """Features files under new numbers, and the rows (N,) of videos.parquet with them, corpus after corpus."""
    tables, taken, jobs = [], 0, []
    for corpus in corpora:
        table = pq.read_table(corpus.path / "videos.parquet")
        used, position = np.unique(table["shard"].to_numpy(), return_inverse=True)
        jobs += [(corpus.path / storage.shard_name(old), taken + new) for new, old in enumerate(used)]
        column = table.schema.get_field_index("shard")
        tables.append(table.set_column(column, "shard", pa.array(taken + position, pa.int64())))
        taken += len(used)
    for file, shard in tqdm(jobs, desc="merge", unit="file"):
        storage.link_or_copy(file, making / storage.shard_name(shard))
    return pa.concat_tables(tables)


def _place(media: str | None) -> tuple[bool, list[str]]:
    return media is None, (media or "").split("/")


def _write_captions(corpora: list[Corpus], order: np.ndarray, path: Path) -> None:
    """Captions grouped by video in this order, so that a reader need not sort them; some videos at a time."""
    tables = [
        pa.table({"start": c.caption_start, "end": c.caption_end, "text": c.caption_text.cast(pa.string())})
        for c in corpora
    ]
    owner = np.repeat(np.arange(len(corpora)), [len(c) for c in corpora])
    first = np.concatenate([c.caption_offsets[:-1] for c in corpora])
    count = np.concatenate([np.diff(c.caption_offsets) for c in corpora])
    ids = np.array([video for c in corpora for video in c.video_ids], dtype=object)
    with pq.ParquetWriter(path, CAPTIONS) as writer:
        for at in tqdm(range(0, len(order), VIDEOS_AT_ONCE), desc="captions", delay=10, leave=False):
            block = order[at : at + VIDEOS_AT_ONCE]
            rows = pa.concat_tables([tables[owner[i]].slice(first[i], count[i]) for i in block]).combine_chunks()
            named = pa.array(np.repeat(ids[block], count[block]), pa.string())
            writer.write_table(rows.add_column(0, "video_id", named))


def _report(folders: list[Path]) -> list[dict]:
    rows: dict[str, dict] = {}
    for row in (row for folder in folders for row in parts.read_report(folder)):
        if row["video"] not in rows or row["status"] != "failed":
            rows[row["video"]] = row
    return list(rows.values())


def main() -> None:
    parser = argparse.ArgumentParser("vclip.data.merging", description="Make one corpus of several.")
    parser.add_argument("out", help="the corpus to write")
    parser.add_argument("corpora", nargs="+", help="the corpora of the shares, which are only read")
    arguments = parser.parse_args()
    print(merge(arguments.corpora, arguments.out))


if __name__ == "__main__":
    main()
