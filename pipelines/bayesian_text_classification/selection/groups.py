"""Rows that belong together, such as copies of a text, and count once."""

from collections.abc import Collection, Iterable, Mapping, Set, Sized
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..pipeline.inputs import shown, spaced_once, text_key

# The group of each row: texts, pairs, or other names, in a list, an array or a column.
Groups = Collection[Any]

_UNORDERED = (str, bytes, bytearray, memoryview, Mapping, Set)  # iterables that are no list of names


def checked_groups(groups: Groups, rows: int, name: str = "groups") -> NDArray[np.intp]:
    """The number of each row's group, from 0 in the order of the rows. *Shape:* (rows,).

    Groups are texts, pairs (`{"text": ..., "text_pair": ...}` or tuples), or other names or numbers. Texts that differ
    only in white space are one group.

    Raises:
        ValueError: There is not one group for each row, or one is missing (None, NaN or NA), or one is no name.
    """
    wanted = f"it must hold one name or number for each of {rows} rows, such as its text"
    if isinstance(groups, _UNORDERED) or not (isinstance(groups, Iterable) and isinstance(groups, Sized)):
        raise ValueError(f"{name} is {shown(groups)}; {wanted}; pass a list")
    shape = tuple(groups.shape) if hasattr(groups, "shape") else (len(groups),)
    if shape != (rows,):
        raise ValueError(f"{name} has the shape {shape}; {wanted}")
    numbers: dict[Any, int] = {}
    keys = (_key(one, f"{name}[{i}]") for i, one in enumerate(_plain(groups)))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.intp)


def of_groups(
    scores: NDArray[np.floating], correct: NDArray[np.bool_], groups: NDArray[np.intp]
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """One score per group, the highest, and whether all of its rows are right. *Shape:* (groups,) both."""
    names, member = np.unique(groups, return_inverse=True)
    highest, right = np.full(len(names), -np.inf), np.full(len(names), True)
    np.maximum.at(highest, member, scores)
    np.logical_and.at(right, member, correct)
    return highest, right


def _plain(values: Any) -> Any:
    """An array, column or scalar of NumPy, pandas, PyTorch or Arrow as Python's own values; others as they are."""
    for method in ("tolist", "to_pylist", "as_py"):
        if hasattr(values, method):
            return getattr(values, method)()
    return values


def _key(group: Any, name: str) -> Any:
    """What is equal for two groups if they are one. Raises ValueError with the `name` of a value that is no group."""
    key = _plain(group)
    if isinstance(key, str):
        return spaced_once(key)
    if isinstance(key, Mapping):
        return text_key(key, name)
    if isinstance(key, tuple):
        return tuple(_key(part, name) for part in key)
    try:
        hash(key)
    except TypeError:
        raise ValueError(f"{name} is {shown(group)}, which is no name; pass a text, a number or a tuple") from None
    if _is_missing(key):
        raise ValueError(f"{name} is missing; give each row its group, such as its text")
    return key


def _is_missing(group: Any) -> bool:
    """Whether it is None, NaN, or a value such as pandas' NA that is neither equal to itself nor not."""
    same = group == group
    return group is None or not isinstance(same, (bool, np.bool_)) or not same
