"""Tables of any size in and out, whole or not at all."""

from .columns import ColumnsError, write_columns
from .journal import JournalError
from .sources import Source, SourceError, source_of

__all__ = ["ColumnsError", "JournalError", "Source", "SourceError", "source_of", "write_columns"]
