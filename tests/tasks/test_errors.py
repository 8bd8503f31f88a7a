from types import SimpleNamespace

import pandas as pd
import pytest

from vclip.datasets.youcook2 import Clip
from vclip.tasks.errors import KINDS, Meaning, errors, kind, meaning

SOUGHT = Meaning("chop", frozenset({"onion"}), "salad", 9)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Meaning("fry", frozenset({"onion", "pan"}), "stew", 9), "same thing, other action"),
        (Meaning("chop", frozenset({"leek"}), "stew", 99), "same action, other thing"),
        (Meaning("fry", frozenset({"leek"}), "salad", 9), "same topic, other step"),
        (Meaning("fry", frozenset({"leek"}), "stew", 9), "other topic"),
        # the same words in another video: the thing, not the action, must then be another one
        (Meaning("chop", frozenset({"onion"}), "stew", 9), "same action, other thing"),
    ],
)
def test_kinds(found, expected):
    assert kind(SOUGHT, found) == expected in KINDS
    longer = Meaning(SOUGHT.action, SOUGHT.things, SOUGHT.topic, 33)
    assert kind(longer, found) == "longer than 32 s"


def test_topics_that_nobody_knows_are_not_the_same():
    unknown = Meaning("chop", frozenset(), None, 0)
    assert kind(unknown, Meaning("fry", frozenset(), None, 0)) == "other topic"


def test_meaning_comes_from_the_truth_or_from_the_words():
    clip = Clip("v", 0, 3, 9, "Dice the aubergine, and some leek into small pieces.", "113")
    assert meaning(clip) == Meaning("dice", frozenset({"aubergine", "leek", "small", "pieces"}), "113", 6)
    assert meaning(clip, {("v", 3): ("chop", "eggplant", "stew")}) == Meaning(
        "chop", frozenset({"eggplant"}), "stew", 6
    )
    assert meaning(SimpleNamespace(video_id="v", sentence="")) == Meaning("", frozenset(), None, 0)


def test_only_wrong_answers_are_errors():
    clips = [Clip("a", 0, 0, 9, "chop the onion", "1"), Clip("b", 0, 5, 50, "chop the leek", "2"),
             Clip("c", 0, 1, 9, "fry it", "2")]  # fmt: skip
    examples = pd.DataFrame({
        "video_id": ["a", "b", "c"], "start": [0, 5, 1], "rank": [2, 3, 1],
        "top_video_id": ["b", "c", "c"], "top_start": [5, 1, 1],
    })  # fmt: skip
    found = errors(examples, clips)
    assert found["kind"].tolist() == ["same action, other thing", "longer than 32 s"]
    assert found["top_sentence"].tolist() == ["chop the leek", "fry it"]
    assert "kind" not in examples
    with pytest.raises(ValueError, match=r"\('b', 5\) is not among the records"):
        errors(examples, clips[:1])
