"""Derive file formats from file extensions."""

from collections.abc import Sequence
from pathlib import Path

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet", ".txt")
WRITABLE = FORMATS[:-1]
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")


def format_of(name: str) -> tuple[str, str]:
    """The format and compression in a file name, such as (".csv", ".gz"). Each is "" if it is unknown."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    compression = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSIONS else ""
    return (suffixes[-1] if suffixes and suffixes[-1] in FORMATS else ""), compression


def named_format(name: str, legal: Sequence[str] = FORMATS) -> str:
    """The format called "csv" or ".csv". Raises ValueError if it is not in `legal`."""
    ending = f".{name.lower().removeprefix('.')}"
    if ending not in legal:
        raise ValueError(f"{name!r} is not a format; it must be one of {', '.join(one[1:] for one in legal)}")
    return ending


def output_format_of(path: str | Path | None, output_format: str | None = None) -> tuple[str, str]:
    """The format and compression of an output file. A stream (None) gets .jsonl and no compression.

    Args:
        path: Path of the file, or None for a stream.
        output_format: Format, overriding the file name.

    Raises:
        ValueError: The format is unknown or cannot be written.
    """
    by_name, compression = ("", "") if path is None else format_of(str(path))
    chosen = by_name if output_format is None else named_format(output_format, WRITABLE)
    if path is None:
        if chosen == ".parquet":
            raise ValueError("a parquet file cannot be written to a stream; pass a file name, or choose another format")
        return chosen or ".jsonl", ""
    if chosen not in WRITABLE:
        raise ValueError(f"{path}: unknown file extension; use {', '.join(WRITABLE)}, or set output_format=")
    if chosen == ".parquet" and compression:
        raise ValueError(f"{path}: parquet files are compressed internally; remove {compression} from the name")
    return chosen, compression
