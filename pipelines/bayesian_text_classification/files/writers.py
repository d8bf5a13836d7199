"""Encode rows as the bytes of a file, one block at a time. The header and the blocks, concatenated, are the file."""

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

from .disk import new_file, replace_file
from .readers import Window

MADE = ".made"  # suffix of a parquet file while it is built from the blocks
_GROUP_ROWS, _GROUP_BYTES = 2**16, 2**26  # limits of a parquet row group, which is held in memory
Added = Sequence[Mapping[str, Any]]  # for each row, the cells of the added columns

# For each of these, concatenated compressed blocks are a valid compressed file.
_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda block: gzip.compress(block, mtime=0),  # no timestamp, so that equal rows give equal bytes
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda block: bytes(pyarrow.compress(block, codec="zstd", asbytes=True)),
}


class Writer(Protocol):
    """Encodes rows as bytes."""

    def header(self) -> bytes:
        """The bytes before the first block."""

    def block(self, window: Window, added: Added) -> bytes:
        """The bytes of a window's rows with their added cells."""

    def finish(self, staged: Path, target: Path) -> None:
        """Create `target` from the file with the header and all blocks, which may be moved."""


def writer_for(
    file_format: str,
    compression: str,
    columns: Sequence[str] | None,
    schema: pyarrow.Schema | None,
    added: pyarrow.Schema,
) -> Writer:
    """The writer for a format.

    Args:
        file_format: .csv, .tsv, .jsonl or .parquet.
        compression: One of `formats.COMPRESSIONS`, or "".
        columns: Column names of the rows, or None if each row has its own, which only .jsonl can hold.
        schema: Types of these columns, or None for text.
        added: Names and types of the added columns.
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
        replace_file(staged, target)

    def _flat(self, value: Any) -> str:
        """An added cell as text. Without quoting, it cannot contain tabs or line breaks."""
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
        replace_file(staged, target)

    def _beside(self, row: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
        """The added cells. The row's own cells take precedence, except over the error, which reports such conflicts."""
        return {name: more.get(name) for name in self.added if name not in row or name == self.added[-1]}


def _json(row: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False, default=_json_cell).encode() + b"\n"
    except UnicodeEncodeError:  # a lone surrogate stays an escape
        return json.dumps(row, default=_json_cell).encode() + b"\n"


def _json_cell(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


class _Parquet:
    """Writes blocks as record batches of an Arrow stream. `finish` makes it parquet, whose index is at the end."""

    def __init__(self, schema: pyarrow.Schema, added: pyarrow.Schema) -> None:
        self._own = pyarrow.schema([field.with_type(_plain(field.type)) for field in schema])
        self._added = added
        self._schema = pyarrow.schema([*self._own, *added])
        # Raise ArrowException before the work if parquet cannot hold a type.
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
        try:
            with (
                pyarrow.OSFile(str(staged)) as file,
                pyarrow.ipc.open_stream(file) as stream,
                new_file(made, like=staged) as target_file,
                pyarrow.parquet.ParquetWriter(target_file, self._schema) as writer,
            ):
                for group in _groups(stream):
                    writer.write_table(pyarrow.Table.from_batches(group, self._schema).combine_chunks())
            replace_file(made, target)
        finally:
            made.unlink(missing_ok=True)  # exists only after an error
        staged.unlink()


def _groups(batches: Iterable[pyarrow.RecordBatch]) -> Iterator[list[pyarrow.RecordBatch]]:
    """Group batches into row groups."""
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
    """The columns of `schema` as arrays, from one mapping per row."""
    return [pyarrow.array([row.get(field.name) for row in added], field.type) for field in schema]


def _plain(arrow_type: pyarrow.DataType) -> pyarrow.DataType:
    """The type without dictionary encoding, because all batches of a stream would have to share one dictionary."""
    types = pyarrow.types
    if types.is_dictionary(arrow_type):
        return _plain(arrow_type.value_type)
    if types.is_struct(arrow_type):
        return pyarrow.struct([field.with_type(_plain(field.type)) for field in arrow_type])
    if types.is_map(arrow_type):
        return pyarrow.map_(_plain(arrow_type.key_type), arrow_type.item_field.with_type(_plain(arrow_type.item_type)))
    if types.is_fixed_size_list(arrow_type):
        return pyarrow.list_(arrow_type.value_field.with_type(_plain(arrow_type.value_type)), arrow_type.list_size)
    for is_type, make in ((types.is_list, pyarrow.list_), (types.is_large_list, pyarrow.large_list)):
        if is_type(arrow_type):
            return make(arrow_type.value_field.with_type(_plain(arrow_type.value_type)))
    return arrow_type
