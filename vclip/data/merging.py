"""`merge`: the corpora that several machines extracted, each from its shard of the videos, become one."""

import argparse
from collections.abc import Iterable

from vclip.data.corpus import STORE, Corpus
from vclip.data.feature_store import FeatureStore, writing


def merge(corpora: Iterable, out) -> Corpus:
    """Make one corpus of all videos of several, which are only read.

    Videos are listed in the order of their files' paths, as `extract` lists a folder; those without a path come last,
    in the order given. `extract` and `MomentIndex` know the files of the merged corpus again. Token ids are left out
    (`Corpus.tokenize` makes them again).

    Args:
        corpora: folders of corpora of the same spec, split and licence.
        out: the folder to make.

    Raises:
        FileExistsError: if `out` holds something.
        FileNotFoundError: for a folder that is no corpus, is not finished, or lacks a file.
        ValueError: for no corpora, corpora that differ, or a video that two of them hold.
    """
    opened = [Corpus.open(folder) for folder in corpora]
    if not opened:
        raise ValueError("no corpora to merge: name at least one folder")
    first, holder = opened[0], {}
    stores = [FeatureStore(corpus.path) for corpus in opened if (corpus.path / STORE).is_file()]
    for store in stores:
        if not store.meta["published"]:
            raise FileNotFoundError(f"{store.folder} is not finished: call extract on its videos again to go on")
    for corpus in opened:
        for name in ("spec", "split", "licence"):
            if (ours := getattr(first, name)) != (theirs := getattr(corpus, name)) or first.spec is None:
                raise ValueError(f"the {name} of {first.path} is {ours!r}, that of {corpus.path} {theirs!r}")
        for i, video in enumerate(corpus.video_ids):
            if video in holder:
                raise ValueError(f"video {video!r} is in {holder[video][0].path} and in {corpus.path}: leave one out")
            holder[video] = corpus, i
    media = {video: corpus.media[i] for video, (corpus, i) in holder.items()}
    order = sorted(holder, key=lambda video: (media[video] is None, (media[video] or "").split("/")))
    videos = ((video, corpus.features(i), corpus.captions(i)) for video in order for corpus, i in [holder[video]])
    assert first.spec is not None
    merged = Corpus.create(out, first.spec, videos, first.split, first.licence, media)
    with writing(merged.path, first.spec) as store:
        for source in stores:
            store.take_over(source)
    return merged


def main() -> None:
    parser = argparse.ArgumentParser("vclip.data.merging", description="Make one corpus of several.")
    parser.add_argument("out", help="the corpus to write")
    parser.add_argument("corpora", nargs="+", help="the corpora of the shards, which are only read")
    arguments = parser.parse_args()
    print(merge(arguments.corpora, arguments.out))


if __name__ == "__main__":
    main()
