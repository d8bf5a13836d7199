"""Rows of text files and tables of any size, a window at a time; what is wrong with a row is said beside it.

Nothing is held but the window, whatever the file holds: a row without end is cut, and compressed files are unpacked as
they are read.
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
TEXT = "text"  # what the lines of a plain text file are called

_WINDOW_CHARACTERS = 2**26  # of a window's lines together: it is closed early where rows are huge


_COMPRESSIONS: dict[str, Callable[[Any], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": lambda raw: pyarrow.CompressedInputStream(pyarrow.PythonFile(raw, "r"), "zstd"),
}
TEXT_COLUMNS = (TEXT, "sentence")  # where texts are looked for


@dataclass(frozen=True)
class Window:
    """Consecutive rows.

    Attributes:
        rows: their cells by column; an Arrow table where the file is one, so that no type is lost.
        errors: for each row why it could not be read as it stands, None where it could.
    """

    rows: list[dict[str, Any]] | pyarrow.Table
    errors: list[str | None]

    def __len__(self) -> int:
        return len(self.errors)

    def last(self, count: int) -> "Window":
        """Its last rows."""
        start = len(self) - count
        rows = self.rows[start:] if isinstance(self.rows, list) else self.rows.slice(start)
        return Window(rows, self.errors[start:])

    def apart_from(self, names: Sequence[str]) -> "Window":
        """With an error for each row that has a field of one of these names itself, which other columns will have."""
        if not isinstance(self.rows, list):
            return self
        errors = [
            error or next((_taken(name, row[name]) for name in names if name in row), None)
            for row, error in zip(self.rows, self.errors, strict=True)
        ]
        return Window(self.rows, errors)

    def column(self, name: str) -> list[Any]:
        """The cells of a column; None where a row has none. Text of a table that is not UTF-8 comes as bytes."""
        if isinstance(self.rows, list):
            return [row.get(name) for row in self.rows]
        return [decoded(cell) if isinstance(cell, bytes) else cell for cell in cells_of(self.rows.column(name))]

    def as_dicts(self) -> list[dict[str, Any]]:
        """The rows as Python has them."""
        if isinstance(self.rows, list):
            return self.rows
        columns = {name: cells_of(self.rows.column(name)) for name in self.rows.column_names}
        return [{name: cells[i] for name, cells in columns.items()} for i in range(self.rows.num_rows)]


@dataclass(frozen=True)
class RowFile:
    """A file that was opened.

    Attributes:
        columns: names in their order; None where each row has its own (.jsonl).
        windows: its rows, of which at most `WINDOW` at a time. To be read once.
        done: the share of the file that has been read, from 0 to 1; None where its end is not known.
        schema: of a parquet file.
    """

    columns: list[str] | None
    windows: Iterator[Window]
    done: Callable[[], float | None]
    schema: pyarrow.Schema | None = None


def open_rows(source: Path | BinaryIO, file_format: str, compression: str = "") -> RowFile:
    """Open a file for reading in constant memory.

    Args:
        source: a path, or a stream of bytes.
        file_format: one of `FORMATS`: .csv is quoted as usual, .tsv not at all, a .jsonl line is an object, .txt a
            text.
        compression: one of `COMPRESSIONS`, or "".

    Raises:
        OSError: it cannot be opened.
        ValueError: what it holds is no such file, or names a column twice. A damaged archive or parquet file may also
            fail later, while it is read, with one of `DAMAGE`.
    """
    if file_format == ".parquet":
        if not isinstance(source, Path) or compression:
            raise ValueError("a parquet file is read by its name, as it is; compression is part of its format")
        return _open_parquet(source)
    raw = source.open("rb") if isinstance(source, Path) else source
    size = source.stat().st_size if isinstance(source, Path) else None
    stream = _COMPRESSIONS[compression](raw) if compression else raw
    lines = Lines(io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="\n"))

    def done() -> float | None:
        if not size:
            return None
        return 1.0 if raw.closed else min(raw.tell() / size, 1.0)

    if file_format in (".csv", ".tsv"):
        header, rows = _csv_rows(lines, quoted=file_format == ".csv")
        return RowFile(header, _windows(rows, lines), done)
    if file_format == ".jsonl":
        return RowFile(None, _windows(_jsonl_rows(lines), lines), done)
    return RowFile([TEXT], _windows(_txt_rows(lines), lines), done)


# What reading a damaged file raises.
DAMAGE = (OSError, EOFError, ValueError, lzma.LZMAError, csv.Error, pyarrow.ArrowException)
_Row = tuple[dict[str, Any], str | None]


def _csv_rows(lines: Lines, *, quoted: bool) -> tuple[list[str], Iterator[_Row]]:
    dialect: dict[str, Any] = {} if quoted else {"delimiter": "\t", "quoting": csv.QUOTE_NONE}

    def following(*, empty: bool = False) -> list[str] | None:
        """The next row, one that is not empty unless it is asked for; None at the end."""
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
        raise ValueError(f"its header is not csv: {error}") from error
    if lines.problem:
        raise ValueError(f"its header {lines.problem}")
    refuse_twins(header)
    alone = not quoted and len(header) == 1  # then an empty line is an empty cell

    def rows() -> Iterator[_Row]:
        while True:
            try:
                cells = following(empty=alone)
            except csv.Error as error:
                lines.give_back()  # a quote that is not closed spoils its own line, not all that follow
                yield dict.fromkeys(header, ""), f"is not csv: {error}; it begins {beginning(lines.raw)}"
                continue
            if cells is None:
                return
            problem = lines.problem
            if len(cells) != len(header):
                fields = f"has {len(cells)} field{'s' * (len(cells) != 1)} and the header has {len(header)}"
                problem = fields if problem is None else f"{problem}; it {fields}"
                if more := cells[len(header) :]:
                    problem += f"; behind them {beginning(','.join(more))}"
                cells = [*cells, *[""] * len(header)][: len(header)]
            yield dict(zip(header, cells, strict=True)), problem

    return header, rows()


def _jsonl_rows(lines: Lines) -> Iterator[_Row]:
    """JSON objects, one a line."""
    lines.begin()
    for line in lines:
        if line.strip():  # `splitlines` would also part at U+2028 inside a text
            yield _json_row(line, lines.problem)
        lines.begin()


def _json_row(line: str, problem: str | None) -> _Row:
    try:
        found = json.loads(line, object_pairs_hook=_json_object)
    except json.JSONDecodeError as error:
        why = f"is not JSON: {error.msg} at character {error.pos + 1}"
    except RecursionError:
        why = "is nested too deeply"
    except ValueError as error:  # a key twice, a number of thousands of digits
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
    with path.open("rb"):  # OSError, as of other files
        pass
    try:
        file = pyarrow.parquet.ParquetFile(path, buffer_size=2**20)
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from error
    names = file.schema_arrow.names
    refuse_twins(names)
    total, read = file.metadata.num_rows, 0
    size = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
    most = max(
        min(WINDOW, _WINDOW_CHARACTERS * total // max(size, 1)), 1
    )  # rows of a window: fewer where they are huge

    def windows() -> Iterator[Window]:
        nonlocal read
        for batch in file.iter_batches(batch_size=most):
            read += batch.num_rows
            if batch.num_rows:
                yield Window(pyarrow.Table.from_batches([batch]), [None] * batch.num_rows)

    return RowFile(names, windows(), lambda: read / max(total, 1), file.schema_arrow)


def _taken(name: str, value: Any) -> str:
    return (
        f"a field of its own has the name of one that is added ({name!r}, with {beginning(str(value))}); a prefix "
        "names those apart"
    )


def refuse_twins(names: Sequence[str]) -> None:
    """ValueError where a name stands twice."""
    twins = [name for name, count in Counter(names).items() if count > 1]
    if twins:
        raise ValueError(f"it has several columns {shown_name(twins[0])}, and only one can be meant")
