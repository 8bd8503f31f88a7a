"""Why a retrieval went wrong: what the clip ranked first shares with the one that was sought (paper section 5.7)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

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


def _key(record: Any) -> tuple[str, float]:
    return record.video_id, getattr(record, "start", 0)
