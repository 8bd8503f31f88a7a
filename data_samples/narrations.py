"""MiniHowTo's training corpus with other lags of narration: `python data_samples/narrations.py`.

Pictures, features and the words about the steps stay; only when they are said changes, and with it the chatter between.
Writes `lag_0`, `lag_2` and `lag_8` into `runs/narrations`, for the ablation of overlap (notebook 09).
"""

import argparse
from pathlib import Path

from narration import captions, narrate
from tqdm.auto import tqdm
from world import plans

from vclip.data.corpus import Corpus
from vclip.datasets.minihowto import minihowto

LAGS = (0.0, 2.0, 8.0)  # standard deviations in seconds; the shipped corpus has 4


def with_lag(lag_sd: float, folder: Path) -> Corpus:
    """The training corpus narrated with another `lag_sd` (s), in `folder`; one that is there is taken as it is."""
    if (folder / "corpus.json").is_file():
        return Corpus.open(folder)
    shipped = Corpus.open(minihowto() / "train")
    assert shipped.spec is not None
    videos = tqdm(plans("train"), desc=f"lag {lag_sd:g} s", unit="video", leave=False)
    rows = (
        (plan.video_id, shipped.features(shipped.index(plan.video_id)), captions(narrate(plan, lag_sd)))
        for plan in videos
    )
    return Corpus.create(folder, shipped.spec, rows, split=shipped.split, licence=shipped.licence)


def folder_of(lag_sd: float, out: Path) -> Path:
    return out / f"lag_{lag_sd:g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/narrations"))
    parser.add_argument("--lag", type=float, nargs="+", default=LAGS, help="standard deviations (s)")
    arguments = parser.parse_args()
    for lag_sd in arguments.lag:
        print(with_lag(lag_sd, folder_of(lag_sd, arguments.out)))


if __name__ == "__main__":
    main()
