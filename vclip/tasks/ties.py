"""Equal vectors get equal products, so that ties are seen: BLAS rounds a column of a product by its place."""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float
from torch import Tensor

Array = np.ndarray | Tensor


def as_array(rows: Array | Sequence) -> np.ndarray:
    """As numpy, in float32 or more."""
    if isinstance(rows, Tensor):  # numpy knows no bfloat16
        rows = (rows if rows.dtype.itemsize > 2 else rows.float()).detach().cpu().numpy()
    array = np.asarray(rows)
    return array.astype(np.promote_types(array.dtype, np.float32), copy=False)


def once(items: Iterable) -> tuple[list, list[int]]:
    """Each distinct item once, in the order in which they come, and for each of `items` which of those it is."""
    place: dict = {}
    which = [place.setdefault(item, len(place)) for item in items]
    return list(place), which


def products(queries: Float[np.ndarray, "N D"], rows: Float[np.ndarray, "K D"]) -> Float[np.ndarray, "N K"]:
    """Dot products of each query with each row; those with equal rows are equal to the last bit."""
    distinct, which = np.unique(rows, axis=0, return_inverse=True)
    return (queries @ distinct.T)[..., which]
