"""Run a classifier on labeled texts, and compare its arms. The only folder of `evaluation` that knows a model."""

from .from_model import compare, outputs_of, total_rows

__all__ = ["compare", "outputs_of", "total_rows"]
