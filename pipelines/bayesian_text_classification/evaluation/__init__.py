"""Models on the same rows, and what the data can say. `run` alone knows a model; everything else takes arrays."""

from .comparison import Comparison, Outputs, compare_outputs
from .run import compare, outputs_of, total_rows
from .verdict import Verdict, advice, verdict

__all__ = [
    "Comparison",
    "Outputs",
    "Verdict",
    "advice",
    "compare",
    "compare_outputs",
    "outputs_of",
    "total_rows",
    "verdict",
]
