"""Formats of files by the endings of their names."""

from collections.abc import Sequence
from pathlib import Path

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet", ".txt")
WRITABLE = FORMATS[:-1]
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")


def format_of(name: str) -> tuple[str, str]:
    """Format and compression by the endings of a name, such as (".csv", ".gz"); "" for each that is not known."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
    return (suffixes[-1] if suffixes and suffixes[-1] in FORMATS else ""), compression


def named_format(name: str, legal: Sequence[str] = FORMATS) -> str:
    """A format by its name, "csv" or ".csv"; ValueError for one that is not `legal`."""
    ending = f".{name.lower().removeprefix('.')}"
    if ending not in legal:
        raise ValueError(f"{name!r} is not a format; it must be one of {', '.join(one[1:] for one in legal)}")
    return ending


def output_format_of(path: str | Path | None, output_format: str | None = None) -> tuple[str, str]:
    """Format and compression of a file that is written; of a stream (None) .jsonl, and no compression.

    Args:
        path: of the file.
        output_format: in place of what its name says.

    Raises:
        ValueError: none that can be written.
    """
    by_name, compression = ("", "") if path is None else format_of(str(path))
    chosen = by_name if output_format is None else named_format(output_format, WRITABLE)
    if path is None:
        if chosen == ".parquet":
            raise ValueError("a parquet file cannot be written to a stream; give it a name, or choose another format")
        return chosen or ".jsonl", ""
    if chosen not in WRITABLE:
        raise ValueError(f"{path}: its name ends in none of {', '.join(WRITABLE)}; set output_format=")
    if chosen == ".parquet" and compression:
        raise ValueError(f"{path}: a parquet file is compressed in itself; leave {compression} out")
    return chosen, compression
