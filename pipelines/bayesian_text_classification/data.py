"""Labelled texts from a file, from a dataset on the Hub, or from the review set that the package brings along."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet

_TEXT_COLUMNS = ("text", "sentence")
_LABEL_COLUMNS = ("label", "labels")
_READERS: Mapping[str, Callable[[Path], dict[str, list[Any]]]] = {
    ".csv": lambda path: _read_csv(path, sep=","),
    # Tab-separated sentences carry stray quotation marks; nothing is quoted there.
    ".tsv": lambda path: _read_csv(path, sep="\t", quoting=3),
    ".jsonl": lambda path: _read_jsonl(path),
    ".parquet": lambda path: pyarrow.parquet.read_table(path).to_pydict(),
}


@dataclass(frozen=True)
class _Table:
    """Columns by name, and the names of the classes where a column of ids has them."""

    columns: dict[str, list[Any]]
    class_names: dict[str, list[str]] = field(default_factory=dict)


class DataError(ValueError):
    """The data cannot be used as they are; the message is one line for the user."""


@dataclass(frozen=True)
class LabelledTexts:
    """Texts and their true labels.

    Attributes:
        name: where they come from.
        texts: N texts.
        labels: N ids into the model's classes.
        kinds: N group names, where the data have a column `kind`; otherwise empty.
    """

    name: str
    texts: list[str]
    labels: list[int]
    kinds: list[str]


def embedded_reviews() -> Path:
    """The file of the review set."""
    return Path(__file__).parent / "embedded" / "reviews.csv"


def load_labelled_texts(
    source: str,
    id2label: Mapping[int, str],
    *,
    config: str | None = None,
    split: str = "validation",
    text_column: str | None = None,
    label_column: str | None = None,
) -> LabelledTexts:
    """Read `source` and translate its labels to the model's class ids.

    Args:
        source: a .csv (quoted as usual), .tsv (not quoted), .jsonl or .parquet file, or a dataset's id on the Hub.
        id2label: the model's classes. Labels may be their ids or their names.
        config: the configuration of a dataset on the Hub.
        split: the split of a dataset on the Hub.
        text_column: default `text`, else `sentence`.
        label_column: default `label`, else `labels`.

    Raises:
        DataError: no such file, dataset, column or label, or no rows.
    """
    table = _read_file(Path(source)) if _is_file_name(source) else _read_hub(source, config, split)
    text_column = _column(table, text_column, _TEXT_COLUMNS, "text")
    label_column = _column(table, label_column, _LABEL_COLUMNS, "label")
    texts = table.columns[text_column]
    if not texts:
        raise DataError(f"{source} has no rows")
    for row, text in enumerate(texts):
        if not isinstance(text, str):
            raise DataError(f"{source}, row {row}: column {text_column!r} holds {text!r}, not a text")
    values = table.columns[label_column]
    names = table.class_names.get(label_column, [])
    if {name.casefold() for name in names} == {name.casefold() for name in id2label.values()}:
        # The dataset names its classes as the model does: names count, whatever their order.
        values = [names[value] if isinstance(value, int) and 0 <= value < len(names) else value for value in values]
    labels = label_ids(values, id2label, source)
    kinds = [str(kind) for kind in table.columns.get("kind", [])]
    return LabelledTexts(source, texts, labels, kinds)


def label_ids(values: Sequence[Any], id2label: Mapping[int, str], source: str) -> list[int]:
    """Class ids from ids (int, or digits in a text file) or names of classes (case ignored if that is unambiguous)."""
    exact = {name: i for i, name in id2label.items()}
    folded = {name.casefold(): i for i, name in id2label.items()}
    if len(folded) < len(exact):
        folded = {}
    ids = []
    for row, value in enumerate(values):
        known: int | None = None
        if isinstance(value, str):
            known = exact.get(value, folded.get(value.casefold()))
        if known is None and not isinstance(value, bool):
            if isinstance(value, int):
                known = value
            elif isinstance(value, str) and re.fullmatch(r"-?[0-9]+", value.strip()):
                known = int(value)
        if known is None or known not in id2label:
            names = ", ".join(f"{i} ({name})" for i, name in list(id2label.items())[:8])
            more = ", ..." if len(id2label) > 8 else ""
            raise DataError(f"{source}, row {row}: label {value!r} is none of the model's labels {names}{more}")
        ids.append(known)
    return ids


def _is_file_name(source: str) -> bool:
    return Path(source).suffix.lower() in _READERS or Path(source).exists()


def _read_file(path: Path) -> _Table:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.suffix.lower() not in _READERS:
        raise DataError(f"{path}: a {path.suffix or 'file without ending'} cannot be read; use {', '.join(_READERS)}")
    try:
        return _Table(_READERS[path.suffix.lower()](path))
    except (ValueError, OSError) as error:  # the parsers' errors, Arrow's too, are ValueErrors
        raise DataError(f"{path} cannot be read: {_first_line(error)}") from error


def _read_csv(path: Path, **options: Any) -> dict[str, list[Any]]:
    # As text, empty cells kept: pandas would turn "NA" and "" into missing values and "007" into 7.
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", **options)
    if not isinstance(frame.index, pd.RangeIndex):  # pandas took the first column for row names
        raise ValueError("its rows have more fields than its header")
    columns: dict[str, list[Any]] = frame.to_dict("list")
    return columns


def _read_jsonl(path: Path) -> dict[str, list[Any]]:
    """Columns of JSON objects, one a line; None where a row lacks a key (pandas would make labels floats there)."""
    rows = []
    with path.open(encoding="utf-8-sig", newline="\n") as file:  # `splitlines` would also part at U+2028 inside a text
        for number, line in enumerate(file, start=1):
            if line.strip():
                try:
                    rows.append(json.loads(line))
                except ValueError as error:
                    raise ValueError(f"line {number} is not JSON ({error})") from error
                if not isinstance(rows[-1], dict):
                    raise ValueError(f"line {number} is not a JSON object")
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _read_hub(name: str, config: str | None, split: str) -> _Table:
    from datasets import ClassLabel, load_dataset  # a second of imports that files do not need

    try:
        rows = load_dataset(name, config, split=split)
    except Exception as error:  # network, name, config and split each raise their own class
        raise DataError(f"dataset {name!r} (config {config!r}, split {split!r}): {_first_line(error)}") from error
    classes = {key: feature.names for key, feature in rows.features.items() if isinstance(feature, ClassLabel)}
    return _Table({key: list(rows[key]) for key in rows.column_names}, classes)


def _column(table: _Table, wanted: str | None, usual: Sequence[str], role: str) -> str:
    candidates = [wanted] if wanted is not None else list(usual)
    for name in candidates:
        if name in table.columns:
            return name
    raise DataError(
        f"no {role} column {' or '.join(map(repr, candidates))}; the columns are "
        f"{', '.join(map(repr, table.columns))} (choose with --{role}-column)"
    )


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
