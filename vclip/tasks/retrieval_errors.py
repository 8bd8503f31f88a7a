"""Why a retrieval went wrong: what the clip ranked first shares with the one that was sought (paper section 5.7)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

LONGEST = 32  # seconds that the model sees of a clip
KINDS = (
    f"longer than {LONGEST} s",
    "same thing, other action",
    "same action, other thing",
    "same topic, other step",
    "other topic",
)
# words that name no thing
FUNCTION_WORDS = frozenset(
    {"a", "an", "and", "as", "at", "by", "down", "for", "from", "in", "into", "it", "its", "of", "off", "on", "onto"}
    | {"out", "over", "some", "the", "them", "then", "to", "together", "until", "up", "with", "your"}
)


@dataclass(frozen=True)
class Meaning:
    """What a clip shows: one action, things, the topic of its video (None if nobody knows), and how long it is (s).

    `seconds` is 0 where the whole video is the clip.
    """

    action: str
    things: frozenset[str]
    topic: str | None
    seconds: float


def meaning(record: Any, truth: dict | None = None) -> Meaning:
    """Of a record with `video_id` and `sentence`, and perhaps `start` and `end` (s) and `recipe_type`.

    From `truth`, (video_id, start) -> (action, thing, topic), where it knows the clip. Else read off an imperative
    sentence: its first word is the action, every other word that is no function word a thing, `recipe_type` the topic.
    """
    start, end = getattr(record, "start", 0), getattr(record, "end", None)
    seconds = end - start if end is not None else 0
    if truth and (record.video_id, start) in truth:
        action, thing, topic = truth[record.video_id, start]
        return Meaning(action, frozenset([thing]), topic, seconds)
    first, *others = record.sentence.lower().replace(",", " ").replace(".", " ").split() or [""]
    return Meaning(first, frozenset(others) - FUNCTION_WORDS, getattr(record, "recipe_type", None), seconds)


def kind(sought: Meaning, found: Meaning) -> str:
    """Which of `KINDS` it is to find the clip `found` in place of `sought`; the first that applies.

    A clip of which the model sees a part only comes first: nothing else need be wrong with it.
    """
    if sought.seconds > LONGEST:
        return KINDS[0]
    if sought.things & found.things and sought.action != found.action:
        return KINDS[1]
    if sought.action == found.action:
        return KINDS[2]
    return KINDS[3] if sought.topic is not None and sought.topic == found.topic else KINDS[4]


def errors(examples: pd.DataFrame, records: Sequence, truth: dict | None = None) -> pd.DataFrame:
    """The rows of a retrieval report's `examples` whose first clip is a wrong one, with `kind` and `top_sentence`.

    `examples` has the columns `video_id`, `rank`, `top_video_id` and, where clips have a start, `start` and `top_start`
    (s); `truth` is as in `meaning`. `records` are what was scored; where two share video and start, the first stands
    for both. Raises ValueError that names a clip which is not among them.
    """
    known = {}
    for record in records:
        known.setdefault((record.video_id, getattr(record, "start", 0)), record)
    wrong = examples.loc[examples["rank"] > 1]
    rows = wrong.to_dict("records")
    try:
        sought = [known[row["video_id"], row.get("start", 0)] for row in rows]
        found = [known[row["top_video_id"], row.get("top_start", 0)] for row in rows]
    except KeyError as error:
        raise ValueError(f"the clip {error.args[0]} is not among the records: give those that were scored") from None
    kinds = [kind(meaning(s, truth), meaning(f, truth)) for s, f in zip(sought, found, strict=True)]
    return wrong.assign(kind=kinds, top_sentence=[record.sentence for record in found])
