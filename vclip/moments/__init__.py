"""Search a folder of videos by text, down to the second."""

from vclip.moments.index import Curve, Hit, MomentIndex
from vclip.moments.model import index_name

__all__ = ["Curve", "Hit", "MomentIndex", "index_name"]
