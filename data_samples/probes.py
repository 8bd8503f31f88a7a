"""What a linear probe reads off one second of MiniHowTo: `python data_samples/probes.py` prints the card's table.

Probes are multinomial logistic regressions on the seconds inside the training split's steps. All of it runs on the
shipped features; the rows at 2560 dimensions need the build's cache.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from safetensors.numpy import load_file
from tables import names
from world import topic_things

from vclip.data.corpus import Corpus

TARGETS = ("action", "thing", "topic")
OUT = Path(__file__).parent / "minihowto"


def probe(x: np.ndarray, y: np.ndarray, classes: int, decay: float = 1e-4, steps: int = 60):
    """Weights (F + 1, classes) of a logistic regression on (n, F) features; the last row is the bias."""
    centre, spread = x.mean(0), x.std(0) + 1e-6
    rows = torch.from_numpy(np.c_[(x - centre) / spread, np.ones(len(x))].astype(np.float32))
    target = torch.from_numpy(y)
    weights = torch.zeros(rows.shape[1], classes, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=steps, history_size=10, line_search_fn="strong_wolfe")

    def closure():
        optimiser.zero_grad()
        loss = F.cross_entropy(rows @ weights, target) + decay * weights[:-1].square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    found = weights.detach().numpy().astype(np.float64)
    scaled = found[:-1] / spread[:, None]
    return np.r_[scaled, [found[-1] - centre @ scaled]]


def log_probabilities(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    logits = x @ weights[:-1] + weights[-1]
    logits = logits - logits.max(1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(1, keepdims=True))


def truth(folder: Path, split: str) -> dict[str, list]:
    """Columns of the split's rows of truth.parquet."""
    table = pq.read_table(folder / "truth.parquet")
    return table.filter(pc.equal(table["split"], split)).to_pydict()


def seconds(folder: Path, split: str, features=None) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Seconds inside steps: features (n, F) float32, labels by target (n,), and the row of truth each belongs to.

    `features(video_id)` replaces the corpus's features.
    """
    corpus, rows = Corpus.open(folder / split), truth(folder, split)
    features = features or (lambda video: corpus.features(corpus.index(video)))
    x = [features(v)[s:e] for v, s, e in zip(rows["video_id"], rows["start"], rows["end"], strict=True)]
    owner = np.repeat(np.arange(len(x)), [len(block) for block in x])
    return np.concatenate(x).astype(np.float32), {k: v[owner] for k, v in labels(rows).items()}, owner


def stills(folder: Path, split: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """One still frame a step, projected as a second without motion, and its labels."""
    return load_file(folder / "still.safetensors")[split].astype(np.float32), labels(truth(folder, split))


def labels(rows: dict[str, list]) -> dict[str, np.ndarray]:
    return {target: np.array([names()[target].index(label) for label in rows[target]]) for target in TARGETS}


def accuracies(train, tests: dict[str, tuple]) -> dict[str, dict[str, float]]:
    """{target: {test: accuracy}} for pairs (features, labels)."""
    out: dict[str, dict[str, float]] = {}
    for target in TARGETS:
        weights = probe(train[0], train[1][target], len(names()[target]))
        out[target] = {
            name: float(np.mean(log_probabilities(weights, x).argmax(1) == y[target])) for name, (x, y) in tests.items()
        }
    return out


def retrieval(folder: Path, split: str, weights: dict[str, np.ndarray]) -> float:
    """R@1 of a clip for "action and thing", both told by probes whose log probabilities are averaged over the clip."""
    x, y, owner = seconds(folder, split)
    rows = labels(truth(folder, split))
    clips = {}
    for target in ("action", "thing"):
        scores = log_probabilities(weights[target], x)
        clips[target] = np.stack([scores[owner == i].mean(0) for i in range(owner.max() + 1)])
    similarity = clips["action"][:, rows["action"]] + clips["thing"][:, rows["thing"]]
    return float(np.mean(similarity.argmax(0) == np.arange(len(similarity))))


def topic_only(folder: Path, split: str) -> float:
    """Expected R@1 of a model that knows each clip's topic and which things belong to it, and nothing else."""
    rows, owned = truth(folder, split), topic_things()
    topics = np.array(rows["topic"])
    candidates = [sum(topics == topic for topic in owned if thing in owned[topic]).sum() for thing in rows["thing"]]
    return float(np.mean(1 / np.array(candidates)))


def report(folder: Path, wide: bool = False) -> dict:
    """Everything in the card's table; `wide` adds the features before projection (from the build's cache)."""
    splits = ("train", "test", "unseen")
    whole = {split: seconds(folder, split) for split in splits}
    still = {split: stills(folder, split) for split in splits}
    out = {
        "second, 128": accuracies(whole["train"], {s: whole[s][:2] for s in splits[1:]}),
        "still frame, 128": accuracies(still["train"], {s: still[s] for s in splits[1:]}),
    }
    if wide:
        import work
        from world import plans

        cached = {plan.video_id: plan for split in splits for plan in plans(split)}
        full = {s: seconds(folder, s, lambda video: work.load(cached[video]).features) for s in splits}
        out["second, 2560"] = accuracies(full["train"], {s: full[s][:2] for s in splits[1:]})
    weights = {t: probe(*(whole["train"][0], whole["train"][1][t]), len(names()[t])) for t in ("action", "thing")}
    out["retrieval by probes, R@1"] = {s: retrieval(folder, s, weights) for s in splits[1:]}
    out["retrieval by topic alone, R@1"] = {s: topic_only(folder, s) for s in splits[1:]}
    out["sizes"] = {s: {"seconds": len(whole[s][0]), "stills": len(still[s][0])} for s in splits}
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description="Linear probes of MiniHowTo.")
    parser.add_argument("--folder", type=Path, default=OUT)
    parser.add_argument("--wide", action="store_true", help="also probe the 2560 features in the build's cache")
    arguments = parser.parse_args()
    found = report(arguments.folder, arguments.wide)
    (arguments.folder / "probes.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
