"""Missing columns of files, reported before the package is imported, which takes seconds."""

import functools
import glob
import importlib
import os
import sys
from collections.abc import Callable, Collection
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

from .console import fail

_PACKAGE, _WITHOUT_TORCH = "bayesian_text_classification", "bayesian_text_classification_without_torch"


@functools.cache
def without_torch(name: str) -> Any:
    """A module of the package, imported under another name and without the `__init__` files, which import torch."""
    found = find_spec(_PACKAGE)
    assert found is not None and found.origin is not None
    root = Path(found.origin).parent
    for folder in (root, *(path.parent for path in root.glob("*/__init__.py"))):
        package = ModuleType(".".join([_WITHOUT_TORCH, *folder.relative_to(root).parts]))
        package.__path__ = [str(folder)]
        sys.modules.setdefault(package.__name__, package)
    return importlib.import_module(f"{_WITHOUT_TORCH}.{name}")


def check_labeled(
    source: str | None, text_column: str | None, text_pair_column: str | None, label_column: str | None
) -> None:
    """Stop if a file of labeled texts lacks a column."""
    given = text_column, text_pair_column, label_column
    _check(source, lambda name, found: without_torch("loading.columns").labeled_columns(name, found, *given))


def check_unlabeled(source: str | None, text_column: str | None, text_pair_column: str | None) -> None:
    """Stop if a file of texts lacks a column."""
    given = text_column, text_pair_column
    _check(source, lambda name, found: without_torch("loading.columns").unlabeled_column(name, found, *given))


def _check(source: str | None, choose: Callable[[str, Collection[str]], Any]) -> None:
    """Stop with the refusal of `choose` for the columns of a file. Everything else is reported when it is loaded."""
    if source is None or not os.path.isfile(source):
        return
    file_format, compression = without_torch("files.formats").format_of(source)
    if not file_format:
        return
    readers, names, refusal = without_torch("files.readers"), dict[str, None](), ""
    try:
        file = readers.open_rows(Path(source), file_format, compression)
        for window in file.windows:  # each row of .jsonl may have further columns
            if any(window.errors):
                return
            names |= dict.fromkeys(file.columns or (name for row in window.rows for name in row))
            refusal = _refusal(choose, source, names)
            if not refusal or file.columns is not None:
                break
    except readers.DAMAGE:
        return
    if refusal and names:
        fail(refusal)


def _refusal(choose: Callable[[str, Collection[str]], Any], source: str, names: Collection[str]) -> str:
    try:
        choose(source, names)
    except ValueError as error:
        return str(error)
    return ""


def check_rows(
    source: str | None, input_format: str | None, text_column: str | None, text_pair_column: str | None
) -> None:
    """Stop if a file of rows, or the first one that fits a pattern, lacks a column of texts."""
    if source is None or source == "-":
        return
    name = source if os.path.exists(source) else min(glob.glob(source, recursive=True), default="")
    if not os.path.isfile(name):
        return
    sources, rules = without_torch("files.sources"), without_torch("files.text_columns")
    try:
        file = sources.source_of(name, input_format)
        reading = sources.Reading(file)
        columns = rules.names_in(reading, next(reading.windows(), None))
    except ValueError:  # reported when it is read
        return
    try:
        rules.text_columns(file, columns, text_column, text_pair_column)
    except ValueError as error:
        fail(str(error))
