"""Readers of the official annotation files: one module a data set, each with `load(path, split=...) -> Dataset`.

A value that is not as in the official files is a ValueError that names file, place and value.
"""

from vclip.datasets._records import Dataset

__all__ = ["Dataset"]
