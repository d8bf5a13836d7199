"""Load labeled texts from a file, a dataset on the Hub, or those that ship with the package."""

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow

from ..embedded import EMBEDDED_TEXTS, embedded_texts
from ..files.formats import FORMATS, format_of
from ..files.readers import DAMAGE, RowFile, open_rows, pairs_of
from ..pipeline.inputs import halves_of_rows, shown, text_hash, text_key
from ..wording import first_line, row_name
from .columns import labeled_columns, unlabeled_column
from .labels import DataError, label_ids, label_lists, yes_or_no

HUB_SPLIT = "validation"  # default split of a dataset on the Hub

MOST_CHARACTERS = 1_000_000  # per text, because a tokenizer holds all tokens in memory before it truncates
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


@dataclass(frozen=True)
class LabeledTexts:
    """Texts and their true labels.

    Attributes:
        name: Source of the texts.
        texts: N texts, or pairs in the form `{"text": ..., "text_pair": ...}`.
        labels: N class ids of the model; for independent labels, N sets of them.
        kinds: N names of the kinds of texts if the data has a column `kind`, else empty. The report has an error rate
            for each kind.
        text_column: Column that the texts were read from, or None.
        label_column: Column that the labels were read from, or None.
        split: Split of a dataset on the Hub, or None.
        text_pair_column: Column that second texts were read from, or None.
        part_of: Number of texts of which these are a random part, or None.
    """

    name: str
    texts: list[Any]
    labels: list[Any]
    kinds: list[str]
    text_column: str | None = None
    label_column: str | None = None
    split: str | None = None
    text_pair_column: str | None = None
    part_of: int | None = None

    @property
    def size(self) -> str:
        """How many texts these are, in words: "1 text", or "a random 450 of 3,000 texts"."""
        count, whole = len(self.texts), self.part_of
        if whole is None:
            return f"{count:,} text{'s' * (count != 1)}"
        return f"a random {count:,} of {whole:,} texts"

    def sample(self, count: int) -> "LabeledTexts":
        """A random part of so many texts, always the same one, in their order; with kinds, equal parts of each kind.

        All texts if there are no more. A kind that has too few texts leaves its place to the others.
        """
        if count >= len(self.texts):
            return self
        random = np.random.default_rng(0)
        kinds = np.asarray(self.kinds or [""] * len(self.texts))
        # The k-th of each kind in a random order comes before all k+1-st ones.
        turn = np.empty(len(kinds))
        for name in np.unique(kinds):
            turn[random.permutation(np.flatnonzero(kinds == name))] = np.arange((kinds == name).sum())
        rows = np.sort(np.lexsort((random.random(len(kinds)), turn))[:count]).tolist()
        return replace(self._rows(rows), part_of=len(self.texts) if self.part_of is None else self.part_of)

    def halves(self) -> "tuple[LabeledTexts, LabeledTexts]":
        """Two parts, each with half of the rows, chosen by their hash. Copies of a text are in both."""
        half = halves_of_rows(list(map(text_key, self.texts)))
        first, second = (self._rows(np.flatnonzero(which).tolist()) for which in (half, ~half))
        return first, second

    def without(self, hashes: Collection[int]) -> "LabeledTexts":
        """The rows whose texts have none of these hashes (`text_hash`), such as those of `student.distilled_on`."""
        return self._rows([i for i, text in enumerate(self.texts) if text_hash(text_key(text)) not in hashes])

    def _rows(self, rows: Sequence[int]) -> "LabeledTexts":
        texts, labels = ([values[i] for i in rows] for values in (self.texts, self.labels))
        kinds = [self.kinds[i] for i in rows] if self.kinds else []
        return replace(self, texts=texts, labels=labels, kinds=kinds)


@dataclass(frozen=True)
class Texts:
    """Texts without labels, and their other columns.

    Attributes:
        name: Source of the texts.
        texts: N texts, or pairs in the form `{"text": ..., "text_pair": ...}`.
        columns: All columns by name, including that of the texts.
    """

    name: str
    texts: list[Any]
    columns: dict[str, list[Any]]


def _path(source: Any) -> str:
    """The name of a file or dataset. Raises DataError for a dataset in memory."""
    if not isinstance(source, (str, os.PathLike)):
        raise DataError(
            f"pass a file name or the id of a dataset, not a {type(source).__name__}; texts in memory need no loading: "
            'call, for example, classifier.calibrate(list(data["text"]), list(data["label"]))'
        )
    return os.fspath(source)


def load_labeled_texts(
    source: str | os.PathLike[str],
    id2label: Mapping[int, str],
    *,
    config: str | None = None,
    split: str | None = None,
    text_column: str | None = None,
    text_pair_column: str | None = None,
    label_column: str | None = None,
    multi_label: bool = False,
    max_texts: int | None = None,
) -> LabeledTexts:
    """Read `source` and translate its labels to the model's class ids.

    Args:
        source: A .csv (standard quoting), .tsv (no quoting), .jsonl or .parquet file, the id of a dataset on the Hub,
            or the name of embedded texts: "reviews" or "hard".
        id2label: Classes of the model. Labels may be ids or names; for a model with one output, 0 or 1. If the dataset
            and the model share class names, the dataset's ids are mapped by name, whatever their order.
        config: Configuration of a dataset on the Hub.
        split: Split of a dataset on the Hub. Default: `validation`.
        text_column: Column of the texts. Default: `text`, else `sentence`.
        text_pair_column: Column of the second texts, for a model of pairs such as NLI. Default: single texts.
        label_column: Column of the labels. Default: `label`, else `labels`.
        multi_label: Whether several labels may apply to a text. A cell is then a list of ids or names, a string of
            them (separated by commas, or a JSON list), or a list of one 0 or 1 for each label.
        max_texts: Take a random part of so many texts if there are more; see `LabeledTexts.sample`.

    Raises:
        DataError: There is no such file, dataset, column or label, or there are no rows; a row is incomplete; a text
            is empty, too long or not valid Unicode; or an option does not apply to this source.
    """
    source = _path(source)
    table, split = _read(source, config, split)
    text_column, label_column = labeled_columns(source, table.columns, text_column, text_pair_column, label_column)
    texts = _items(source, table, text_column, text_pair_column)
    kinds = [str(name) for name in table.columns.get("kind", [])]
    _check_unicode(source, "kind", kinds)
    read: Callable[..., list[Any]] = label_ids
    if multi_label:
        read = label_lists
    elif len(id2label) == 1:
        read = yes_or_no
    labels = read(table.columns[label_column], id2label, source, class_names=table.class_names.get(label_column, []))
    if multi_label:
        labels = [set(one) for one in labels]  # which cannot be mistaken for a row of zeros and ones
    data = LabeledTexts(source, texts, labels, kinds, text_column, label_column, split, text_pair_column)
    return data if max_texts is None else data.sample(max_texts)


def load_texts(
    source: str | os.PathLike[str],
    *,
    config: str | None = None,
    split: str | None = None,
    text_column: str | None = None,
    text_pair_column: str | None = None,
) -> Texts:
    """Read texts without labels. Sources, options and errors are those of `load_labeled_texts`."""
    source = _path(source)
    table, _ = _read(source, config, split)
    text_column = unlabeled_column(source, table.columns, text_column, text_pair_column)
    return Texts(source, _items(source, table, text_column, text_pair_column), table.columns)


@dataclass(frozen=True)
class _Table:
    """Columns by name, and the class names of columns of ids that have them."""

    columns: dict[str, list[Any]]
    class_names: dict[str, list[str]] = field(default_factory=dict)


def _read(source: str, config: str | None, split: str | None) -> tuple[_Table, str | None]:
    """The table, and the split if it is a dataset on the Hub."""
    if source in EMBEDDED_TEXTS and not Path(source).exists():
        for option, value in (("config", config), ("split", split)):
            if value is not None:
                raise DataError(f"{option}={value} is for datasets on the Hub, and {source} is embedded; leave it out")
        table = _read_file(embedded_texts(source))
    elif _is_file_name(source):
        for option, value in (("config", config), ("split", split)):
            if value is not None:
                raise DataError(f"{option}={value} is for datasets on the Hub, and {source} is a file; leave it out")
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


def _items(source: str, table: _Table, text_column: str, text_pair_column: str | None) -> list[Any]:
    """The texts, or pairs of texts. Raises DataError for one that cannot be classified."""
    texts = table.columns[text_column]
    _check_texts(source, text_column, texts)
    if text_pair_column is None:
        return texts
    others = table.columns[text_pair_column]
    _check_texts(source, text_pair_column, others, "the second text")
    return pairs_of(texts, others)


def _check_texts(source: str, name: str, column: Sequence[Any], what: str = "the text") -> None:
    _check_unicode(source, name, column)
    for index, text in enumerate(column):
        if reason := why_unfit(text):
            raise DataError(f"{source}, {row_name(index)}: {reason.replace('the text', what, 1)}; remove that row")


def _is_file_name(source: str) -> bool:
    """Whether `source` is a path. If it could also be the id of a dataset, it is a path only if the file exists."""
    return bool(format_of(source)[0]) or Path(source).is_file() or not _HUB_ID.fullmatch(source)


def _read_file(path: Path) -> _Table:
    if path.is_dir():
        raise DataError(f"{path} is a folder; pass one of its files, or the id of a dataset on the Hub")
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    file_format, compression = format_of(path.name)
    if not file_format:
        raise DataError(f"{path}: cannot read {path.suffix or 'extensionless'} files; use {', '.join(FORMATS)}")
    try:
        return _whole(open_rows(path, file_format, compression))
    except DAMAGE as error:
        raise DataError(f"{path} cannot be read: {first_line(error)}") from error


def _whole(file: RowFile) -> _Table:
    """Read all rows. Raises ValueError for a bad one."""
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
    """The class names in a parquet file that was written by `datasets`."""
    if schema is None or b"huggingface" not in (schema.metadata or {}):
        return {}
    from datasets import Features

    return _class_names(Features.from_arrow_schema(schema))


def _read_hub(name: str, config: str | None, split: str) -> _Table:
    from datasets import load_dataset  # takes a second, and files do not need it

    shadow = Path(name).is_dir()  # `load_dataset` would load a folder of that name instead
    try:
        rows = load_dataset(f"hf://datasets/{name}" if shadow else name, config, split=split)
    except Exception as error:  # network, name, config and split each raise their own class
        hint = f" (the folder {name} is not read; pass one of its files)" if shadow else ""
        raise DataError(f"dataset {name!r} (config {config!r}, split {split!r}): {first_line(error)}{hint}") from error
    return _Table({key: list(rows[key]) for key in rows.column_names}, _class_names(rows.features))


def _class_names(features: Mapping[str, Any]) -> dict[str, list[str]]:
    from datasets import ClassLabel

    inner = {key: getattr(feature, "feature", feature) for key, feature in features.items()}  # of a list of labels
    return {key: feature.names or [] for key, feature in inner.items() if isinstance(feature, ClassLabel)}


def why_no_text(value: Any) -> str | None:
    """Why a value is not a valid text, or None if it is."""
    if not isinstance(value, str):
        return f"{shown(value)}, not a string"
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return f"{value[error.start]!r} at character {error.start + 1}, a lone surrogate, which is not valid Unicode"
    return None


def why_unfit(text: str) -> str | None:
    """Why a model should not classify a text, or None if it should."""
    if not text.strip():
        return "the text is empty"
    if len(text) > MOST_CHARACTERS:
        return f"the text has {len(text):,} characters; the limit is {MOST_CHARACTERS:,}"
    return None
