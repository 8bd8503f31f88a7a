"""Errors as pictures: what was sought beside what came first, confusion matrices, a map of the clips; notebook 10's."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from error_kinds import Meaning, meaning
from map_widget import PointMap
from matplotlib.figure import Figure
from shipped import film, picture

from vclip import Corpus, DualEncoder, plots
from vclip.search.playback import THUMBNAIL_SIDE, pictures

LARGEST = 12  # classes of a map that have a colour, or of a confusion matrix with numbers in it
SHOWN, NEVER = "pairs that training shows", "pairs that it never shows"


def start_of(row: Any, name: str = "start") -> float:
    """Where a clip begins; a whole video has no start."""
    return getattr(row, name, 0)


def frame(clip: Any, corpus: Corpus, shipped: dict, files: Mapping[str, Path]) -> np.ndarray | None:
    """A picture of a clip; None if there is no file of its video, or none that can be read."""
    if clip.video_id not in files:
        return picture(shipped, clip)
    end = getattr(clip, "end", None) or len(corpus.features(corpus.index(clip.video_id)))
    try:
        return next(pictures(files[clip.video_id], [(start_of(clip) + end) / 2], THUMBNAIL_SIDE))
    except (OSError, ValueError):
        return None


def pairs(
    rows: pd.DataFrame, records: Sequence, corpus: Corpus, shipped: dict, files: Mapping[str, Path]
) -> list[tuple[np.ndarray | None, str]]:
    """Pictures and sentences of what was sought and what came first, in turn, for each error of `rows`."""
    clips, found = {(clip.video_id, start_of(clip)): clip for clip in reversed(records)}, []
    for row in rows.itertuples():
        sought = clips[row.video_id, start_of(row)]
        first = clips[row.top_video_id, start_of(row, "top_start")]
        found += [(frame(sought, corpus, shipped, files), row.sentence)]
        found += [(frame(first, corpus, shipped, files), f"→ {row.top_sentence}")]
    return found


def said_and_shown(examples: pd.DataFrame, records: Sequence, truth: dict) -> pd.DataFrame:
    """A row a sentence: its action and thing, those of the clip that came first, and whether that was the right one."""
    of = {(record.video_id, start_of(record)): meaning(record, truth) for record in reversed(records)}
    rows = []
    for row in examples.itertuples():
        said, shown = of[row.video_id, start_of(row)], of[row.top_video_id, start_of(row, "top_start")]
        rows.append(
            {"action": said.action, "first action": shown.action, "thing": _one(said), "first thing": _one(shown)}
            | {"right": row.rank == 1, "video_id": row.video_id}
        )
    return pd.DataFrame(rows)


def _one(of: Meaning) -> str:
    return " ".join(sorted(of.things))


def confusion(sides: Mapping[str, pd.DataFrame], what: str, ordered: Sequence[str], size: float = 5.5) -> Figure:
    """A panel a set: of the sentences that say a class (row), the per cent whose first clip shows each (column).

    Numbers are written in where there are at most `LARGEST` classes; 0 is left out.
    """
    figure, axes = plots.panels(1, len(sides), (size * len(sides), size), dpi=96, sharey=True)
    for axis, (name, rows) in zip(axes[0], sides.items(), strict=True):
        counts = pd.crosstab(rows[what], rows[f"first {what}"]).reindex(index=ordered, columns=ordered, fill_value=0)
        shares = 100 * counts.div(counts.sum(axis=1).clip(lower=1), axis=0).to_numpy()
        image = axis.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        for i, j in np.argwhere(shares >= 0.5) if len(ordered) <= LARGEST else ():
            axis.text(j, i, f"{shares[i, j]:.0f}", ha="center", va="center", fontsize=8, color=_ink(shares[i, j]))
        axis.set_xticks(range(len(ordered)), ordered, rotation=90, fontsize=8)
        axis.set_yticks(range(len(ordered)), ordered, fontsize=8)
        axis.set(xlabel=f"{what} of the clip that comes first", title=f"{name}, n = {len(rows)}")
    axes[0, 0].set_ylabel(f"{what} that the sentence says")
    figure.colorbar(image, ax=axes[0].tolist(), label="sentences (%)", shrink=0.8)
    return figure


def _ink(share: float) -> str:
    return "white" if share > 50 else "black"


def confused(rows: pd.DataFrame, what: str, n: int = 3) -> str:
    """The pairs of classes that are most often taken for each other, in words."""
    wrong = rows[rows[what] != rows[f"first {what}"]]
    taken = Counter(zip(wrong[what], wrong[f"first {what}"], strict=True))
    return ", ".join(f"{said} → {shown} ({count})" for (said, shown), count in taken.most_common(n))


def by_pair(rows: pd.DataFrame, truth: dict) -> pd.DataFrame:
    """Sentences whose pair of action and thing the training videos show, beside those whose pair they never show.

    Per cent with their clip first (95 % Wilson interval), and per cent whose first clip has the action, or the thing.
    """
    from scipy.stats import binomtest  # whose import takes longer than all else in the notebook's first cell but torch

    trained = {(action, thing) for (video, _), (action, thing, _) in truth.items() if video.startswith("train")}
    seen = np.array([pair in trained for pair in zip(rows["action"], rows["thing"], strict=True)])
    table = {}
    for name, of in ((SHOWN, rows[seen]), (NEVER, rows[~seen])):
        ends = binomtest(int(of["right"].sum()), len(of)).proportion_ci(method="wilson")
        right = {what: 100 * (of[what] == of[f"first {what}"]).mean() for what in ("action", "thing")}
        table[name] = {"R@1": 100 * of["right"].mean(), "low": 100 * ends.low, "high": 100 * ends.high}
        table[name] |= {"right action": right["action"], "right thing": right["thing"], "n": len(of)}
    return pd.DataFrame(table).T.astype({"n": int})


def flat(z_v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two directions in which vectors (n, D) differ most (PCA): coordinates (n, 2), and shares of the variance."""
    centred = z_v - z_v.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    signs = np.sign(u[np.abs(u[:, :2]).argmax(axis=0), [0, 1]])  # the same on every machine
    return u[:, :2] * s[:2] * signs, s[:2] ** 2 / (s**2).sum()


def clip_map(z_v: np.ndarray, classes: Sequence[str], clips: Sequence, corpus: Corpus, shipped: dict, files: Mapping):
    """A point a clip, in the two directions of `flat`, the most frequent classes in colour; a click plays the clip."""
    places, shares = flat(z_v)
    labels = [f"direction {i} ({share:.0%} of the variance)" for i, share in enumerate(shares, 1)]
    largest = sorted(label for label, _ in Counter(classes).most_common(LARGEST))
    groups = {label: np.flatnonzero(np.array(classes) == label).tolist() for label in largest}
    return PointMap(
        places,
        groups,
        labels,
        [clip.sentence for clip in clips],
        lambda i: frame(clips[i], corpus, shipped, files),
        lambda i: film(
            corpus,
            clips[i].video_id,
            shipped,
            files,
            bands={"clip": [_span(clips[i], corpus)]},
            start=start_of(clips[i]),
        ),
    )


def both_clips(
    row: Any, records: Sequence, corpus: Corpus, model: DualEncoder, shipped: dict, files: Mapping, playing: bool = True
) -> list:
    """Scrubbers of the two films of an error, a row of `errors`: of the clip that was sought, and of what came first.

    Each has the query's score of every second, the clip and all steps; `playing`, it plays from the clip's start.
    """
    at = {(clip.video_id, start_of(clip)): clip for clip in reversed(records)}
    clips = {"sought": at[row.video_id, start_of(row)], "came first": at[row.top_video_id, start_of(row, "top_start")]}
    (z_t,), found = model.encode_texts([row.sentence]), []
    for name, clip in clips.items():
        (h_v,) = model.encode_seconds([corpus.features(corpus.index(clip.video_id))])
        steps = {start_of(other): other for other in records if other.video_id == clip.video_id}
        bands = {name: [_span(clip, corpus)], "steps": [_span(other, corpus) for other in steps.values()]}
        options = {"curves": {row.sentence: h_v @ z_t}, "start": start_of(clip) if playing else None}
        found.append(film(corpus, clip.video_id, shipped, files, bands=bands, captions=None, **options))
    return found


def _span(clip: Any, corpus: Corpus) -> tuple[str, float, float]:
    end = getattr(clip, "end", None) or int(corpus.seconds[corpus.index(clip.video_id)])
    return clip.sentence, start_of(clip), end


def like_neighbour(z_v: np.ndarray, classes: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Per cent of clips whose nearest other clip (Euclidean) is of their class, beside a clip drawn at random."""
    distances = np.square(z_v).sum(axis=1) - 2 * z_v @ z_v.T
    np.fill_diagonal(distances, np.inf)
    nearest, rows = distances.argmin(axis=1), {}
    for name, of in classes.items():
        labels = np.array(of)
        same = np.mean([(labels == label).sum() - 1 for label in labels]) / (len(labels) - 1)
        rows[name] = {"nearest clip": 100 * (labels == labels[nearest]).mean(), "chance": 100 * same, "n": len(labels)}
    return pd.DataFrame(rows).T.astype({"n": int})
