"""What the notebooks of the tasks show beside the library's own pictures: tables of scores, what a sentence says."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from pandas.io.formats.style import Styler
from shipped import evaluation_sets, thumbnails, truth
from vocabulary import ACTIONS, THINGS

from vclip import plots
from vclip.tasks.report import Report

# as papers write them
FIELD_NAMES = {f"r{k}": f"R@{k} %" for k in (1, 5, 10)} | {f"rank{k}": f"rank@{k} %" for k in (1, 5)}
FIELD_NAMES |= {f"f1_{k}": f"F1@{k} %" for k in (10, 25, 50)} | {"miou": "mIoU %"}


def score_table(reports: Mapping[str, Report | Mapping[str, Report]]) -> Styler:
    """Sets x scores in per cent (a median rank as it is) with n; below each set its baselines, in the colour of chance.

    Args:
        reports: set -> its report, or set -> {rule: report}, of which the last one's baselines are shown.
    """
    sets = {}
    for name, of in reports.items():
        rules = of if isinstance(of, Mapping) else {"model": of}
        last = list(rules.values())[-1]
        ours = pd.DataFrame({rule: report.percent.loc["score"] for rule, report in rules.items()}).T
        baselines = last.percent.iloc[1:].rename(lambda baseline: baseline.replace("_", " "))
        sets[name] = pd.concat([ours.assign(n=last.n), baselines])
    table = pd.concat(sets)
    grey = np.where(table["n"].isna(), f"color: {plots.CHANCE}", "")
    table.columns = [FIELD_NAMES.get(name.removesuffix(" %"), name.replace("_", " ")) for name in table.columns]
    shown = table.style.format("{:.1f}", na_rep="–").format("{:.0f}", subset=["n"], na_rep="")
    shown = shown.format_index(escape="html").format_index(escape="html", axis=1)
    return shown.apply(lambda _: grey).apply_index(lambda _: grey, level=1)


def said(sentence: str) -> tuple[str, str]:
    """Action and thing of a sentence in MSR-VTT's format: "a cook is dicing the aubergine" -> ("chop", "eggplant")."""
    verb, rest = sentence.split(" is ", 1)[1].split(" the ", 1)
    action = next(name for name, action in ACTIONS.items() if verb in {ing for _, ing in action.verbs})
    names = {called: thing for thing, (_, both) in THINGS.items() for called in both if rest.startswith(called)}
    return action, names[max(names, key=len)]


def two_frames(action: str, style: str) -> list[np.ndarray]:
    """A frame near the start and one near the end of the first clip of `style` in which `action` is done."""
    shown, pictures = truth(), thumbnails()
    records, _ = evaluation_sets("youcook2")[style]
    clip = next(record for record in records if shown[record.video_id, record.start][0] == action)
    return [pictures[clip.video_id, int(second)] for second in (clip.start + 1, clip.end - 2)]


def counts_table(rows: Mapping[str, Mapping[str, float]]) -> Styler:
    """Rows x counts with one decimal, a cosine with two, those named n whole; a missing one is a dash.

    The last row, a baseline, is in the colour of chance.
    """
    table = pd.DataFrame(rows).T
    grey = np.where(np.arange(len(table)) == len(table) - 1, f"color: {plots.CHANCE}", "")
    whole = [name for name in table if name.startswith("n")]
    shown = table.style.format("{:.1f}", na_rep="–").format(
        "{:.2f}", na_rep="–", subset=table.columns.intersection(["cosine"])
    )
    return shown.format("{:.0f}", na_rep="–", subset=whole).apply(lambda _: grey).apply_index(lambda _: grey)


def shared_step(steps: Sequence[tuple[str, float, float]], shows: Sequence[str], others: Sequence[set[str]]) -> tuple:
    """The step of a video whose thing most of the other videos show.

    Args:
        steps: (text, start, end) of the video.
        shows: the thing of each step.
        others: the things of each other video.
    """
    return steps[int(np.argmax([sum(thing in of for of in others) for thing in shows]))]


def shared_clip(clips: np.ndarray, own: int, others: Sequence[int]) -> int:
    """Which clip of a video is most like the other videos: the best cosine with a clip of each, on average.

    Args:
        clips: vectors (V, n, D) of n clips a video.
        own: the video.
        others: the videos that it is compared with.
    """
    unit = clips - clips.mean(axis=(0, 1))
    unit /= np.linalg.norm(unit, axis=-1, keepdims=True) + 1e-9
    return int(np.mean([(unit[own] @ unit[i].T).max(axis=1) for i in others or [own]], axis=0).argmax())
