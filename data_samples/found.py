"""What a pre-trained model finds: its scores, and the moments for a sentence, as pictures or below a text field."""

from pathlib import Path

import ipywidgets
import lecture_plots
import pandas as pd
from live import explorer
from matplotlib.figure import Figure
from shipped import STYLES, picture_at, thumbnails

from vclip import Corpus, MomentIndex, VideoCLIP, minihowto, plots
from vclip.data.video_files import video_files
from vclip.datasets import youcook2
from vclip.tasks.retrieval import RetrievalScore, score, text_to_video

SHOWN = 5


def zero_shot(clip: VideoCLIP) -> dict[str, RetrievalScore]:
    """MiniHowTo's test sets: one in the style of the training videos, one in a style that no model has seen."""
    scores = {}
    for style in STYLES:
        clips, corpus = youcook2.load(minihowto() / "youcook2" / style), Corpus.open(minihowto() / style)
        scores[style] = score(text_to_video(clip, clips, corpus)[0])
    return scores


def held_out(rows: list[dict]) -> dict[str, RetrievalScore]:
    """The scores of the epoch whose weights `pretrain` keeps, on narration of the videos that it holds out."""
    best = min(rows, key=lambda row: row["validation_loss"])
    n, names = best["n"], ("r1", "r5", "r10", "median_rank")
    chance = RetrievalScore(r1=1 / n, r5=min(5, n) / n, r10=min(10, n) / n, median_rank=(n + 1) / 2, n=n)
    return {"held out": RetrievalScore(**{name: best[name] for name in names}, n=n, chance=chance)}


def in_per_cent(scores: dict[str, RetrievalScore]) -> pd.DataFrame:
    """Sets x scores, chance in the rows below."""
    of = scores | {f"chance, {name}": score.chance for name, score in scores.items()}
    rows = {name: {f"R@{k}": 100 * getattr(score, f"r{k}") for k in (1, 5, 10)} for name, score in of.items()}
    return pd.DataFrame(rows).T.assign(n=[score.n for score in of.values()])


def bars(table: pd.DataFrame, colours: list[str]) -> Figure:
    """The rows of such a table, side by side for each score."""
    figure, [[axes]] = plots.panels(1, 1, (8, 3))
    table.drop(columns="n").T.plot.bar(
        ax=axes, rot=0, width=0.85, color=colours, ylabel="texts that find their clip (%)"
    )
    for drawn in axes.containers:
        axes.bar_label(drawn, fmt="%.1f", fontsize=8)
    axes.set(ylim=(0, 108), yticks=range(0, 101, 20))  # room for the numbers
    axes.legend(bbox_to_anchor=(1, 1), frameon=False)
    return figure


def first_clips(index: MomentIndex, sentence: str, videos: str = "") -> Figure:
    """The moments that come first for a sentence, each under its video, its seconds and its score.

    `videos`: folder of files named <video id>; empty: MiniHowTo's pictures, where the videos are its own.
    """
    files = {file.stem: file for file in video_files(Path(videos))} if videos else {}
    hits = index.search(sentence, SHOWN)
    images = [picture_at(thumbnails(), files, hit.video, (hit.start + hit.end) / 2) for hit in hits]
    titles = [f"{hit.video}, {hit.start:.0f} to {hit.end:.0f} s: {hit.score:.1f}" for hit in hits]
    return lecture_plots.contact_sheet(images, titles, columns=SHOWN)


def query_box(index: MomentIndex, sentence: str, videos: str = "") -> ipywidgets.Widget:
    """A text field, and below it the moments that come first for what is typed."""
    text = ipywidgets.Text(sentence, description="sentence", continuous_update=False, layout={"width": "40em"})
    return explorer(lambda sentence: first_clips(index, sentence, videos), sentence=text)
