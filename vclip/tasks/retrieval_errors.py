"""Why a retrieval went wrong: what the clip ranked first shares with the one that was sought (paper section 5.7)."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from vclip.data.corpus import Corpus
from vclip.models.dual_encoder import DualEncoder
from vclip.tasks.retrieval import embed_pairs, rank_texts

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


def r1_within(
    clip: DualEncoder,
    records: Sequence,
    corpus: Corpus,
    classes: Mapping[str, Callable[[Any], Hashable | None]] | None = None,
) -> pd.DataFrame:
    """R@1 among the clips of a text's own class, beside R@1 among all: what the model tells apart within a class.

    Args:
        clip: the model.
        records: clips with a `sentence`.
        corpus: features of their videos.
        classes: {name: function from a record to its class, None if unknown}; by default "recipe", as YouCook2's
            annotations give it. A clip that several records name is of the first one's class.

    Returns:
        A row "all", then one for each name in `classes`: `r1` and its `chance`, fractions; `n` texts, without those
        whose clip is alone in its class or of an unknown one; `clips`, the mean number that a text is sought among.

    Example:
        >>> import vclip
        >>> from vclip.datasets import youcook2
        >>> folder, corpus = vclip.minihowto(), vclip.Corpus.open(vclip.minihowto() / "val")
        >>> model, records = vclip.load(folder / "checkpoint"), youcook2.load(folder / "youcook2/val")
        >>> r1_within(model, records, corpus, {"verb": lambda record: record.sentence.split()[0]}).n.to_dict()
        {'all': 284, 'verb': 284}
    """
    if classes is None:
        classes = {"recipe": lambda record: getattr(record, "recipe_type", None)}
    z_t, z_v, own, found = embed_pairs(clip, records, corpus)
    first = np.unique(own, return_index=True)[1]  # a record of each clip
    rows = {}
    for name, class_of in {"all": lambda _: True, **classes}.items():
        of_clip = [class_of(records[found[i]]) for i in first]
        hits, candidates = [], []
        for label in dict.fromkeys(of_clip):
            clips = np.flatnonzero([other == label for other in of_clip])
            texts = np.flatnonzero(np.isin(own, clips))
            if label is not None and len(clips) > 1:
                ranks = rank_texts(z_t[texts], z_v[clips], np.searchsorted(clips, own[texts]))
                hits += (ranks["closer"] + ranks["level"] == 1).tolist()
                candidates += [len(clips)] * len(texts)
        sizes = np.array(candidates, dtype=float)
        n = len(sizes)
        rows[name] = (np.mean(hits), np.mean(1 / sizes), n, sizes.mean()) if n else (np.nan, np.nan, 0, np.nan)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["r1", "chance", "n", "clips"])


def _key(record: Any) -> tuple[str, float]:
    return record.video_id, getattr(record, "start", 0)
