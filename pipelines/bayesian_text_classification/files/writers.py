"""Rows as the bytes of a file, a block at a time: the header and the blocks, one behind the other, are the file."""

import bz2
import csv
import gzip
import io
import json
import lzma
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow
import pyarrow.parquet

from .disk import new_file, publish
from .readers import Window

MADE = ".made"  # behind the name of the blocks, until a parquet file is made of them
_GROUP_ROWS, _GROUP_BYTES = 2**16, 2**26  # of a row group of parquet, which is held in memory
Added = Sequence[Mapping[str, Any]]  # for each row the cells of the columns that are added to it

# Compressed blocks one behind the other are a compressed file, for each of these.
_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda block: gzip.compress(block, mtime=0),  # without the time: equal rows give equal bytes
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda block: bytes(pyarrow.compress(block, codec="zstd", asbytes=True)),
}


class Writer(Protocol):
    """Turns rows into bytes."""

    def header(self) -> bytes:
        """What stands before the first block."""

    def block(self, window: Window, added: Added) -> bytes:
        """The rows of a window, and what is added to each."""

    def finish(self, staged: Path, target: Path) -> None:
        """Make `target` of the file with the header and all blocks, which may be moved."""


def writer_for(
    file_format: str,
    compression: str,
    columns: Sequence[str] | None,
    schema: pyarrow.Schema | None,
    added: pyarrow.Schema,
) -> Writer:
    """The encoder for a format.

    Args:
        file_format: .csv, .tsv, .jsonl or .parquet.
        compression: one of `rows.COMPRESSIONS`, or "".
        columns: of the rows; None where each has its own, as only .jsonl can hold them.
        schema: types of these columns; None for text.
        added: names and types of the columns that are added.
    """
    if file_format == ".jsonl":
        return _Jsonl(compression, added.names)
    assert columns is not None
    if file_format == ".parquet":
        if schema is None:
            schema = pyarrow.schema([(name, pyarrow.string()) for name in columns])
        return _Parquet(schema, added)
    return _Csv(compression, columns, added.names, quoted=file_format == ".csv")


@dataclass(frozen=True)
class _Csv:
    compression: str
    columns: Sequence[str]
    added: Sequence[str]
    quoted: bool

    def header(self) -> bytes:
        return self._encoded([[*self.columns, *self.added]])

    def block(self, window: Window, added: Added) -> bytes:
        rows = zip(window.as_dicts(), added, strict=True)
        return self._encoded(
            [*(_cell(row.get(name)) for name in self.columns), *(self._flat(more.get(name)) for name in self.added)]
            for row, more in rows
        )

    def finish(self, staged: Path, target: Path) -> None:
        publish(staged, target)

    def _flat(self, value: Any) -> str:
        """A cell of ours; where nothing is quoted it may hold neither tabs nor ends of line."""
        return _cell(value) if self.quoted else " ".join(_cell(value).split())

    def _encoded(self, rows: Any) -> bytes:
        text = io.StringIO(newline="")
        if self.quoted:
            csv.writer(text).writerows(rows)
        else:
            text.writelines("\t".join(row) + "\n" for row in rows)
        return _COMPRESS[self.compression](text.getvalue().encode("utf-8", "replace"))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (dict, list)):
        return json.dumps(value, ensure_ascii=False, default=_json_cell)
    return str(value)


@dataclass(frozen=True)
class _Jsonl:
    compression: str
    added: Sequence[str]

    def header(self) -> bytes:
        return b""

    def block(self, window: Window, added: Added) -> bytes:
        rows = zip(window.as_dicts(), added, strict=True)
        lines = [_json({**row, **self._beside(row, more)}) for row, more in rows]
        return _COMPRESS[self.compression](b"".join(lines))

    def finish(self, staged: Path, target: Path) -> None:
        publish(staged, target)

    def _beside(self, row: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
        """What is added; what the row has under such a name stays, and only the error, which tells of it, is ours."""
        return {name: more.get(name) for name in self.added if name not in row or name == self.added[-1]}


def _json(row: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False, default=_json_cell).encode() + b"\n"
    except UnicodeEncodeError:  # half of a pair of surrogates stays what it was: an escape
        return json.dumps(row, default=_json_cell).encode() + b"\n"


def _json_cell(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


class _Parquet:
    """Blocks are record batches of an Arrow stream; the parquet file, whose index is at its end, is made of it last."""

    def __init__(self, schema: pyarrow.Schema, added: pyarrow.Schema) -> None:
        self._own = pyarrow.schema([field.with_type(_plain(field.type)) for field in schema])
        self._added = added
        self._schema = pyarrow.schema([*self._own, *added])
        # What parquet cannot hold is said before the work: ArrowException.
        pyarrow.parquet.write_table(self._schema.empty_table(), pyarrow.BufferOutputStream())

    def header(self) -> bytes:
        return bytes(self._schema.serialize())

    def block(self, window: Window, added: Added) -> bytes:
        rows = window.rows
        if isinstance(rows, list):
            rows = pyarrow.Table.from_pylist(rows, schema=self._own)
        arrays = [*rows.cast(self._own).columns, *added_columns(added, self._added)]
        table = pyarrow.Table.from_arrays(arrays, schema=self._schema).combine_chunks()
        return b"".join(bytes(batch.serialize()) for batch in table.to_batches())

    def finish(self, staged: Path, target: Path) -> None:
        made = staged.with_name(staged.name + MADE)
        with (
            pyarrow.OSFile(str(staged)) as file,
            pyarrow.ipc.open_stream(file) as stream,
            new_file(made, like=staged) as target_file,
            pyarrow.parquet.ParquetWriter(target_file, self._schema) as writer,
        ):
            for group in _groups(stream):
                writer.write_table(pyarrow.Table.from_batches(group, self._schema).combine_chunks())
        publish(made, target)
        staged.unlink()


def _groups(batches: Iterable[pyarrow.RecordBatch]) -> Iterator[list[pyarrow.RecordBatch]]:
    """Batches that make a row group."""
    group: list[pyarrow.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        group.append(batch)
        rows, size = rows + batch.num_rows, size + batch.nbytes
        if rows >= _GROUP_ROWS or size >= _GROUP_BYTES:
            yield group
            group, rows, size = [], 0, 0
    if group:
        yield group


def added_columns(added: Added, schema: pyarrow.Schema) -> list[pyarrow.Array]:
    """The columns of `schema`, from one mapping for each row."""
    return [pyarrow.array([row.get(field.name) for row in added], field.type) for field in schema]


def _plain(file_format: pyarrow.DataType) -> pyarrow.DataType:
    """Without a dictionary, which the batches of a stream would have to share."""
    types = pyarrow.types
    if types.is_dictionary(file_format):
        return _plain(file_format.value_type)
    if types.is_struct(file_format):
        return pyarrow.struct([field.with_type(_plain(field.type)) for field in file_format])
    if types.is_map(file_format):
        return pyarrow.map_(
            _plain(file_format.key_type), file_format.item_field.with_type(_plain(file_format.item_type))
        )
    if types.is_fixed_size_list(file_format):
        return pyarrow.list_(file_format.value_field.with_type(_plain(file_format.value_type)), file_format.list_size)
    for is_kind, make in ((types.is_list, pyarrow.list_), (types.is_large_list, pyarrow.large_list)):
        if is_kind(file_format):
            return make(file_format.value_field.with_type(_plain(file_format.value_type)))
    return file_format
