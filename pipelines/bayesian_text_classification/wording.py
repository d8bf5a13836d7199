"""Parts of the lines that a user of the command reads."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any


def first_line(error: BaseException) -> str:
    """What an error says, without what follows its first line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def some(names: Iterable[str]) -> str:
    """The first ten names."""
    found = list(names)
    shown = ", ".join(map(shown_name, found[:10]))
    return shown + (f" and {len(found) - 10:,} more" if len(found) > 10 else "")


def shown_name(name: str) -> str:
    """A column's name; of one that reads like a text its length alone: a file without a header has texts for names."""
    reads_like_text = len(name) > 40 or len(name.split()) > 4
    return f"(one of {len(name):,} characters)" if reads_like_text else repr(name)


def row_name(index: int) -> str:
    """A row of the data by its index from 0, counted as a reader counts: from 1, without a header or empty lines."""
    return f"row {index + 1} (the first text is row 1)"


def without_folder(source: Any) -> str:
    """The name of a file or folder on this machine; what the Hub calls a model or dataset stays."""
    path = Path(str(source))
    return path.name if path.exists() or path.is_absolute() else str(source)
