"""The shards of the released code, HowTo100M's features of S3D and tokens of its captions, as a corpus:
`python data_samples/mmpt_shards.py SHARDS_FOLDER OUT --split train --tokenizer bert-base-uncased`.

The folder holds `<split>_meta.pkl`, `<split>_<k>_{starts,data}.npy` and, for the captions,
`*.<split>_<k>.{startends,caps_ids}_{starts,data}.npy`. A caption becomes the text that the tokenizer makes of its
tokens, of which `Corpus.tokenize` makes the same tokens again.
"""

import argparse
import re
import string
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm
from transformers import AutoTokenizer

from vclip.data.captions import Captions
from vclip.data.corpus import Corpus
from vclip.data.pickles import load_pickle
from vclip.data.spec import FeatureSpec
from vclip.data.storage import check_features, divides, read_npy
from vclip.encoders.networks import S3D_G, S3DEncoder
from vclip.encoders.s3d import load_s3d

SPEC = FeatureSpec(S3D_G, "unknown", 30, 224, "centre", "x / 255", "none", None, 512)
SPACED = re.compile(rf" ?([{re.escape(string.punctuation)}]) ?")


def read(folder: Path, split: str) -> Iterator[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Of each video: id, features (T, 512), and times (n, 2) and tokens (n, most), padded by -1, of n captions."""
    meta = load_pickle(file := folder / f"{split}_meta.pkl")
    lists = [*meta.values()] if isinstance(meta, dict) else [None]
    if not all(isinstance(ids, list) and all(isinstance(i, str) for i in ids) for ids in lists):
        raise ValueError(f"{file}: expected a dict from shard number to a list of video ids")
    for shard, ids in sorted(meta.items()):
        starts, rows = (read_npy(file := folder / f"{split}_{shard}_{name}.npy") for name in ("starts", "data"))
        if rows.shape[1:] != (SPEC.dim,) or not divides(starts, len(rows)) or len(starts) != len(ids) + 1:
            raise ValueError(f"{file} {rows.shape} is not (seconds, 512) of {len(ids)} ids as its starts say: copy all")
        offsets, times, tokens = np.zeros(len(ids) + 1, int), np.zeros((0, 2)), np.zeros((0, 1), int)
        found = sorted(folder.glob(f"[!.]*.{split}_{shard}.startends_starts.npy"))
        if len(found) > 1:
            raise ValueError(f"{folder} holds captions of several kinds, {', '.join(f.name for f in found)}: keep one")
        for file in found:
            prefix, offsets = str(file).removesuffix("startends_starts.npy"), read_npy(file)
            times, tokens = (read_npy(Path(f"{prefix}{name}_data.npy")) for name in ("startends", "caps_ids"))
            right = times.shape[1:] == (2,) and times.dtype.kind == "f"
            right = right and tokens.shape[:-1] == times.shape[:-1] and tokens.dtype.kind in "iu"
            if not right or not divides(offsets, len(times)) or len(offsets) != len(ids) + 1:
                raise ValueError(f"{file} does not divide times {times.shape} and tokens {tokens.shape}: copy all")
        for i, video_id in enumerate(ids):
            own = slice(*offsets[i : i + 2])
            yield video_id, rows[slice(*starts[i : i + 2])], times[own], tokens[own]


def text_of(tokens: np.ndarray, tokenizer, others: list[str]) -> list[str]:
    """What each row of tokens says; `others` gains the texts of which the tokenizer makes other tokens."""

    def again(texts: list[str]) -> list[list[int]]:  # as `Corpus.tokenize`
        return [ids[:32] for ids in tokenizer([text[:96] for text in texts], add_special_tokens=False)["input_ids"]]

    if not len(tokens):
        return []
    ids = [row[row >= 0].tolist() for row in tokens]
    texts = tokenizer.batch_decode(ids, clean_up_tokenization_spaces=True)
    for i, (own, got) in enumerate(zip(ids, again(texts), strict=True)):
        if own != got:  # with spaces around its punctuation it may be too long
            texts[i] = SPACED.sub(r"\1", texts[i])
            others += [texts[i]] if again([texts[i]]) != [own] else []
    return texts


def convert(folder: str | Path, out: str | Path, split: str, tokenizer, spec: FeatureSpec = SPEC) -> list[str]:
    """Write the corpus; returns the captions of which the tokenizer makes other tokens. A bad video costs a line.

    Raises:
        ValueError: names the file that does not fit the others, or holds more than data.
        FileExistsError: if `out` holds something.
    """
    others: list[str] = []

    def videos() -> Iterator[tuple[str, np.ndarray, Captions]]:
        for video_id, features, times, tokens in tqdm(read(Path(folder), split), unit="video"):
            try:
                said = Captions(*times.T, text_of(tokens, tokenizer, others))
                yield video_id, check_features(video_id, features, spec.dim), said
            except ValueError as error:
                tqdm.write(f"{video_id!r} is left out: {error}")

    Corpus.create(out, spec, videos(), split)
    return others


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="of the shards")
    parser.add_argument("out", help="the corpus to write, a new or empty folder")
    parser.add_argument("--split", default="train", help="train or val")
    parser.add_argument("--tokenizer", default="bert-base-uncased", help="that made the tokens: folder or hub name")
    parser.add_argument("--s3d", help="s3d_howto100m.pth, if a model that names these weights is to read the corpus")
    given = parser.parse_args()
    try:
        made = AutoTokenizer.from_pretrained(given.tokenizer, trust_remote_code=False)
        spec = S3DEncoder(load_s3d(given.s3d)).spec if given.s3d else SPEC
        others = convert(given.folder, given.out, given.split, made, spec)
    except (OSError, ValueError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    print(f"{given.folder} -> {given.out}, {len(others)} captions tokenize otherwise", *map(repr, others[:3]), sep="\n")
