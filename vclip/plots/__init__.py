"""Pictures for the notebooks. Each function returns a matplotlib Figure; time runs along x, in seconds."""

from vclip.plots.ablations import forest, gains
from vclip.plots.answers import (
    bars,
    contact_sheet,
    labelled_seconds,
    moments,
    questions,
    rank_curves,
    ranking,
    side_by_side,
    step_map,
)
from vclip.plots.corpus import clip_pairs, groups, lengths, similarity, timeline
from vclip.plots.training import LiveCurve, curves, recalls

__all__ = [
    "LiveCurve",
    "bars",
    "clip_pairs",
    "contact_sheet",
    "curves",
    "forest",
    "gains",
    "groups",
    "labelled_seconds",
    "lengths",
    "moments",
    "questions",
    "rank_curves",
    "ranking",
    "recalls",
    "side_by_side",
    "similarity",
    "step_map",
    "timeline",
]
