"""Zero-shot tasks: retrieval, VideoQA, segmentation, localization; their scores beside their baselines."""
