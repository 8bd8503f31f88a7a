"""Pictures for the notebooks. Each function returns a matplotlib Figure; time runs along x, in seconds."""

from vclip.plots.answers import (
    contact_sheet,
    labelled_seconds,
    moments,
    questions,
    rank_curves,
    ranking,
    step_map,
)
from vclip.plots.corpus import clip_pairs, groups, timeline
from vclip.plots.training import LiveCurve, curves, recalls

__all__ = [
    "LiveCurve",
    "clip_pairs",
    "contact_sheet",
    "curves",
    "groups",
    "labelled_seconds",
    "moments",
    "questions",
    "rank_curves",
    "ranking",
    "recalls",
    "step_map",
    "timeline",
]
