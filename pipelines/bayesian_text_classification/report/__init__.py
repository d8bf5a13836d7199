"""A comparison on paper; nothing is computed here."""

from .recipe import Sources
from .settings import ReportSettings
from .write import write_report

__all__ = ["ReportSettings", "Sources", "write_report"]
