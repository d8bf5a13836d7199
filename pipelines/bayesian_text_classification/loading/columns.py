"""The columns that hold texts and labels."""

from collections.abc import Collection, Sequence

from ..files.readers import TEXT_COLUMNS
from ..wording import some
from .labels import DataError

LABEL_COLUMNS = ("label", "labels")  # in order of preference


def labeled_columns(
    source: str, columns: Collection[str], text: str | None, text_pair: str | None, label: str | None
) -> tuple[str, str]:
    """Choose the columns of texts and labels: the given names, else the usual ones.

    Args:
        source: Name of the table.
        columns: Names of its columns.
        text: Column of the texts.
        text_pair: Column of the second texts; None for single texts.
        label: Column of the labels.

    Raises:
        DataError: A column is missing, or holds two of these.
    """
    texts, labels = _chosen(columns, text, TEXT_COLUMNS, "text"), _chosen(columns, label, LABEL_COLUMNS, "label")
    if texts == labels:
        raise DataError(
            f"column {texts!r} cannot be both text and label; choose others with text_column= and label_column="
        )
    if text_pair == labels:
        raise DataError(f"column {labels!r} cannot be both text and label; choose another with text_pair_column=")
    _check_pair(source, columns, texts, text_pair)
    return texts, labels


def unlabeled_column(source: str, columns: Collection[str], text: str | None, text_pair: str | None) -> str:
    """Choose the column of texts without labels, in the same way."""
    texts = _chosen(columns, text, TEXT_COLUMNS, "text")
    _check_pair(source, columns, texts, text_pair)
    return texts


def _check_pair(source: str, columns: Collection[str], texts: str, text_pair: str | None) -> None:
    if text_pair is None:
        return
    if text_pair not in columns:
        raise DataError(
            f"{source} has no column {text_pair!r}; the columns are {some(columns)} (choose with text_pair_column=)"
        )
    if text_pair == texts:
        raise DataError(f"column {texts!r} cannot be both texts of a pair; choose another with text_pair_column=")


def _chosen(columns: Collection[str], wanted: str | None, usual: Sequence[str], role: str) -> str:
    candidates = [wanted] if wanted is not None else list(usual)
    for name in candidates:
        if name in columns:
            return name
    raise DataError(
        f"no {role} column {' or '.join(map(repr, candidates))}; the columns are {some(columns)} (choose with "
        f"{role}_column=)"
    )
