"""Why a retrieval went wrong: what the clip ranked first shares with the one that was sought (paper section 5.7)."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vclip import plots

LONGEST = 32  # seconds that the model sees of a clip
KINDS = (f"longer than {LONGEST} s", "same thing, other action", "same action, other thing",
         "same topic, other step", "other topic")  # fmt: skip
# words that name no thing
FUNCTION_WORDS = frozenset(
    {"a", "an", "and", "as", "at", "by", "down", "for", "from", "in", "into", "it", "its", "of", "off", "on", "onto"}
    | {"out", "over", "some", "the", "them", "then", "to", "together", "until", "up", "with", "your"}
)


class Meaning(NamedTuple):
    """What a clip shows: one action, things, and the topic of its video (None if nobody knows)."""

    action: str
    things: frozenset[str]
    topic: str | None


def meaning(record: Any, truth: dict | None = None) -> Meaning:
    """From `truth`, (video_id, start) -> (action, thing, topic), or read off an imperative sentence.

    Its first word is the action, every other word that is no function word a thing, `recipe_type` the topic.
    """
    known = (truth or {}).get(_key(record))
    if known:
        return Meaning(known[0], frozenset([known[1]]), known[2])
    first, *others = record.sentence.lower().replace(",", " ").replace(".", " ").split() or [""]
    return Meaning(first, frozenset(others) - FUNCTION_WORDS, getattr(record, "recipe_type", None))


def kind(sought: Meaning, found: Meaning) -> str:
    """Which of `KINDS` it is to find the clip `found` in place of `sought`; the first that applies."""
    if sought.things & found.things and sought.action != found.action:
        return KINDS[1]
    if sought.action == found.action:
        return KINDS[2]
    return KINDS[3] if sought.topic is not None and sought.topic == found.topic else KINDS[4]


def errors(examples: pd.DataFrame, records: Sequence, truth: dict | None = None) -> pd.DataFrame:
    """The rows of a retrieval report's `examples` whose first clip is a wrong one, with `kind` and `top_sentence`.

    A clip of which the model sees a part only is of the first kind. `records` are what was scored, `truth` is as in
    `meaning`. Where two records share video and start, the first stands for both.
    """
    known = {_key(record): record for record in reversed(records)}
    wrong = examples.loc[examples["rank"] > 1]
    kinds, sentences = [], []
    for row in wrong.to_dict("records"):
        sought = known[row["video_id"], row.get("start", 0)]
        found = known[row["top_video_id"], row.get("top_start", 0)]
        long = getattr(sought, "end", 0) - getattr(sought, "start", 0) > LONGEST
        kinds.append(KINDS[0] if long else kind(meaning(sought, truth), meaning(found, truth)))
        sentences.append(found.sentence)
    return wrong.assign(kind=kinds, top_sentence=sentences)


def one_at_random(examples: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """The same examples as if another clip, drawn at random, had come first."""
    n = len(examples)
    drawn = examples.iloc[(np.arange(n) + rng.integers(1, max(2, n), size=n)) % n].reset_index(drop=True)
    random = examples.assign(rank=2, top_video_id=drawn["video_id"])
    return random.assign(top_start=drawn["start"]) if "start" in drawn else random


def kind_bars(shares: Mapping[str, Mapping[str, pd.Series]]) -> Figure:
    """A panel a set: the share of each kind among its "errors", and by "chance" in grey."""
    figure, axes = plots.panels(1, len(shares), (4.5 * len(shares) + 1.5, 2.8), sharey=True)
    for axis, (name, of) in zip(axes[0], shares.items(), strict=True):
        for place, (who, colour) in enumerate((("errors", plots.VIDEO), ("chance", plots.CHANCE))):
            lengths = 100 * of[who].reindex(list(KINDS)).fillna(0)
            bars = axis.barh(np.arange(len(KINDS)) + 0.4 * place - 0.2, lengths, 0.38, color=colour, label=who)
            axis.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
        axis.set(
            xlim=(0, 108), xlabel="share of the errors (%)", title=name, yticks=range(len(KINDS)), yticklabels=KINDS
        )
    axes[0, 0].invert_yaxis()
    axes[0, -1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _key(record: Any) -> tuple[str, float]:
    return record.video_id, getattr(record, "start", 0)
