"""Compare models on the same rows and judge the differences. Only `run/` uses a model; everything else takes arrays."""

from .comparison import Comparison, compare_outputs
from .outputs import Calibration, MemberOutputs, Novelty, Outputs, StudentOutputs
from .run import compare, outputs_of, total_rows
from .verdict import Verdict, advice, verdict

__all__ = [
    "Calibration",
    "Comparison",
    "MemberOutputs",
    "Novelty",
    "Outputs",
    "StudentOutputs",
    "Verdict",
    "advice",
    "compare",
    "compare_outputs",
    "outputs_of",
    "total_rows",
    "verdict",
]
