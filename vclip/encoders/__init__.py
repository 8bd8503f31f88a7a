"""Frozen video encoders: the frames of a second in, a feature vector out."""
