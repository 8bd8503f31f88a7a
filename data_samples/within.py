"""R@1 among the clips of one class: what a model tells apart within an action, a thing, a recipe."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from vclip.data.corpus import Corpus
from vclip.models.dual_encoder import DualEncoder
from vclip.tasks.retrieval import embed_pairs, rank_texts


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
        within = pd.DataFrame({"hit": hits, "clips": candidates}, dtype=float)
        rows[name] = (within["hit"].mean(), (1 / within["clips"]).mean(), len(within), within["clips"].mean())
    return pd.DataFrame.from_dict(rows, orient="index", columns=["r1", "chance", "n", "clips"])
