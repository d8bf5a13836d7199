"""Convert Arrow columns to Python objects without losing cells that are not UTF-8 or exceed Python's types."""

from typing import Any, cast

import pyarrow
import pyarrow.compute

_types = pyarrow.types

_TEXTS = (
    (_types.is_string, pyarrow.binary()),
    (_types.is_large_string, pyarrow.large_binary()),
    (_types.is_string_view, pyarrow.binary_view()),
)

_LISTS = (_types.is_list, _types.is_large_list, _types.is_fixed_size_list, _types.is_map)


def cells_of(column: pyarrow.ChunkedArray) -> list[Any]:
    """The cells as Python objects: invalid UTF-8 as bytes, values too fine or too wide for Python's types as text."""
    arrow_type = column.type
    for is_text, binary in _TEXTS:
        if is_text(arrow_type):
            return [decoded(value) for value in column.cast(binary).to_pylist()]
    try:
        return cast(list[Any], column.to_pylist())
    except (ValueError, OverflowError, pyarrow.ArrowException):  # Python cannot hold a cell, or a nested one
        pass
    if _types.is_dictionary(arrow_type):
        return cells_of(
            pyarrow.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], arrow_type.value_type)
        )
    if _types.is_struct(arrow_type):
        inner = [cells_of(pyarrow.compute.struct_field(column, [i])) for i in range(arrow_type.num_fields)]
        names = [arrow_type.field(i).name for i in range(arrow_type.num_fields)]
        rows = [dict(zip(names, cells, strict=True)) for cells in zip(*inner, strict=True)]
        return [row if valid else None for row, valid in zip(rows, column.is_valid().to_pylist(), strict=True)]
    if any(is_list(arrow_type) for is_list in _LISTS):
        lists = [cells_of(pyarrow.chunked_array([cell.values])) if cell.is_valid else None for cell in column]
        return (
            [[tuple(pair.values()) for pair in pairs] if pairs else pairs for pairs in lists]
            if _types.is_map(arrow_type)
            else lists
        )
    return cast(list[Any], column.cast(pyarrow.string()).to_pylist())


def decoded(value: bytes | None) -> str | bytes | None:
    """The decoded text, or the bytes unchanged if they are not valid UTF-8."""
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return value
