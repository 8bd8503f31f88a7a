"""Search a folder of videos by text, down to the second."""

from vclip.moments.index import Curve, Hit, MomentIndex

__all__ = ["Curve", "Hit", "MomentIndex"]
