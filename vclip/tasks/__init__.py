"""Zero-shot tasks: retrieval, VideoQA, segmentation, localization; their scores beside their baselines."""

from vclip.models import windows

__all__ = ["windows"]
