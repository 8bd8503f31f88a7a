"""Dual encoders: clips and sentences embedded in one space."""
