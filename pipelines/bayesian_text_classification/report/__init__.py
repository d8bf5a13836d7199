"""A comparison on paper; nothing is computed here."""

from .write import write_report

__all__ = ["write_report"]
