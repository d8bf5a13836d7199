"""A comparison on paper; nothing is computed here."""

from .settings import ReportSettings
from .write import write_report

__all__ = ["ReportSettings", "write_report"]
