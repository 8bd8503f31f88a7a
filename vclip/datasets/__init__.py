"""Readers of the official annotation files: one module a data set, each with `load(path, split=...) -> Dataset`."""

from vclip.datasets._records import Dataset

__all__ = ["Dataset"]
