"""The README's picture: `python data_samples/picture.py`, after a new checkpoint."""

from pathlib import Path

import numpy as np
from lecture_plots import ranking
from shipped import thumbnails

from vclip import Corpus, load, minihowto
from vclip.datasets import youcook2
from vclip.tasks.retrieval import text_to_video

ROWS, COLUMNS, SEED = 4, 6, 3


def main() -> None:
    clip = load(minihowto() / "checkpoint")
    clips = youcook2.load(minihowto() / "youcook2" / "test")
    similarity, found = text_to_video(clip, clips, Corpus.open(minihowto() / "test"))
    pictures = thumbnails()
    order = np.argsort(-similarity, axis=1)[:, :COLUMNS]
    # random sentences, three hits and one miss of them: R@1 is 65 %
    drawn = np.random.default_rng(SEED).permutation(len(found))
    hit = order[drawn, 0] == drawn
    drawn = np.concatenate([drawn[hit][: ROWS - 1], drawn[~hit][:1]])
    images = [[pictures[clips[found[j]].video_id, clips[found[j]].start + 1] for j in order[i]] for i in drawn]
    right = [list(order[i]).index(i) if i in order[i] else None for i in drawn]
    places = [int(np.sum(similarity[i] > similarity[i, i])) + 1 for i in drawn]
    marks = ["a hit" if place == 1 else f"a miss: the right clip comes {place}." for place in places]
    titles = [f"{clips[found[i]].sentence}   ({mark})" for i, mark in zip(drawn, marks, strict=True)]
    figure = ranking(titles, images, right)
    folder = Path(__file__).parent / "pictures"
    folder.mkdir(exist_ok=True)
    figure.savefig(folder / "search.jpg", dpi=110, pil_kwargs={"quality": 85})


if __name__ == "__main__":
    main()
