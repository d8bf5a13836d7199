"""Rows that belong together, such as copies of a text, and count once."""

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..pipeline.inputs import spaced_once, text_key


def checked_groups(groups: Any, rows: int, name: str = "groups") -> NDArray[np.intp]:
    """The number of each row's group, from 0 in the order of the rows. *Shape:* (rows,).

    Groups are texts, pairs (`{"text": ..., "text_pair": ...}`), or any names or numbers. Texts that differ only in
    white space are one group.

    Raises:
        ValueError: There is not one group for each row, or one is missing (None, NaN or NA).
    """
    given = [] if isinstance(groups, (str, Mapping)) or not np.iterable(groups) else list(groups)
    if len(given) != rows or not all(isinstance(one, (Hashable, Mapping)) for one in given):
        found = np.array(groups, dtype=object).shape
        raise ValueError(
            f"{name} has the shape {found}; it must hold one name or number for each of {rows} rows, such as its text"
        )
    missing = [i for i, one in enumerate(given) if _is_missing(one)]
    if missing:
        raise ValueError(f"{name}[{missing[0]}] is missing; give each row its group, such as its text")
    numbers: dict[Any, int] = {}
    return np.array([numbers.setdefault(_key(one), len(numbers)) for one in given], dtype=np.intp)


def of_groups(
    scores: NDArray[np.floating], correct: NDArray[np.bool_], groups: NDArray[np.intp]
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """One score per group, the highest, and whether all of its rows are right. *Shape:* (groups,) both."""
    names, member = np.unique(groups, return_inverse=True)
    highest, right = np.full(len(names), -np.inf), np.full(len(names), True)
    np.maximum.at(highest, member, scores)
    np.logical_and.at(right, member, correct)
    return highest, right


def _key(group: Any) -> Any:
    if isinstance(group, Mapping):
        return text_key(group)
    return spaced_once(group) if isinstance(group, str) else group


def _is_missing(group: Any) -> bool:
    """Whether it is None, NaN, or a value such as pandas' NA that is neither equal to itself nor not."""
    same = group == group
    return group is None or not isinstance(same, (bool, np.bool_)) or not same
