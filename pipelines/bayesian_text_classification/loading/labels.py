"""Translate the labels of a dataset to the class ids of a model."""

import difflib
import json
import re
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from ..pipeline.errors import BayesianTextClassificationError
from ..wording import row_name

_YES = {"1", "1.0", "True"}  # as `str` shows them
_ENOUGH = 50  # rows, in which more than two labels should occur
_BITS = {"0", "0.0", "False", *_YES}


class DataError(BayesianTextClassificationError):
    """The data cannot be used as it is. The message is one line for the user."""


def label_ids(
    values: Sequence[Any],
    id2label: Mapping[int, str],
    source: str,
    *,
    class_names: Sequence[str] = (),
    rows: Sequence[int] | None = None,
) -> list[int]:
    """Translate ids (int, or digits in a text file) or class names to class ids.

    Spaces around a label are ignored. So is case, unless two names differ only in case.

    Args:
        values: Ids or names.
        id2label: Classes of the model.
        source: Source of the values, for error messages.
        class_names: Names of the ids in the dataset, if any. If these are the model's names too, ids are mapped
            by name.
        rows: Number of each value's row, for error messages. None: each row has one value.
    """
    values = _by_name(values, class_names, id2label, source)
    id_of = _name_reader(id2label)
    ids = []
    for row, value in zip(range(len(values)) if rows is None else rows, values, strict=True):
        known = id_of(value) if isinstance(value, str) else None
        if known is None and not isinstance(value, bool):
            if isinstance(value, int):
                known = value
            elif isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,18}", value.strip()):
                known = int(value)
        if known is None or known not in id2label:
            raise DataError(
                f"{source}, {row_name(row)}: label {value!r} is not one of the model's labels {_shown(id2label)}"
                f"{_way_out(value, id2label)}"
            )
        ids.append(known)
    found = {str(value).strip() for value in values}
    if len(id2label) > 2 and len(ids) >= _ENOUGH and found == {"0", "1"} and set(ids) == {0, 1}:
        warnings.warn(
            f"{source}: labels 0 and 1 are read as {id2label[0]!r} and {id2label[1]!r}; none of the model's other "
            f"{len(id2label) - 2} labels occurs",
            UserWarning,
            stacklevel=2,
        )
    return ids


def joined_labels(labels: Sequence[str], names: Iterable[str]) -> str:
    """Labels as one cell, which `label_lists` reads: separated by commas, or JSON if a name has a comma."""
    return json.dumps(labels, ensure_ascii=False) if any("," in name for name in names) else ",".join(labels)


def split_labels(cell: str, names: Collection[str]) -> list[str]:
    """The labels in a cell: one name, a JSON list of names, or names separated by commas."""
    if cell.strip() in names:  # a name may have a comma
        return [cell]
    if cell.lstrip().startswith("["):
        try:
            return list(map(str, json.loads(cell)))
        except (ValueError, TypeError):
            pass
    return [part.strip() for part in cell.split(",") if part.strip()]


def yes_or_no(
    values: Sequence[Any], id2label: Mapping[int, str], source: str, *, class_names: Sequence[str] = ()
) -> list[int]:
    """0 or 1 for each row, for a model with one output, whose only label applies or does not.

    A cell holds 0 or 1, true or false, or the name of the label for 1. If the dataset has two class names, and one is
    that of the label, the other one stands for 0. The arguments are those of `label_ids`.
    """
    (name,) = id2label.values()
    yes = {*_YES, "true", name.strip().casefold()}
    no = {"0", "0.0", "false", f"not {name.strip().casefold()}"}
    same = [known.strip().casefold() == name.strip().casefold() for known in class_names]
    if len(same) == 2 and sum(same) == 1:
        swapped = same.index(True) == 0  # the dataset's 0 is the label
        no.add(class_names[same.index(False)].strip().casefold())
        values = [1 - value if swapped and value in (0, 1) else value for value in values]
    found = []
    for index, value in enumerate(values):
        cell = str(value).strip().casefold()
        if cell not in yes | no:
            raise DataError(f"{source}, {row_name(index)}: label {value!r} is not 0 or 1; 1 stands for {name}")
        found.append(int(cell in yes))
    return found


def label_lists(
    values: Sequence[Any], id2label: Mapping[int, str], source: str, *, class_names: Sequence[str] = ()
) -> list[list[int]]:
    """Translate the labels of each row, any number of them, to class ids. Each list is sorted, without repeats.

    A cell is a list of ids or names, or a string of them: separated by commas, or a JSON list (empty: no label
    applies). If all cells are lists of one 0 or 1 for each label, they say which labels apply. The arguments are those
    of `label_ids`.
    """
    cells = [_listed(value, id2label) for value in values]
    count = len(id2label)
    if cells and all(isinstance(cell, list) and len(cell) == count and set(map(str, cell)) <= _BITS for cell in cells):
        return [[k for k, bit in enumerate(cell) if str(bit) in _YES] for cell in cells]
    for index, (value, cell) in enumerate(zip(values, cells, strict=True)):
        if cell is None:
            raise DataError(f"{source}, {row_name(index)}: {value!r} is not a list of labels, such as [0, 2] or 'a,b'")
    rows = [index for index, cell in enumerate(cells) for _ in cell]
    flat = [label for cell in cells for label in cell]
    ids = label_ids(flat, id2label, source, class_names=class_names, rows=rows)
    found: list[set[int]] = [set() for _ in cells]
    for index, known in zip(rows, ids, strict=True):
        if known in found[index] and len(cells[index]) == count:  # probably a row of zeros and ones
            raise DataError(
                f"{source}, {row_name(index)}: {values[index]!r} has the label {known} twice; give each label once, or "
                "a 0 or 1 for every label in all rows"
            )
        found[index].add(known)
    return [sorted(one) for one in found]


def _listed(value: Any, id2label: Mapping[int, str]) -> Any:
    """A cell as a list of labels; None if it is none."""
    if isinstance(value, str):
        return split_labels(value, [name.strip() for name in id2label.values()])
    if isinstance(value, int) and not isinstance(value, bool):
        return [value]
    return list(value) if isinstance(value, (list, tuple)) else None


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


def _way_out(value: Any, id2label: Mapping[int, str]) -> str:
    """The end of an error about a label: what may have been meant; empty if there is no guess."""
    if not isinstance(value, str):
        return ""
    id_of, parts = _name_reader(id2label), value.split(",")
    if len(parts) > 1 and all(id_of(part) is not None for part in parts):
        return "; it names several: for a model of independent labels, pass multi_label=True"
    close = difflib.get_close_matches(value, id2label.values(), 1)
    return f"; did you mean {close[0]!r}?" if close else ""


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
