"""Building blocks of the messages that a user reads."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any


def first_line(error: BaseException) -> str:
    """First line of an error's message, or the name of its class if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def some(names: Iterable[str]) -> str:
    """First ten names, and the number of others."""
    found = list(names)
    shown = ", ".join(map(shown_name, found[:10]))
    return shown + (f" and {len(found) - 10:,} more" if len(found) > 10 else "")


def shown_name(name: str) -> str:
    """Column name, or just its length if it reads like a text: in a file without a header, the names are texts."""
    reads_like_text = len(name) > 40 or len(name.split()) > 4
    return f"(a name of {len(name):,} characters)" if reads_like_text else repr(name)


def row_name(index: int) -> str:
    """Name of the data row with this index from 0. It counts like a reader: from 1, without header or empty lines."""
    return f"row {index + 1} (the first text is row 1)"


def without_folder(source: Any) -> str:
    """Name of a local file or folder, without its path. A model or dataset name on the Hub stays as it is."""
    path = Path(str(source))
    return path.name if path.exists() or path.is_absolute() else str(source)
