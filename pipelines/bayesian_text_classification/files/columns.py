"""Columns of equal length, held in memory, as one file."""

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

COLUMN_FORMATS = (".csv", ".jsonl", ".parquet")  # by `write_columns`


class ColumnsError(BayesianTextClassificationError):
    """The columns cannot be written; the message is one line for the user."""


def write_columns(path: str, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write columns of equal length to a .csv, .jsonl or .parquet file, whole or not at all.

    Raises:
        ColumnsError: another ending, a folder that does not exist or cannot be written to, or cells that the format
            does not know.
    """
    file_format = _kind_written(path)
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
    except (TypeError, ValueError, pyarrow.ArrowException) as error:
        raise ColumnsError(f"{path} cannot hold these columns: {first_line(error)}") from error


def check_can_write(path: str) -> None:
    """What is wrong with a file for `write_columns`, before the work: ColumnsError, as there."""
    _kind_written(path)
    try:
        with staged_beside(path):
            pass
    except OSError as error:
        raise ColumnsError(f"{path} cannot be written: {error.strerror or error}") from error


def _kind_written(path: str) -> str:
    file_format, compression = format_of(path)
    if file_format not in COLUMN_FORMATS or compression:
        ending = Path(path).suffix or "file without ending"
        raise ColumnsError(f"{path}: a {ending} cannot be written; use {', '.join(COLUMN_FORMATS)}")
    return file_format
