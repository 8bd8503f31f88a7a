"""Does `Hit.zscore` tell a query for what is in the videos from others? ROC areas beside those of other quantities.

Right queries stand against absent things, random letters, real words that MiniHowTo's model has not learnt, and their
own words shuffled; 0.5 is chance. MiniHowTo: 10 indexes of 12 videos a style, under one threshold; every sentence is
right in one of them. Real videos: one index of the four of the tests, by the offline model. real_queries.json says, by
eye, which classes of ImageNet they show, which are doubtful (seen in part or alike; not asked), and sentences.

Run: python data_samples/confidence.py [--videos FOLDER]
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata

import vclip
from vclip.models.windows import sliding_windows
from vclip.search.vectors import SENTENCES

REAL = json.loads((Path(__file__).parent / "real_queries.json").read_text(encoding="utf-8"))


def auc(right, other) -> float:
    """The share of (right, other) pairs in which the right one is larger, ties half."""
    ranks, n = rankdata(np.concatenate([right, other])), len(right)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * len(other)))


def candidates(z_v: np.ndarray, z_t: np.ndarray, usual: np.ndarray) -> pd.DataFrame:
    """Quantities of n queries `z_t` (n, D) at the best of N windows `z_v` (N, D); `usual` are everyday sentences."""
    scores, others = z_t @ z_v.T, usual @ z_v.T
    best, reach = scores.max(1), others.max(1)
    there = others[:, scores.argmax(1)]  # at a query's best window
    above, reached = best - scores.mean(1) / 2, reach - others.mean(1) / 2
    whole, usually = best - scores.mean(1), reach - others.mean(1)
    values = {
        "zscore": (above - reached.mean()) / reached.std(),
        "quantile of 256 sentences": (reach < best[:, None]).mean(1),
        "score": best,
        "z among windows": whole / scores.std(1),
        "score - mean over windows": (whole - usually.mean()) / usually.std(),
        "z among sentences at the best window": (best - there.mean(0)) / there.std(0),
        "softmax among sentences (QB-Norm)": best - np.logaddexp.reduce(there.astype(float), axis=0),
        "CSLS": 2 * best - scores.mean(1) - there.mean(0),
    }
    return pd.DataFrame(values)


def changed(sentences: list[str]) -> tuple[list[str], list[str]]:
    """Random letters, as many as each sentence has, and each sentence's words in another order."""
    rng, letters, shuffled = np.random.default_rng(0), [], []
    for words in map(str.split, sentences):
        letters.append(" ".join("".join(rng.choice([*"abcdefghijklmnopqrstuvwxyz"], len(word))) for word in words))
        other = words
        while other == words:
            other = rng.permutation(words).tolist()
        shuffled.append(" ".join(other))
    return letters, shuffled


def minihowto(clip, split: str, size: int = 12) -> dict[str, pd.DataFrame]:
    """Candidates of each kind of query, for indexes of `size` videos of a split."""
    root = vclip.minihowto()
    corpus, truth = vclip.Corpus.open(root / split), pd.read_parquet(root / "truth.parquet").set_index("video_id")
    steps = json.loads((root / "youcook2" / split / "youcookii_annotations_trainval.json").read_text())["database"]
    asked = [(v, step) for v in steps for step in steps[v]["annotations"]]
    rows = [(v, step["sentence"], *truth.loc[v].iloc[step["id"]][["action", "thing"]]) for v, step in asked]
    video, sentences, action, thing = map(np.array, zip(*rows, strict=True))
    kinds = dict(zip(("right", "letters", "shuffled"), ([*sentences], *changed([*sentences])), strict=True))
    z_t = {kind: clip.encode_texts(texts) for kind, texts in (kinds | {"unlearnt": REAL["absent"]}).items()}
    usual, found, order = clip.encode_texts(SENTENCES), [], np.random.default_rng(0).permutation(corpus.video_ids)
    for videos in np.split(order, len(order) // size):
        features = [corpus.features(corpus.index(v)) for v in videos]
        z_v = clip.encode_clips([f[a:b] for f in features for a, b in sliding_windows(len(f), *clip.window)])
        of = {kind: candidates(z_v, z, usual) for kind, z in z_t.items()}
        inside = np.isin(video, videos)
        pairs, things = {*zip(action[inside], thing[inside], strict=True)}, {*thing[inside]}
        gone = ~np.isin(thing, [*things])
        other = np.array([pair not in pairs for pair in zip(action, thing, strict=True)]) & ~gone
        found.append({"right": of["right"][inside], "absent things": of["right"][gone],
                      "other action": of["right"][other], "letters": of["letters"][inside],
                      "unlearnt": of["unlearnt"], "shuffled": of["shuffled"][inside]})  # fmt: skip
    return {kind: pd.concat([of[kind] for of in found]) for kind in found[0]}


def real(clip, folder: Path) -> dict[str, pd.DataFrame]:
    """Candidates of each kind of query, for one index of the real videos."""
    names, seen = clip.encoder.class_names, REAL["seen"]
    z_v, usual = np.concatenate([clip.encode_video(folder / name) for name in seen]), clip.encode_texts(SENTENCES)
    classes, sentences = (list(dict.fromkeys(sum((s[k] for s in seen.values()), []))) for k in ("classes", "sentences"))
    letters, shuffled = changed(5 * sentences)
    texts = {"right": classes, "absent things": sorted({*names} - {*classes, *REAL["doubtful"]}),
             "right in free words": sentences, "absent in free words": REAL["absent"], "letters": letters,
             "shuffled": shuffled}  # fmt: skip
    return {kind: candidates(z_v, clip.encode_texts(some), usual) for kind, some in texts.items()}


def areas(found: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """AUC of each candidate: the right queries against each kind of others after them."""
    table, right = {}, "right"
    for kind, values in found.items():
        if kind.startswith("right"):
            right = kind
        else:
            table[f"{kind} ({len(found[right])}:{len(values)})"] = {c: auc(found[right][c], values[c]) for c in values}
    return pd.DataFrame(table)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=Path, help="the folder of the four real videos")
    folder, clip = parser.parse_args().videos, vclip.load(vclip.minihowto() / "checkpoint")
    results = {"MiniHowTo, " + split: minihowto(clip, split) for split in ("test", "unseen")}
    if folder:
        results["real videos"] = real(vclip.load("offline"), folder)
    for name, found in results.items():
        print(f"\n{name}: AUC (right queries : others)", areas(found).round(3).to_string(), sep="\n\n")
        print("\nmedian zscore:", ", ".join(f"{kind} {values.zscore.median():.1f}" for kind, values in found.items()))
