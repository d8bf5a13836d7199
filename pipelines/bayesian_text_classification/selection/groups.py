"""Rows that belong together, such as copies of a text, and count once."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..pipeline.inputs import spaced_once


def checked_groups(groups: Any, rows: int, name: str = "groups") -> NDArray[Any]:
    """The group of each row. Texts that differ only in white space are one group. *Shape:* (rows,).

    Raises:
        ValueError: There is not one group for each row, or one is None or NaN.
    """
    array = np.asarray(groups)
    if array.shape != (rows,):
        raise ValueError(f"{name} has the shape {array.shape}; it must hold one name or number for each of {rows} rows")
    if array.dtype.kind in "fO":
        missing = [one is None or one != one for one in array.tolist()]
        if any(missing):
            raise ValueError(f"{name}[{missing.index(True)}] is missing; give each row its group, such as its text")
    if array.dtype.kind in "UO":
        return np.array([spaced_once(one) if isinstance(one, str) else one for one in array.tolist()], array.dtype)
    return array


def of_groups(
    scores: NDArray[np.floating], correct: NDArray[np.bool_], groups: NDArray[Any]
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """One score per group, the highest, and whether all of its rows are right. *Shape:* (groups,) both."""
    names, member = np.unique(groups, return_inverse=True)
    highest, right = np.full(len(names), -np.inf), np.full(len(names), True)
    np.maximum.at(highest, member, scores)
    np.logical_and.at(right, member, correct)
    return highest, right
