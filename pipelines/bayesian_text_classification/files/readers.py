"""Read rows of text files and tables of any size, one window at a time. Bad rows come with an error.

Only one window is in memory, whatever the file contains: endless rows are cut, and compressed files are decompressed
as they are read.
"""

import bz2
import csv
import gzip
import io
import json
import lzma
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow
import pyarrow.compute
import pyarrow.parquet

from ..wording import shown_name
from .arrow_cells import cells_of, decoded
from .text_lines import CsvLines, Lines, beginning, long_fields

WINDOW = 1024  # rows
TEXT = "text"  # column name for the lines of a plain text file

_WINDOW_CHARACTERS = 2**26  # per window, which ends early if rows are huge


_COMPRESSIONS: dict[str, Callable[[Any], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": lambda raw: pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, "r"), "zstd"),
}
TEXT_COLUMNS = (TEXT, "sentence")  # columns that may hold the texts, in order of preference


@dataclass(frozen=True)
class Window:
    """Consecutive rows.

    Attributes:
        rows: Cells by column. Parquet rows are an Arrow table, which keeps their types.
        errors: For each row, why it could not be read correctly, or None.
    """

    rows: list[dict[str, Any]] | pyarrow.Table
    errors: list[str | None]

    def __len__(self) -> int:
        return len(self.errors)

    def last(self, count: int) -> "Window":
        """The last `count` rows."""
        start = len(self) - count
        rows = self.rows[start:] if isinstance(self.rows, list) else self.rows.slice(start)
        return Window(rows, self.errors[start:])

    def apart_from(self, names: Sequence[str]) -> "Window":
        """The window, with an error for each row that already has a field with the name of an added column."""
        if not isinstance(self.rows, list):
            return self
        errors = [
            error or next((_taken(name, row[name]) for name in names if name in row), None)
            for row, error in zip(self.rows, self.errors, strict=True)
        ]
        return Window(self.rows, errors)

    def column(self, name: str) -> list[Any]:
        """The cells of a column, or None where a row has none. Table cells that are not valid UTF-8 are bytes."""
        if isinstance(self.rows, list):
            return [row.get(name) for row in self.rows]
        return [decoded(cell) if isinstance(cell, bytes) else cell for cell in cells_of(self.rows.column(name))]

    def as_dicts(self) -> list[dict[str, Any]]:
        """The rows as Python objects."""
        if isinstance(self.rows, list):
            return self.rows
        columns = {name: cells_of(self.rows.column(name)) for name in self.rows.column_names}
        return [{name: cells[i] for name, cells in columns.items()} for i in range(self.rows.num_rows)]


@dataclass(frozen=True)
class TextColumns:
    """The columns that hold the texts of rows.

    Attributes:
        text: Column of the texts.
        pair: Column of their second texts, for pairs of texts; None for single texts.
    """

    text: str
    pair: str | None = None

    def of(self, window: Window) -> list[Any]:
        """The text of each row, or its pair in the form that a call takes."""
        texts = window.column(self.text)
        return texts if self.pair is None else pairs_of(texts, window.column(self.pair))


def pairs_of(texts: Sequence[Any], others: Sequence[Any]) -> list[dict[str, Any]]:
    """Pairs of texts in the form that a call takes."""
    return [{"text": text, "text_pair": other} for text, other in zip(texts, others, strict=True)]


@dataclass(frozen=True)
class RowFile:
    """An open file.

    Attributes:
        columns: Column names in order, or None if each row has its own (.jsonl).
        windows: Rows, at most `WINDOW` at a time. Can be read once.
        done: Returns the share of the file that has been read, from 0 to 1, or None if its size is unknown.
        schema: Schema of a parquet file.
    """

    columns: list[str] | None
    windows: Iterator[Window]
    done: Callable[[], float | None]
    schema: pyarrow.Schema | None = None


def open_rows(source: Path | BinaryIO, file_format: str, compression: str = "") -> RowFile:
    """Open a file for reading in constant memory.

    Args:
        source: Path, or stream of bytes.
        file_format: One of `FORMATS`. .csv has standard quoting and .tsv has none. A line of .jsonl is an object, and
            a line of .txt is a text.
        compression: One of `COMPRESSIONS`, or "".

    Raises:
        OSError: The file cannot be opened.
        ValueError: The content does not match the format, or a column name is duplicated. A damaged archive or
            parquet file may also fail later, while it is read, with one of `DAMAGE`.
    """
    if file_format == ".parquet":
        if not isinstance(source, Path) or compression:
            raise ValueError("a parquet file must be read by its path, uncompressed; the format compresses internally")
        return _open_parquet(source)
    raw = source.open("rb") if isinstance(source, Path) else source
    size = source.stat().st_size if isinstance(source, Path) else None
    stream = _COMPRESSIONS[compression](raw) if compression else raw
    lines = Lines(io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="\n"))

    def done() -> float | None:
        if not size:
            return None
        return 1.0 if raw.closed else min(raw.tell() / size, 1.0)

    columns: list[str] | None
    if file_format in (".csv", ".tsv"):
        columns, rows = _csv_rows(lines, quoted=file_format == ".csv")
    elif file_format == ".jsonl":
        columns, rows = None, _jsonl_rows(lines)
    else:
        columns, rows = [TEXT], _txt_rows(lines)
    windows = _windows(rows, lines)
    return RowFile(columns, _closing(raw, windows) if isinstance(source, Path) else windows, done)


# Exceptions from reading a damaged file.
DAMAGE = (OSError, EOFError, ValueError, lzma.LZMAError, csv.Error, pyarrow.ArrowException)
_Row = tuple[dict[str, Any], str | None]


def _csv_rows(lines: Lines, *, quoted: bool) -> tuple[list[str], Iterator[_Row]]:
    dialect: dict[str, Any] = {} if quoted else {"delimiter": "\t", "quoting": csv.QUOTE_NONE}

    def following(*, empty: bool = False) -> list[str] | None:
        """The next row, or None at the end. Skips empty rows unless `empty`."""
        while True:
            lines.begin()
            with long_fields:
                cells = next(csv.reader(CsvLines(lines), strict=True, **dialect), None)
            if cells or cells is None:
                return cells
            if empty:
                return [""]

    try:
        header = following() or []
    except csv.Error as error:
        raise ValueError(f"its header is not valid csv: {error}") from error
    if lines.problem:
        raise ValueError(f"its header {lines.problem}")
    refuse_twins(header)
    alone = not quoted and len(header) == 1  # an empty line is then an empty cell

    def rows() -> Iterator[_Row]:
        while True:
            try:
                cells = following(empty=alone)
            except csv.Error as error:
                lines.give_back()  # an unclosed quote spoils its own line, not the following ones
                yield dict.fromkeys(header, ""), f"is not valid csv: {error}; it begins {beginning(lines.raw)}"
                continue
            if cells is None:
                return
            problem = lines.problem
            if len(cells) != len(header):
                fields = f"has {len(cells)} field{'s' * (len(cells) != 1)} but the header has {len(header)}"
                problem = fields if problem is None else f"{problem}; it {fields}"
                if more := cells[len(header) :]:
                    problem += f"; the rest is {beginning(','.join(more))}"
                cells = [*cells, *[""] * len(header)][: len(header)]
            yield dict(zip(header, cells, strict=True)), problem

    return header, rows()


def _jsonl_rows(lines: Lines) -> Iterator[_Row]:
    """JSON objects, one per line."""
    lines.begin()
    for line in lines:
        if line.strip():  # unlike `splitlines`, this does not split at U+2028 inside a text
            yield _json_row(line, lines.problem)
        lines.begin()


def _json_row(line: str, problem: str | None) -> _Row:
    try:
        found = json.loads(line, object_pairs_hook=_json_object)
    except json.JSONDecodeError as error:
        why = f"is not valid JSON: {error.msg} at character {error.pos + 1}"
    except RecursionError:
        why = "is nested too deeply"
    except ValueError as error:  # a duplicate key, or a number with thousands of digits
        why = f"cannot be read: {error}"
    else:
        if isinstance(found, dict):
            return found, problem
        why = "is not a JSON object"
    return {}, f"{problem or why}; it begins {beginning(line)}"


def _json_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    refuse_twins([name for name, _ in pairs])
    return dict(pairs)


def _txt_rows(lines: Lines) -> Iterator[_Row]:
    lines.begin()
    for line in lines:
        yield {TEXT: line.removesuffix("\n").removesuffix("\r")}, lines.problem
        lines.begin()


def _closing(file: BinaryIO, windows: Iterator[Window]) -> Iterator[Window]:
    """The windows. The file is closed after the last one, or when the caller wants no more."""
    with file:
        yield from windows


def _windows(rows: Iterable[_Row], lines: Lines) -> Iterator[Window]:
    cells: list[dict[str, Any]] = []
    errors: list[str | None] = []
    start = lines.read
    for row, error in rows:
        cells.append(row)
        errors.append(error)
        if len(cells) == WINDOW or lines.read - start >= _WINDOW_CHARACTERS:
            yield Window(cells, errors)
            cells, errors, start = [], [], lines.read
    if cells:
        yield Window(cells, errors)


def _open_parquet(path: Path) -> RowFile:
    with path.open("rb"):  # raises OSError, as for other files
        pass
    try:
        file = pyarrow.parquet.ParquetFile(path, buffer_size=2**20)
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from error
    names = file.schema_arrow.names
    refuse_twins(names)
    total, read = file.metadata.num_rows, 0
    size = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
    most = max(min(WINDOW, _WINDOW_CHARACTERS * total // max(size, 1)), 1)  # rows per window, fewer if they are huge

    def windows() -> Iterator[Window]:
        nonlocal read
        for batch in file.iter_batches(batch_size=most):
            read += batch.num_rows
            if batch.num_rows:
                yield Window(pyarrow.Table.from_batches([batch]), [None] * batch.num_rows)

    return RowFile(names, windows(), lambda: read / max(total, 1), file.schema_arrow)


def _taken(name: str, value: Any) -> str:
    return (
        f"the row already has a field with the name of an added column ({name!r}, with {beginning(str(value))}); "
        "choose a prefix for the added columns"
    )


def refuse_twins(names: Sequence[str]) -> None:
    """Raise ValueError if a name is duplicated."""
    twins = [name for name, count in Counter(names).items() if count > 1]
    if twins:
        raise ValueError(f"duplicate column name {shown_name(twins[0])}; names must be unique")
