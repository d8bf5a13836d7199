"""Labelled texts from a file, from a dataset on the Hub, or from the review set that the package brings along."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow

from ..files.formats import FORMATS, format_of
from ..files.readers import DAMAGE, TEXT_COLUMNS, RowFile, open_rows
from ..pipeline.inputs import shown
from ..wording import first_line, row_name, some
from .labels import DataError, label_ids

HUB_SPLIT = "validation"  # of a dataset on the Hub, unless another is asked for

_LABEL_COLUMNS = ("label", "labels")
MOST_CHARACTERS = 1_000_000  # of a text: a tokenizer holds all of its tokens before it cuts
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


@dataclass(frozen=True)
class LabelledTexts:
    """Texts and their true labels.

    Attributes:
        name: where they come from.
        texts: N texts.
        labels: N ids into the model's classes.
        groups: N group names, where the data have a column `kind`; otherwise empty.
        text_column: the column that the texts were read from, if they were.
        label_column: that of the labels.
        split: that of a dataset on the Hub.
    """

    name: str
    texts: list[str]
    labels: list[int]
    groups: list[str]
    text_column: str | None = None
    label_column: str | None = None
    split: str | None = None


@dataclass(frozen=True)
class Texts:
    """Texts, and what stands beside them.

    Attributes:
        name: where they come from.
        texts: N texts.
        columns: all columns by name, that of the texts among them.
    """

    name: str
    texts: list[str]
    columns: dict[str, list[Any]]


def load_labelled_texts(
    source: str,
    id2label: Mapping[int, str],
    *,
    config: str | None = None,
    split: str | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
) -> LabelledTexts:
    """Read `source` and translate its labels to the model's class ids.

    Args:
        source: a .csv (quoted as usual), .tsv (not quoted), .jsonl or .parquet file, or a dataset's id on the Hub.
        id2label: the model's classes. Labels may be their ids or their names. Where the dataset names its classes as
            the model does, its ids are read as these names, whatever their order.
        config: the configuration of a dataset on the Hub.
        split: the split of a dataset on the Hub, default `validation`.
        text_column: default `text`, else `sentence`.
        label_column: default `label`, else `labels`.

    Raises:
        DataError: no such file, dataset, column or label, or no rows; a row that is not whole; a text that is no
            Unicode; an option that this source cannot have.
    """
    table, split = _read(source, config, split)
    text_column = _column(table, text_column, TEXT_COLUMNS, "text")
    label_column = _column(table, label_column, _LABEL_COLUMNS, "label")
    if text_column == label_column:
        raise DataError(
            f"column {text_column!r} cannot be both text and label; choose two with text_column= and label_column="
        )
    texts = table.columns[text_column]
    groups = [str(name) for name in table.columns.get("kind", [])]
    _check_texts(source, text_column, texts)
    _check_unicode(source, "kind", groups)
    labels = label_ids(
        table.columns[label_column], id2label, source, class_names=table.class_names.get(label_column, [])
    )
    return LabelledTexts(source, texts, labels, groups, text_column, label_column, split)


def load_texts(
    source: str, *, config: str | None = None, split: str | None = None, text_column: str | None = None
) -> Texts:
    """Read texts without labels; sources, options and errors are those of `load_labelled_texts`."""
    table, _ = _read(source, config, split)
    text_column = _column(table, text_column, TEXT_COLUMNS, "text")
    _check_texts(source, text_column, table.columns[text_column])
    return Texts(source, table.columns[text_column], table.columns)


@dataclass(frozen=True)
class _Table:
    """Columns by name, and the names of the classes where a column of ids has them."""

    columns: dict[str, list[Any]]
    class_names: dict[str, list[str]] = field(default_factory=dict)


def _read(source: str, config: str | None, split: str | None) -> tuple[_Table, str | None]:
    """The table, and the split of a dataset on the Hub."""
    if _is_file_name(source):
        for option, value in (("config", config), ("split", split)):
            if value is not None:
                raise DataError(f"{option}={value} is for a dataset on the Hub, and {source} is a file: leave it out")
        table = _read_file(Path(source))
    else:
        split = HUB_SPLIT if split is None else split
        table = _read_hub(source, config, split)
    if not any(table.columns.values()):
        raise DataError(f"{source} has no rows")
    return table, split


def _check_unicode(source: str, name: str, column: Sequence[Any]) -> None:
    for index, text in enumerate(column):
        if reason := why_no_text(text):
            raise DataError(f"{source}, {row_name(index)}: column {name!r} holds {reason}")


def _check_texts(source: str, name: str, column: Sequence[Any]) -> None:
    _check_unicode(source, name, column)
    for index, text in enumerate(column):
        if reason := why_unfit(text):
            raise DataError(f"{source}, {row_name(index)}: {reason}; leave that row out")


def _is_file_name(source: str) -> bool:
    """Whether `source` is meant as a path. What could also be a dataset's id is one only if that file exists."""
    return bool(format_of(source)[0]) or Path(source).is_file() or not _HUB_ID.fullmatch(source)


def _read_file(path: Path) -> _Table:
    if path.is_dir():
        raise DataError(f"{path} is a folder; pass one of its files, or a dataset's id on the Hub")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    file_format, compression = format_of(path.name)
    if not file_format:
        raise DataError(f"{path}: a {path.suffix or 'file without ending'} cannot be read; use {', '.join(FORMATS)}")
    try:
        return _whole(open_rows(path, file_format, compression))
    except DAMAGE as error:
        raise DataError(f"{path} cannot be read: {first_line(error)}") from error


def _whole(file: RowFile) -> _Table:
    """All rows; ValueError for one that is not as it should be."""
    columns: dict[str, list[Any]] = {name: [] for name in file.columns or ()}
    read = 0
    for window in file.windows:
        for i, error in enumerate(window.errors):
            if error is not None:
                raise ValueError(f"{row_name(read + i)} {error}")
        for row in window.rows if file.columns is None else ():
            for name in row:
                columns.setdefault(name, [None] * read)
        for name, cells in columns.items():
            cells += window.column(name)
        read += len(window)
    return _Table(columns, _names_in(file.schema))


def _names_in(schema: pyarrow.Schema | None) -> dict[str, list[str]]:
    """Names of classes, in a parquet file that was written by `datasets`."""
    if schema is None or b"huggingface" not in (schema.metadata or {}):
        return {}
    from datasets import Features

    return _class_names(Features.from_arrow_schema(schema))


def _read_hub(name: str, config: str | None, split: str) -> _Table:
    from datasets import load_dataset  # a second of imports that files do not need

    shadow = Path(name).is_dir()  # `load_dataset` would take a folder of that name for the dataset
    try:
        rows = load_dataset(f"hf://datasets/{name}" if shadow else name, config, split=split)
    except Exception as error:  # network, name, config and split each raise their own class
        hint = f" (the folder {name} is not read; pass one of its files)" if shadow else ""
        raise DataError(f"dataset {name!r} (config {config!r}, split {split!r}): {first_line(error)}{hint}") from error
    return _Table({key: list(rows[key]) for key in rows.column_names}, _class_names(rows.features))


def _class_names(features: Mapping[str, Any]) -> dict[str, list[str]]:
    from datasets import ClassLabel

    return {key: feature.names or [] for key, feature in features.items() if isinstance(feature, ClassLabel)}


def _column(table: _Table, wanted: str | None, usual: Sequence[str], role: str) -> str:
    candidates = [wanted] if wanted is not None else list(usual)
    for name in candidates:
        if name in table.columns:
            return name
    raise DataError(
        f"no {role} column {' or '.join(map(repr, candidates))}; the columns are "
        f"{some(table.columns)} (choose with {role}_column=)"
    )


def why_no_text(value: Any) -> str | None:
    """Why no tokenizer can read it; None for a text."""
    if not isinstance(value, str):
        return f"{shown(value)}, not a text"
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return f"{value[error.start]!r} at character {error.start + 1}, a lone surrogate, which is no Unicode text"
    return None


def why_unfit(text: str) -> str | None:
    """Why a text is none that a model should answer; None for others."""
    if not text.strip():
        return "the text is empty"
    if len(text) > MOST_CHARACTERS:
        return f"the text has {len(text):,} characters, and {MOST_CHARACTERS:,} are the most"
    return None
