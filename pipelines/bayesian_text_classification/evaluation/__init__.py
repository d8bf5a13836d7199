"""Models on the same rows, and what the data can say."""

from .run import Comparison, compare, total_rows
from .verdict import Verdict, advice, verdict

__all__ = ["Comparison", "Verdict", "advice", "compare", "total_rows", "verdict"]
