"""Resolve an input name to a file, several files of one format, or stdin, and read it as one sequence of windows."""

import glob
import hashlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..pipeline.errors import BayesianTextClassificationError
from ..wording import first_line, some
from .formats import FORMATS, format_of, named_format
from .readers import DAMAGE, RowFile, Window, open_rows

STDIN = "-"
_CHUNK = 2**20  # bytes hashed at a time


class SourceError(BayesianTextClassificationError):
    """The input cannot be read. The message is one line for the user."""


@dataclass(frozen=True)
class Source:
    """Files with equal columns, or one stream.

    Attributes:
        file_format: One of `formats.FORMATS`.
        files: Files in reading order.
        stream: Stream to read if there are no files.
    """

    file_format: str
    files: tuple[Path, ...] = ()
    stream: BinaryIO | None = None

    @property
    def name(self) -> str:
        """The name of the first file, for messages."""
        return str(self.files[0]) if self.files else "stdin"

    def digests(self) -> dict[str, str]:
        """A hash of each file's bytes, whatever its name. Raises `SourceError` if a file cannot be read."""
        found = {}
        for number, path in enumerate(self.files, start=1):
            try:
                found["content of the input" + f", file {number}" * (len(self.files) > 1)] = _digest(path)
            except OSError as error:
                raise SourceError(f"{path} cannot be read: {error.strerror or error}") from error
        return found


class Reading:
    """Reads a source once.

    Attributes:
        columns: Column names in order, or None if each row has its own (.jsonl).
        schema: Schema of parquet files.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._read = 0  # files completed
        self._file = _opened(source, 0)
        self._sizes = [path.stat().st_size for path in source.files]
        self.columns, self.schema = self._file.columns, self._file.schema

    def windows(self) -> Iterator[Window]:
        """Yield all rows.

        Raises:
            SourceError: A file is damaged.
        """
        while True:
            rows = 0
            try:
                for window in self._file.windows:
                    rows += len(window)
                    yield window
            except DAMAGE as error:
                name = self._source.files[self._read] if self._source.files else self._source.name
                raise SourceError(f"{name} cannot be read after row {rows:,}: {first_line(error)}") from error
            self._read += 1
            if self._read >= len(self._source.files):
                return
            self._file = _opened(self._source, self._read)

    @property
    def done(self) -> float | None:
        """The share of all bytes that has been read, or None if it is unknown."""
        if not self._sizes or self._read == len(self._sizes):
            return None if not self._sizes else 1.0
        here = (self._file.done() or 0.0) * self._sizes[self._read]
        return (sum(self._sizes[: self._read]) + here) / max(sum(self._sizes), 1)


def source_of(name: str, input_format: str | None = None) -> Source:
    """Find the files that `name` refers to.

    Args:
        name: Path, pattern such as `data/*.csv` (read in alphabetical order), or "-" for stdin.
        input_format: "csv", "tsv", "jsonl", "parquet" or "txt". None uses the file extensions, and "txt" for stdin.

    Raises:
        SourceError: There is no such file, it cannot be read, or the files differ in format or columns.
        ValueError: The format is unknown.
    """
    input_format = None if input_format is None else named_format(input_format)
    if name == STDIN:
        if input_format == ".parquet":
            raise SourceError("a parquet file cannot be read from stdin: its index is at its end; pass a file name")
        if sys.stdin is None:
            raise SourceError("stdin is closed")
        return Source(input_format or ".txt", stream=sys.stdin.buffer)
    path = Path(name)
    if os.path.isdir(name):
        raise SourceError(f"{name} is a folder; pass its files, such as '{path / '*.csv'}'")
    # `os.path` because the methods of `Path` fail for names that no file can have.
    there = os.path.exists(name)
    files = (path,) if there else tuple(sorted(Path(found) for found in glob.glob(name, recursive=True)))
    if not files:
        raise SourceError(f"{name}: no such file")
    for path in files:
        if not path.is_file():
            raise SourceError(
                f"{path} exists but is not a regular file; to read a pipe, pass - and redirect it: < {path}"
            )
    formats = {input_format or format_of(path.name)[0]: path for path in files}
    if "" in formats:
        raise SourceError(f"{formats['']}: unknown file extension; use {', '.join(FORMATS)}, or set input_format=")
    if len(formats) > 1:
        raise SourceError(
            f"{name} matches files of several formats, {', '.join(sorted(formats))}; pass one format at a time"
        )
    source = Source(next(iter(formats)), files)
    first = _opened(source, 0)
    for i in range(1, len(files)):
        other = _opened(source, i)
        if (other.columns, other.schema) != (first.columns, first.schema):
            raise SourceError(f"{files[i]} has different columns from {files[0]}: {_shown(other)}, not {_shown(first)}")
    return source


def _opened(source: Source, number: int) -> RowFile:
    path = source.files[number] if source.files else None
    try:
        if path is None:
            assert source.stream is not None
            return open_rows(source.stream, source.file_format)
        return open_rows(path, source.file_format, format_of(path.name)[1])
    except DAMAGE as error:
        reason = error.strerror or first_line(error) if isinstance(error, OSError) else first_line(error)
        raise SourceError(f"{path or source.name} cannot be read: {reason}") from error


def _shown(file: RowFile) -> str:
    if file.schema is not None:
        return ", ".join(f"{field.name!r} ({field.type})" for field in file.schema)
    return some(file.columns or ())


def _digest(path: Path) -> str:
    found = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            found.update(chunk)
    return found.hexdigest()
