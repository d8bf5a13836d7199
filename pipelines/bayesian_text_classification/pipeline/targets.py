"""The true labels of texts, as arrays: class ids, or 0 and 1 for labels that may apply together."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .options import Activation

_SHOWN = 10  # class names in an error


def labeled(
    texts: Any, labels: Sequence[Any], config: Any, activation: Activation
) -> tuple[list[Any], NDArray[np.int64]]:
    """Texts as a list, and their targets: class ids, or for independent labels `label_matrix`.

    Raises:
        ValueError: There is not one label (or list of labels) for each text, or a label is unknown.
    """
    if isinstance(texts, str):
        raise ValueError("texts is a single str; pass a list of texts, and one label per text")
    texts = list(texts)
    targets = label_matrix(labels, config) if activation == "sigmoid" else class_ids(labels, config)
    if len(texts) != len(targets) or not texts:
        raise ValueError(f"got {len(texts)} texts and {len(targets)} labels; pass at least one text, each with a label")
    return texts, targets


def class_ids(labels: Iterable[Any], config: Any) -> NDArray[np.int64]:
    """Class ids from ids or names. *Shape:* (texts,). Raises ValueError for a label that is neither, with its index."""
    return np.array([_id(label, f"label {i}", config) for i, label in enumerate(labels)], dtype=np.int64)


def label_matrix(labels: Iterable[Any], config: Any) -> NDArray[np.int64]:
    """1 where a label applies, else 0. *Shape:* (texts, labels).

    Each item of `labels` holds the ids or names of the labels of one text. If all items are lists of one 0 or 1 for
    each label, they are rows of the matrix itself (a set is never a row). A model with one output takes 0 or 1 for each
    text, or the name of its label for 1.

    Raises:
        ValueError: A label is unknown or is given twice for one text, or an item is none of these.
    """
    items, count = [_unboxed(item) for item in labels], int(config.num_labels)
    if count == 1:
        items = [_yes_or_no(item, i, config) for i, item in enumerate(items)]
    if items and all(_is_row(item, count) for item in items):
        return np.array(items, dtype=np.int64)
    matrix = np.zeros((len(items), count), dtype=np.int64)
    for i, item in enumerate(items):
        for label in item if isinstance(item, (list, set)) else [item]:
            known = _id(label, f"labels {i}", config)
            if matrix[i, known]:
                raise ValueError(
                    f"labels {i} are {item!r}, which has {label!r} twice; pass the labels of each text, or rows of one "
                    "0 or 1 for each label for all texts"
                )
            matrix[i, known] = 1
    return matrix


def _yes_or_no(item: Any, index: int, config: Any) -> list[int]:
    """The target of a text for a model with one output, as a row."""
    value = item[0] if isinstance(item, list) and len(item) == 1 else item
    if value == config.id2label[0]:
        return [1]
    if isinstance(value, (int, float)) and value in (0, 1):
        return [int(value)]
    raise ValueError(f"label {index} is {item!r}; the model has one output, so it must be 0 or 1")


def _id(label: Any, place: str, config: Any) -> int:
    known = config.label2id.get(label) if isinstance(label, str) else label
    if isinstance(known, bool) or known not in range(config.num_labels):
        names = list(map(str, config.id2label.values()))
        near = difflib.get_close_matches(str(label), names, n=1)
        guess = f"; did you mean {near[0]!r}?" if near else ""
        more = f", ... ({len(names):,} in all)" if len(names) > _SHOWN else ""
        raise ValueError(f"{place} is {label!r}{guess} (the classes are {', '.join(map(repr, names[:_SHOWN]))}{more})")
    return int(known)


def _is_row(item: Any, count: int) -> bool:
    """Whether an item is a row of zeros and ones, one for each label."""
    return isinstance(item, list) and len(item) == count and all(value in (0, 1) for value in item)


def _unboxed(item: Any) -> Any:
    """Arrays, tensors and tuples as lists, frozen sets as sets; everything else as it is."""
    if hasattr(item, "tolist"):
        return item.tolist()
    return list(item) if isinstance(item, tuple) else set(item) if isinstance(item, frozenset) else item
