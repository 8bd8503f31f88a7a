"""The README's picture: `python data_samples/picture.py`, after a new checkpoint."""

from pathlib import Path

import numpy as np
from lecture_plots import ranking
from shipped import thumbnails

from vclip import Corpus, load, minihowto
from vclip.datasets import youcook2
from vclip.tasks.retrieval import text_to_video

ROWS, COLUMNS, SEED = 3, 6, 3


def main() -> None:
    clip = load(minihowto() / "checkpoint")
    clips = youcook2.load(minihowto() / "youcook2" / "test")
    similarity, found = text_to_video(clip, clips, Corpus.open(minihowto() / "test"))
    pictures = thumbnails()
    order = np.argsort(-similarity, axis=1)[:, :COLUMNS]
    # random sentences, not chosen ones: hits and misses as they come
    drawn = np.random.default_rng(SEED).choice(len(found), ROWS, replace=False)
    images = [[pictures[clips[found[j]].video_id, clips[found[j]].start + 1] for j in order[i]] for i in drawn]
    right = [list(order[i]).index(i) if i in order[i] else None for i in drawn]
    figure = ranking([clips[found[i]].sentence for i in drawn], images, right)
    folder = Path(__file__).parent / "pictures"
    folder.mkdir(exist_ok=True)
    figure.savefig(folder / "search.jpg", dpi=110, pil_kwargs={"quality": 85})


if __name__ == "__main__":
    main()
