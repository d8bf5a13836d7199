"""Translate the labels of a dataset to the class ids of a model."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..pipeline.errors import BayesianTextClassificationError
from ..wording import row_name


class DataError(BayesianTextClassificationError):
    """The data cannot be used as it is. The message is one line for the user."""


def label_ids(
    values: Sequence[Any], id2label: Mapping[int, str], source: str, *, class_names: Sequence[str] = ()
) -> list[int]:
    """Translate ids (int, or digits in a text file) or class names to class ids.

    Spaces around a label are ignored. So is case, unless two names differ only in case.

    Args:
        values: Ids or names.
        id2label: Classes of the model.
        source: Source of the values, for error messages.
        class_names: Names of the ids in the dataset, if any. If these are the model's names too, ids are mapped
            by name.
    """
    values = _by_name(values, class_names, id2label, source)
    id_of = _name_reader(id2label)
    ids = []
    for index, value in enumerate(values):
        known = id_of(value) if isinstance(value, str) else None
        if known is None and not isinstance(value, bool):
            if isinstance(value, int):
                known = value
            elif isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value.strip()):
                known = int(value)
        if known is None or known not in id2label:
            raise DataError(
                f"{source}, {row_name(index)}: label {value!r} is not one of the model's labels {_shown(id2label)}"
            )
        ids.append(known)
    return ids


def _name_reader(id2label: Mapping[int, str]) -> Callable[[str], int | None]:
    """A function that finds the id of a name: by exact match, else ignoring case if that is unambiguous."""
    exact = {name.strip(): i for i, name in id2label.items()}
    folded = {name.casefold(): i for name, i in exact.items()}
    if len(folded) < len(exact):
        folded = {}
    return lambda name: exact.get(name.strip(), folded.get(name.strip().casefold()))


def _shown(id2label: Mapping[int, str]) -> str:
    names = [f"{i} ({name})" for i, name in id2label.items()]
    return ", ".join(names[:8] + ["..."] * (len(names) > 8))


def _by_name(
    values: Sequence[Any], class_names: Sequence[str], id2label: Mapping[int, str], source: str
) -> Sequence[Any]:
    """Map the dataset's ids to the model's ids by class name. Values are unchanged if no name is shared.

    Raises:
        DataError: Only some names are shared, so neither names nor ids can be trusted.
    """
    id_of = _name_reader(id2label)
    ids = [id_of(name) for name in class_names]
    strange = [name for name, i in zip(class_names, ids, strict=True) if i is None]
    if len(strange) == len(ids):
        return values
    if strange:
        raise DataError(
            f"{source}: its class {strange[0]!r} is not one of the model's labels {_shown(id2label)}, but others are; "
            "give the dataset and the model the same class names"
        )
    return [ids[value] if isinstance(value, int) and 0 <= value < len(ids) else value for value in values]
