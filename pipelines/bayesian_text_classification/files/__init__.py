"""Read and write tables of any size. Files are written atomically."""

from .columns import ColumnsError, write_columns
from .journal import JournalError
from .sources import Source, SourceError, source_of

__all__ = ["ColumnsError", "JournalError", "Source", "SourceError", "source_of", "write_columns"]
