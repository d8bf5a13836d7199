"""The columns that hold the texts of a source."""

from collections.abc import Sequence

from ..wording import some
from .readers import TEXT_COLUMNS, TextColumns, Window
from .sources import Reading, Source, SourceError


def names_in(reading: Reading, first: Window | None) -> list[str]:
    """Names of the columns: the header, or the keys in the first window of .jsonl rows."""
    if reading.columns is not None:
        return reading.columns
    rows = [] if first is None else first.as_dicts()
    return list(dict.fromkeys(name for row in rows for name in row))


def text_columns(source: Source, columns: Sequence[str], wanted: str | None, pair: str | None) -> TextColumns:
    """Choose the columns of the texts: `wanted`, or the usual ones. Raises `SourceError` if one is missing."""
    found = TextColumns(_text_column(source, columns, wanted), pair)
    check_apart(found)
    if pair is not None and columns and pair not in columns:
        raise SourceError(
            f"{source.name} has no column {pair!r}; its columns are {some(columns)} (choose one with text_pair_column=)"
        )
    return found


def check_apart(columns: TextColumns) -> None:
    """Raise `SourceError` if both texts of a pair are in one column."""
    if columns.pair == columns.text:
        raise SourceError(
            f"column {columns.pair!r} cannot be both texts of a pair; choose another with text_pair_column="
        )


def _text_column(source: Source, columns: Sequence[str], wanted: str | None) -> str:
    candidates = TEXT_COLUMNS if wanted is None else (wanted,)
    for name in candidates:
        if name in columns:
            return name
    if not columns and source.file_format == ".jsonl":  # later rows may be readable even if none of the first ones was
        return candidates[0]
    if not columns:
        raise SourceError(f"{source.name} has no rows")
    raise SourceError(
        f"{source.name} has no column {' or '.join(map(repr, candidates))}; its columns are {some(columns)} (choose "
        "one with text_column=; without a header, the first row is read as the header)"
    )
