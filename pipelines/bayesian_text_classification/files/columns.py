"""Write in-memory columns of equal length to one file."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow

from ..pipeline.errors import BayesianTextClassificationError
from ..wording import first_line
from .disk import staged_beside
from .formats import format_of
from .readers import Window
from .writers import writer_for

COLUMN_FORMATS = (".csv", ".jsonl", ".parquet")  # that `write_columns` can write


class ColumnsError(BayesianTextClassificationError):
    """The columns cannot be written. The message is one line for the user."""


def write_columns(path: str, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write columns of equal length to a .csv, .jsonl or .parquet file, atomically.

    Raises:
        ColumnsError: The path has another extension or is not a regular file, its folder does not exist or is not
            writable, or the format cannot hold the cells.
    """
    file_format = _checked_format(path)
    try:
        with staged_beside(path) as (staged, target):
            table = {name: list(values) for name, values in columns.items()}
            types = pyarrow.table(table).schema if file_format == ".parquet" else None
            rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
            writer = writer_for(file_format, "", list(columns), types, pyarrow.schema([]))
            staged.write_bytes(writer.header() + writer.block(Window(rows, [None] * len(rows)), [{}] * len(rows)))
            writer.finish(staged, target)
    except OSError as error:
        raise ColumnsError(f"{path} cannot be written: {error.strerror or error}") from error
    except (TypeError, ValueError, OverflowError, pyarrow.ArrowException) as error:
        raise ColumnsError(f"{path} cannot hold these columns: {first_line(error)}") from error


def check_can_write(path: str) -> None:
    """Raise `ColumnsError` before the work if `write_columns` could not write to this path."""
    _checked_format(path)
    try:
        with staged_beside(path):
            pass
    except OSError as error:
        raise ColumnsError(f"{path} cannot be written: {error.strerror or error}") from error


def _checked_format(path: str) -> str:
    """The format of a path. Raises `ColumnsError` if `write_columns` cannot write it, or would replace a folder."""
    file_format, compression = format_of(path)
    if file_format not in COLUMN_FORMATS or compression:
        ending = Path(path).suffix or "extensionless"
        raise ColumnsError(f"{path}: cannot write {ending} files; use {', '.join(COLUMN_FORMATS)}")
    if os.path.exists(path) and not os.path.isfile(path):
        raise ColumnsError(f"{path} exists but is not a regular file; choose another output file")
    return file_format
