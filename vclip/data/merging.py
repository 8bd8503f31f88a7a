"""`merge`: the corpora that several machines extracted, each from its shard of the videos, become one."""

import os
from collections.abc import Iterable
from pathlib import Path

from vclip.data.corpus import STORE, Corpus
from vclip.data.feature_store import Content, Entry, FeatureStore, as_json, writing
from vclip.data.spec import PROJECTION
from vclip.data.storage import copy_into


def merge(corpora: Iterable, out) -> Corpus:
    """Make `out`, a corpus of all videos of several, which are only read; stopped and called again, it goes on.

    Videos come in the order of their files' paths. `extract` on the whole folder then encodes only videos that no part
    held. Token ids are left out (`Corpus.tokenize` makes them again).

    Args:
        corpora: folders of corpora of the same spec, split and licence.

    Raises:
        FileExistsError: if `out` holds something.
        ValueError: for corpora that differ, or a video that two of them hold.

    Example:
        >>> import tempfile, vclip
        >>> len(merge([vclip.minihowto() / "val"], tempfile.mkdtemp()))
        64
    """
    out, opened = Path(out).expanduser(), [Corpus.open(folder) for folder in corpora]
    if (out / "corpus.json").is_file():
        raise FileExistsError(f"{out} already holds a corpus; pass a new output folder")
    if not opened or (spec := opened[0].spec) is None:
        raise ValueError("no corpora to merge: name at least one folder that extract or Corpus.create has made")
    first, holder = opened[0], {}
    for corpus in opened:
        for name in ("spec", "split", "licence"):
            if (ours := getattr(first, name)) != (theirs := getattr(corpus, name)):
                raise ValueError(f"the {name} of {first.path} is {ours!r}, that of {corpus.path} {theirs!r}")
        for entry in _entries(corpus):
            if entry.video in holder:
                raise ValueError(f"video {entry.video!r} is in {holder[entry.video][1].path} and in {corpus.path}")
            holder[entry.video] = entry, corpus
    with writing(out, spec) as store:
        store.remember(split=first.split, licence=first.licence)
        for entry, corpus in (holder[video] for video in holder if video not in store.entries):
            i = corpus.index(entry.video)
            said = corpus.captions(i)
            store.save(entry, as_json(said) if len(said) else None, corpus.features(i))
        store.flush()
        for file in (corpus.path / PROJECTION for corpus in opened):
            if file.is_file():
                copy_into(out, file)
        store.finish()
    return Corpus.open(out)


def _entries(corpus: Corpus) -> list[Entry]:
    if not (corpus.path / STORE).is_file():
        rows = zip(corpus.video_ids, corpus.media, corpus.seconds.tolist(), strict=True)
        return [Entry(video, media, b"", *Content(), seconds) for video, media, seconds in rows]
    store = FeatureStore(corpus.path)
    if not store.is_published():
        raise FileNotFoundError(f"{corpus.path} is not finished: call extract on its videos again to go on")
    entries = [entry for entry in store.entries.values() if entry.shard is not None]
    return [e._replace(path=os.fsencode(store.file(e).resolve()), shard=None, row=None) for e in entries]
